"""Device profiles as YAML data; `edge_sdk.device` reads them."""
