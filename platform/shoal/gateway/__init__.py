"""Envoy: its configuration, its routes and what it reports."""
