"""What travels between a device and an endpoint: bodies, and the transports that carry them."""
