"""Looking at rollouts as programs do."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import grpc

from e2e_models import samples, v2_form
from e2e_support import Cluster
from shoal.client import ShoalClient, ShoalError
from shoal_protos import inference as oip


def rollout_status(cluster: Cluster, name: str) -> dict[str, Any]:
    """The newest rollout of an InferenceService; empty while there is none, or nobody to ask."""
    try:
        with ShoalClient.from_state_dir(cluster.root) as client:
            return client.rollout(name).model_dump(by_alias=True)
    except ShoalError:
        return {}


def revisions_asked(cluster: Cluster, name: str, **headers: str) -> set[str]:
    """The revisions that answer requests with these headers (`_` for `-`), one over REST and one over gRPC."""
    wanted = {header.replace("_", "-"): value for header, value in headers.items()}
    row = samples(1)
    request = urllib.request.Request(
        f"{cluster.rest}/v2/models/{name}/infer",
        v2_form(row).encode(),
        {"Content-Type": "application/json", **wanted},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        by_rest: str = json.load(response)["model_name"]
    message = oip.ModelInferRequest(model_name=name)
    message.inputs.add(name="predict", datatype="FP32", shape=[1, 64])
    message.raw_input_contents.append(row.tobytes())
    with grpc.insecure_channel(cluster.grpc) as channel:
        infer = channel.unary_unary(
            oip.method_path("ModelInfer"), oip.ModelInferRequest.SerializeToString, oip.ModelInferResponse.FromString
        )
        return {by_rest, infer(message, metadata=tuple(wanted.items()), timeout=30).model_name}
