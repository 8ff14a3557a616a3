"""Durable records of the mesh itself."""
