"""What Shoal's way of running MLServer mends in pods that many models share."""

import asyncio
import json
import time
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest

from shoal_protos import inference
from support.runtime import HOST, Pod, model_key, refused, slow_model
from waiting import until

pytestmark = pytest.mark.server

CUSTOM = model_key("custom")
BLANK = [[0.0] * 64]


@pytest.fixture
def slow(pod: Pod, request: pytest.FixtureRequest):
    """Writes slow models into the pod's claim under names no other test uses."""

    def make(name: str, **extra) -> str:
        folder = f"{request.node.name}-{name}".replace("/", "-")
        slow_model(pod.claim / folder, **extra)
        return folder

    return make


async def test_the_server_stays_ready_and_answers_while_a_model_blocks_its_load(pod: Pod, slow) -> None:
    await pod.load("fast", "mnist-svm.joblib")
    loading = asyncio.ensure_future(pod.load("slow", slow("s", off_loop=True, block=1.5), CUSTOM))

    async def begun() -> bool:
        return (pod.root / "_mlserver_models/slow/model-settings.json").exists()

    await until(begun)
    answered = 0
    while not loading.done():
        ready = await pod.method("ServerReady")(inference.ServerReadyRequest(), timeout=1)
        assert ready.ready
        await pod.infer("fast", BLANK)
        answered += 1
        await asyncio.sleep(0.01)
    await loading
    assert answered > 10
    code, message = await refused(pod.infer("absent", BLANK))
    assert (code, "absent" in message) == (grpc.StatusCode.NOT_FOUND, True)


async def test_an_unload_waits_for_requests_under_way(pod: Pod, slow) -> None:
    await pod.load("s", slow("s", predict=1.0), CUSTOM)
    asked = asyncio.ensure_future(pod.infer("s", BLANK))
    await asyncio.sleep(0.3)
    await pod.unload("s")
    assert asked.done() or await asyncio.wait_for(asked, 0.5)
    assert await asked == [1.0]


async def test_a_failed_load_gives_the_models_own_message(pod: Pod, slow) -> None:
    folder = slow("s", fail=True)
    code, message = await refused(pod.load("s", folder, CUSTOM))
    assert code is grpc.StatusCode.INTERNAL
    assert "this model is broken on purpose" in message
    index = await pod.method("RepositoryIndex")(inference.RepositoryIndexRequest())
    assert "s" not in {model.name for model in index.models}


async def test_memory_is_given_back_after_unload(pod: Pod, slow, tmp_path: Path) -> None:
    import joblib
    import numpy as np
    from sklearn.dummy import DummyClassifier

    # Small objects: glibc keeps their pages unless it is told otherwise.
    crumbs = DummyClassifier().fit([[0], [1]], [0, 1])
    crumbs.crumbs_ = [np.full(20, float(number)) for number in range(60_000)]
    joblib.dump(crumbs, pod.claim / "crumbs.joblib")
    await pod.load("warm", "mnist-svm.joblib")
    assert pod.server is not None
    status = Path(f"/proc/{pod.server.pid}/status")

    def resident() -> int:
        return int(status.read_text().partition("RssAnon:")[2].split()[0]) // 1024

    before = resident()
    answer = await pod.load("crumbs", "crumbs.joblib")
    grown = resident() - before
    assert grown > 8
    assert answer.sizeInBytes / 1024**2 == pytest.approx(grown, rel=0.5)
    await pod.unload("crumbs")

    async def given_back() -> bool:
        return resident() - before < grown / 3

    await until(given_back)


async def test_two_models_may_bring_different_modules_of_one_name(pod: Pod) -> None:
    for name, word in (("left", "sinister"), ("right", "dexter")):
        folder = pod.claim / f"same-{name}"
        folder.mkdir()
        (folder / "words.py").write_text(f"WORD = {word!r}\n")
        (folder / "echo.py").write_text(
            "import words\n"
            "from mlserver import MLModel\n"
            "from mlserver.codecs import StringCodec\n"
            "from mlserver.types import InferenceResponse\n"
            "def say():\n    return words.WORD\n"
            "class Echo(MLModel):\n"
            "    async def predict(self, payload):\n"
            "        output = StringCodec.encode_output('o', [say()])\n"
            "        return InferenceResponse(model_name=self.name, outputs=[output])\n"
        )
        (folder / "model-settings.json").write_text(json.dumps({"implementation": "echo.Echo"}))
    for name in ("left", "right"):
        await pod.load(name, f"same-{name}", CUSTOM)
    assert await pod.infer("left", BLANK) == [b"sinister"]
    assert await pod.infer("right", BLANK) == [b"dexter"]


async def test_counters_of_an_unloaded_model_are_dropped(pod: Pod) -> None:
    await pod.load("counted", "mnist-svm.joblib")
    await pod.infer("counted", BLANK)

    def metrics() -> str:
        with urlopen(f"http://{HOST}:{pod.ports['metrics']}/metrics") as answer:
            return answer.read().decode()

    assert 'model="counted"' in await asyncio.to_thread(metrics)
    await pod.unload("counted")
    assert 'model="counted"' not in await asyncio.to_thread(metrics)


async def test_a_load_costs_the_same_with_many_models_on_disk(pod: Pod) -> None:
    await pod.load("first", "mnist-svm.joblib")
    for number in range(400):
        folder = pod.root / "_mlserver_models" / f"idle-{number}"
        folder.mkdir()
        (folder / "model-settings.json").write_text(
            json.dumps({"name": folder.name, "implementation": "mlserver_sklearn.SKLearnModel"})
        )
    try:
        index = await pod.method("RepositoryIndex")(inference.RepositoryIndexRequest(ready=True))
        assert [model.name for model in index.models] == ["first"]
        # Stock MLServer parses all 401 settings at each load; here a load parses one.
        began = time.process_time(), server_cpu(pod)
        for number in range(10):
            await pod.load(f"m{number}", "mnist-svm.joblib")
        assert server_cpu(pod) - began[1] < 1.0
    finally:
        for number in range(400):
            (pod.root / "_mlserver_models" / f"idle-{number}" / "model-settings.json").unlink()


def server_cpu(pod: Pod) -> float:
    assert pod.server is not None
    fields = Path(f"/proc/{pod.server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def test_settings_that_cannot_be_used_are_named(pod: Pod) -> None:
    folder = pod.claim / "wrong-settings"
    folder.mkdir()
    settings = {"implementation": "mlserver_sklearn.SKLearnModel", "max_batch_size": "many"}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    code, message = await refused(pod.load("wrong", "wrong-settings"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "max_batch_size" in message


@pytest.mark.parametrize("stock", [False, True])
async def test_the_adapter_says_whether_the_server_waits_for_requests_under_way(own_pod: Pod, stock: bool) -> None:
    own_pod.start_server(stock=stock)
    own_pod.start_adapter()
    assert (await own_pod.ready()).drains is not stock
