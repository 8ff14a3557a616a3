"""The manifests of the demo."""

from __future__ import annotations

ISVC = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  namespace: modelmesh-serving
  annotations:
    serving.kserve.io/deploymentMode: ModelMesh
spec:
  predictor:
    model:
      modelFormat:
        name: sklearn
      storage:
        parameters:
          type: pvc
          name: my-models-pvc
        path: {path}
"""

INFER_BODY = """{
    "inputs": [{
      "name": "predict",
      "shape": [1, 64],
      "datatype": "FP32",
      "contents": {
        "fp32_contents": [0.0, 0.0, 1.0, 11.0, 14.0, 15.0, 3.0, 0.0, 0.0, 1.0, 13.0, 16.0, 12.0, 16.0, 8.0, 0.0, \
0.0, 8.0, 16.0, 4.0, 6.0, 16.0, 5.0, 0.0, 0.0, 5.0, 15.0, 11.0, 13.0, 14.0, 0.0, 0.0, 0.0, 0.0, 2.0, 12.0, 16.0, \
13.0, 0.0, 0.0, 0.0, 0.0, 0.0, 13.0, 16.0, 16.0, 6.0, 0.0, 0.0, 0.0, 0.0, 16.0, 16.0, 16.0, 7.0, 0.0, 0.0, 0.0, \
0.0, 11.0, 13.0, 12.0, 1.0, 0.0]
      }
    }]
  }"""
"""A scanned digit, 8 by 8 pixels: an eight."""


def isvc(name: str, path: str) -> str:
    """An InferenceService for a scikit-learn model on the claim `my-models-pvc`."""
    return ISVC.format(name=name, path=path)
