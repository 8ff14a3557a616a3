"""The `shoal-adapter` command: help that teaches, and settings whose errors name the variable."""

import subprocess
import sys

import pytest

from shoal_runtime.endpoints import local_target
from shoal_runtime.settings import AdapterSettings, SettingsError, read_settings
from support.runtime import clean_environment


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shoal_runtime", *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_variable() -> None:
    text = run("--help").stdout
    names = [field.validation_alias for field in AdapterSettings.model_fields.values()]
    assert [name for name in names if str(name) not in text] == []
    assert "example" in text


@pytest.mark.server
def test_a_missing_or_wrong_variable_ends_it_with_its_name() -> None:
    result = run("mlserver")
    assert (result.returncode, "CONTAINER_MEM_REQ_BYTES" in result.stderr) == (2, True)
    result = run("mlserver", CONTAINER_MEM_REQ_BYTES="1Gi", ADAPTER_PORT="0")
    assert result.returncode == 2
    assert "CONTAINER_MEM_REQ_BYTES='1Gi'" in result.stderr
    assert "ADAPTER_PORT='0'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_adapter_does_not_import_the_model_server() -> None:
    code = "import sys, shoal_runtime.main; print([m for m in ('mlserver', 'numpy', 'sklearn') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_capacity_is_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_MEM_REQ_BYTES", "1000")
    monkeypatch.setenv("MEM_BUFFER_BYTES", "2000")
    monkeypatch.setenv("LOADING_CONCURRENCY", "")
    settings = read_settings()
    assert (settings.capacity_bytes, settings.loading_concurrency) == (0, 1)


@pytest.mark.parametrize("endpoint", ["", "8085", "port:0", "port:70000", "port:x", "tcp:1", "unix:", "unix:a b"])
def test_endpoints_that_are_none(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not an endpoint"):
        local_target(endpoint)
    if endpoint:
        monkeypatch.setenv("MODEL_SERVER_ENDPOINT", endpoint)
        with pytest.raises(SettingsError, match="MODEL_SERVER_ENDPOINT"):
            read_settings()


def test_endpoints_as_runtimes_give_them() -> None:
    assert local_target("port:8085", "127.0.0.2") == "127.0.0.2:8085"
    assert local_target("unix:///tmp/x.sock") == "unix:///tmp/x.sock"
    assert local_target("unix:x.sock") == "unix:x.sock"
