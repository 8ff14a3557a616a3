"""The embedded Kubernetes-compatible API: declared state on one machine."""
