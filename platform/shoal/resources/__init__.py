"""Declared resources: manifests in, validated values out. No I/O."""
