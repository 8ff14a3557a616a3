"""`shoal.usage.v1`: what gateways report of requests that they count themselves."""
