"""`shoal up` says at once when pods could never run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.cluster.errors import ClusterError
from shoal.cluster.prerequisites import require_model_server


def test_nothing_is_missing_here() -> None:
    require_model_server()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ((3, 13), ["up to 3.12", "this is Python 3.13", "PYTHON=python3.12"]),
        ((3, 12), ["not installed for", "extra `mlserver`"]),
    ],
)
def test_the_message_says_what_to_install(version: tuple[int, int], words: list[str]) -> None:
    with pytest.raises(ClusterError) as refused:
        require_model_server(version, lambda _: None)
    assert [word for word in words if word not in str(refused.value)] == []


def test_up_refuses_before_it_starts_anything(tmp_path: Path) -> None:
    """An environment like this one, but without MLServer: its finder does not know the package."""
    hide = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'mlserver' else found(name, *a)\n"
        "from shoal.cli.main import main\n"
        "sys.argv = ['shoal', 'up', '--detach', '--state-dir', sys.argv[1]]\n"
        "main()\n"
    )
    command = [sys.executable, "-c", hide, str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ), check=False)
    assert done.returncode == 1
    assert "need MLServer" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state").exists()
