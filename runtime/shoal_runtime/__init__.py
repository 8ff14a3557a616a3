"""The adapter: runs inside a pod, pulls model artifacts and drives the model server beside it."""
