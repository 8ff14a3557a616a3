"""The example's custom runtime, served both ways it describes."""

import shutil
from pathlib import Path

import grpc
import pytest

from support.runtime import Pod, model_key, refused

pytestmark = pytest.mark.server

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom-runtime"
TEXTS = [b"Server DOWN urgent outage", b"thanks for the answer", b"nothing known"]
SCORES = [12.0, -2.0, 0.0]


async def test_a_class_that_travels_with_its_model(pod: Pod) -> None:
    folder = pod.claim / "ticket-priority"
    shutil.copytree(EXAMPLE / "model", folder)
    shutil.copy(EXAMPLE / "priority.py", folder)
    await pod.load("tickets", "ticket-priority", model_key("sklearn"))
    assert await pod.score("tickets", TEXTS) == SCORES
    code, message = await refused(pod.infer("tickets", [[1.0]], name="texts"))
    assert (code, "BYTES" in message) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_a_class_that_belongs_to_the_pod(tmp_path: Path) -> None:
    pod = Pod(tmp_path, PYTHONPATH=str(EXAMPLE), MLSERVER_MODEL_IMPLEMENTATION="priority.TicketPriority")
    shutil.copy(EXAMPLE / "model" / "weights.json", pod.claim)
    pod.connect()
    try:
        pod.start_server()
        pod.start_adapter()
        await pod.ready()
        for name in ("a", "b"):
            await pod.load(name, "weights.json", model_key({"name": "ticket-priority", "version": "1"}))
            assert await pod.score(name, TEXTS) == SCORES
    finally:
        await pod.disconnect()
        pod.stop()
