"""A model server is one row: the one that docs/architecture.md adds is known everywhere, and no other file changes."""

import re
from pathlib import Path

import pytest

from shoal.cluster.kubelet.containers import PodContext, local_command
from shoal.controller.render import deployment
from shoal.package.formats import format_of
from shoal.resources.adapters import missing_adapter
from shoal.resources.builtin import builtin_names, builtin_runtime
from shoal.resources.runtimerules import parse
from shoal.resources.settings import config_from
from shoal_runtime import servers
from shoal_runtime.drivers.mlserver import MLServerDriver
from shoal_runtime.main import main, make_driver
from shoal_runtime.memory import SizeBook
from shoal_runtime.settings import AdapterSettings

DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The row in the docs, as a file beside those that there are."""
    row = re.search(r"```python\n# runtime/shoal_runtime/servers/toy\.py\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert row is not None
    (tmp_path / "toy.py").write_text(row[1])
    monkeypatch.setattr(servers, "__path__", [*servers.__path__, str(tmp_path)])
    servers.servers.cache_clear()
    yield
    servers.servers.cache_clear()


def _toy_pod():
    runtime = parse(builtin_runtime("toy-1.x", ports=(9085, 9001, 9002)))
    assert missing_adapter(runtime, config_from({})) == ""
    document = deployment(runtime, config_from({}), namespace="ns", replicas=1)
    return document["spec"]["template"]["spec"]["containers"]


def test_without_a_row_it_is_unknown():
    assert builtin_names() == ["mlserver-1.x"]


@pytest.mark.usefixtures("toy")
def test_the_adapter_drives_it_and_predicts_what_its_models_take(monkeypatch, capsys):
    monkeypatch.delenv("CONTAINER_MEM_REQ_BYTES", raising=False)
    assert main(["toy"]) == 2
    assert "CONTAINER_MEM_REQ_BYTES is not set" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "toy        a Toy server" in capsys.readouterr().out
    assert SizeBook(1, servers.servers()["toy"].formats).predict("m", "toy", 100) == 1200


@pytest.mark.usefixtures("toy")
async def test_the_adapter_uses_the_driver_that_the_row_names():
    driver = make_driver("toy", AdapterSettings())
    assert isinstance(driver, MLServerDriver)
    await driver.close()


@pytest.mark.usefixtures("toy")
def test_the_controller_gives_it_an_adapter_and_the_address_it_must_listen_on():
    server, adapter = _toy_pod()
    assert {"name": "TOY_HOST", "value": "$(POD_IP)"} in server["env"]
    assert {"name": "TOY_PORT", "value": "9001"} in server["env"]
    assert adapter["command"] == ["shoal-adapter", "toy"]


@pytest.mark.usefixtures("toy")
def test_the_embedded_kubelet_starts_it_without_a_container():
    server, _ = _toy_pod()
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [server]}}
    context = PodContext(pod, "127.0.0.2", "127.0.0.1", "/here", {}, *[lambda _: None] * 3)
    volumes = {mount["name"]: "/there" for mount in server["volumeMounts"]}
    command = local_command(server, context, volumes)
    assert command.argv == ("toyserver", "--port", "9001")
    assert command.env["TOY_HOST"] == "127.0.0.2"


@pytest.mark.usefixtures("toy")
def test_packages_know_its_format(tmp_path):
    (tmp_path / "model.toy").write_text("weights")
    assert format_of(tmp_path / "model.toy") == "toy"
