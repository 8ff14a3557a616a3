"""`shoal.adapter.v1`: what Shoal's adapter offers beyond `mmesh.ModelRuntime`."""
