"""Reconciles declared resources into pods and into the mesh, and writes their status."""
