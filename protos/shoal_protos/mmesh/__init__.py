"""`mmesh`: how the mesh drives a runtime pod, and how clients manage models. Wire-compatible with KServe ModelMesh."""
