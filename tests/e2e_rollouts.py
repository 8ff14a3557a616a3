"""Looking at rollouts as programs do."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import grpc

from e2e_models import samples, v2_form
from shoal.client import ShoalClient, ShoalError
from shoal_protos import inference as oip
from support.e2e import Cluster
from waiting import eventually


def rollout_status(cluster: Cluster, name: str) -> dict[str, Any]:
    """The newest rollout of an InferenceService; empty while there is none, or nobody to ask."""
    try:
        with ShoalClient.from_state_dir(cluster.root) as client:
            return client.rollout(name).model_dump(by_alias=True)
    except ShoalError:
        return {}


def until_shown(cluster: Cluster, name: str, report: dict[str, Any]) -> None:
    """Wait until the InferenceService says how its rollout ended; of one that took over, that every gateway follows.

    The rollout itself has ended a moment earlier: when its routes were changed. A gateway may still answer as before.
    """

    def shown() -> bool:
        with ShoalClient.from_state_dir(cluster.root) as client:
            isvc = client.isvc(name)
        status = (isvc or {}).get("status") or {}
        if report["phase"] == "RolledBack":
            return (status.get("rollout") or {}).get("phase") == "RolledBack"
        followed = status.get("modelStatus", {}).get("transitionStatus") == "UpToDate"
        return followed and status.get("modelRevisionName") == report["target"]

    eventually(shown, f"{name} shows that {report['id']} ended", 30, 0.05)


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
