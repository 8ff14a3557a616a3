"""Requests for models that have no route: which model they name, where to forward them."""
