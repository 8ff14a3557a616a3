"""Asks the model of the guide by gRPC: `python ask_by_grpc.py [HOST:PORT]`."""

import json
import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8033"
    request = json.loads(Path(__file__).with_name("request.json").read_text())
    row = request["inputs"][0]["contents"]["fp32_contents"]
    tensor = InferInput("predict", [1, 64], "FP32")
    tensor.set_data_from_numpy(np.array([row], dtype=np.float32))
    client = InferenceServerClient(address)
    print(client.infer("sklearn-mnist", [tensor]).as_numpy("predict"))
    client.close()


if __name__ == "__main__":
    main()
