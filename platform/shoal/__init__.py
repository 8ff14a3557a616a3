"""Shoal's control plane: decides which model runs where, and tells the gateway."""
