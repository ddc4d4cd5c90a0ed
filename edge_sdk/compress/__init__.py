"""A source model becomes variants: smaller, faster, and compared with it before anyone relies on them."""
