"""Settings of the whole mesh in `model-serving-config`, changed while it runs."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from shoal_protos import inference as oip
from support.e2e import running
from waiting import eventually

pytestmark = pytest.mark.server
SETTINGS = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: model-serving-config, namespace: modelmesh-serving}}
data:
  config.yaml: |
    {text}
"""
MIB = 1 << 20


def code_of(target: str, size: int) -> grpc.StatusCode:
    """How a request of so many bytes for a model that does not exist is answered."""
    request = oip.ModelInferRequest(model_name="nobody", raw_input_contents=[bytes(size)])
    with grpc.insecure_channel(target, options=[("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary(oip.method_path("ModelInfer")).future(request.SerializeToString(), timeout=10)
        return call.code()


def test_settings_come_into_force_while_it_runs(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        assert code_of(cluster.grpc, 5 * MIB) is grpc.StatusCode.NOT_FOUND
        text = "{grpcMaxMessageSizeBytes: 4194304, enableAccessLogging: true}"
        cluster.must("apply", "-f", "-", stdin=SETTINGS.format(text=text))
        smaller = grpc.StatusCode.RESOURCE_EXHAUSTED
        eventually(lambda: code_of(cluster.grpc, 5 * MIB) is smaller, "the smaller limit", seconds=30)
        # The gateway lets it through, and the mesh, which knows no such model, answers.
        eventually(
            lambda: code_of(cluster.grpc, 3 * MIB) is grpc.StatusCode.NOT_FOUND, "the mesh to be back", seconds=30
        )
        text = "{grpcMaxMessageSizeBytes: 25165824, enableAccessLogging: true}"
        cluster.must("apply", "-f", "-", stdin=SETTINGS.format(text=text))
        eventually(lambda: code_of(cluster.grpc, 20 * MIB) is grpc.StatusCode.NOT_FOUND, "the larger limit", seconds=30)
        path = oip.method_path("ModelInfer")
        eventually(
            lambda: path in cluster.must("logs", "gateway", "--tail", "50"), "a line of the access log", seconds=30
        )
        assert cluster.report()["parts"]["mesh"]["restarts"] == cluster.report()["parts"]["gateway"]["restarts"] == 0
