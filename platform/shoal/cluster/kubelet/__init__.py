"""The local kubelet: runs the pods of Deployments as processes of this machine."""
