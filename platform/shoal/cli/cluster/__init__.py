"""`shoal up`, `down`, `status`, `kubeconfig`, `version`."""
