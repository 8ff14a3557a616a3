"""How a pulled model is laid out for a model server, one module per server kind."""
