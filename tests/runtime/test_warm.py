"""Libraries imported before the server answers, so that the first model is as quick and as well weighed as the next."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal_protos import inference
from shoal_runtime.drivers.base import Artifact
from shoal_runtime.memory import SizeBook
from shoal_runtime.mlserver.warm import WARM_MODULES, extensions_of, stated_formats, wanted_formats, warm
from shoal_runtime.processes import ServerProcess
from shoal_runtime.scales import Scales
from shoal_runtime.servers.mlserver import FORMATS
from support.runtime import Pod
from waiting import until

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("value", "formats"),
    [(None, ("sklearn",)), ("", ()), (" xgboost , sklearn,", ("xgboost", "sklearn"))],
)
def test_the_environment_names_the_formats(
    monkeypatch: pytest.MonkeyPatch, value: str | None, formats: tuple[str, ...]
) -> None:
    if value is None:
        monkeypatch.delenv("SHOAL_WARM_FORMATS", raising=False)
    else:
        monkeypatch.setenv("SHOAL_WARM_FORMATS", value)
    assert wanted_formats() == formats


def test_an_unknown_format_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_WARM_FORMATS", "sklearn,pmml")
    with pytest.raises(ValueError, match=r"SHOAL_WARM_FORMATS: 'pmml'.*xgboost"):
        wanted_formats()


def test_a_library_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlserver_huggingface", None)
    assert warm(("huggingface", "sklearn")) == ("sklearn",)
    assert set(WARM_MODULES["sklearn"]) <= set(sys.modules)


def test_what_is_warm_is_stated_and_understood() -> None:
    assert stated_formats(["binary_tensor_data", *extensions_of(["sklearn", "onnx"])]) == {"sklearn", "onnx"}


@pytest.mark.parametrize(("warm_formats", "believed"), [(frozenset(), False), (frozenset({"sklearn"}), True)])
def test_the_first_models_growth_counts_only_if_its_format_was_warm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_formats: frozenset[str], believed: bool
) -> None:
    sizes = iter([100 * MIB, 105 * MIB])
    read: Callable[[ServerProcess], int] = lambda _: next(sizes)  # noqa: E731
    monkeypatch.setattr("shoal_runtime.processes.private_bytes", read)
    scales = Scales(SizeBook(MIB, FORMATS))
    scales.server_is(ServerProcess(1, 1), warm_formats)
    artifact = Artifact("m", tmp_path, MIB, "sklearn")
    scales.begin(artifact)
    assert (scales.finish(artifact, 0) == 5 * MIB) is believed


@pytest.mark.server
async def test_a_warm_server_has_the_libraries_before_it_answers(own_pod: Pod) -> None:
    server = own_pod.start_server()
    own_pod.start_adapter()
    await own_pod.ready()
    metadata = await own_pod.method("ServerMetadata")(inference.ServerMetadataRequest())
    assert stated_formats(metadata.extensions) == {"sklearn"}
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    assert "/sklearn/svm/" in maps
    assert "/lightgbm/" not in maps
    answer = await own_pod.load("first", "mnist-svm.joblib")
    again = await own_pod.load("second", "mnist-svm.joblib")
    assert answer.sizeInBytes < 10 * again.sizeInBytes + 4 * MIB


@pytest.mark.server
async def test_a_server_told_to_stop_while_it_warms_up_never_serves(own_pod: Pod) -> None:
    server = own_pod.start_server()

    async def signals_are_caught() -> bool:
        caught = next(line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if "SigCgt" in line)
        return bool(int(caught.split()[1], 16) & (1 << 14))

    await until(signals_are_caught)
    assert server.stop() == 0
