"""An image that is built anew while pods run it: they are named, and the command that is told replaces them."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from shoal.cli.runtime.local_images import register
from support.cli import shoal

pytestmark = [pytest.mark.server, pytest.mark.slow]
RUNTIME = "again"


def pods(root: Path) -> dict[str, dict[str, Any]]:
    """The runtime's pods that are ready, and how their model server's container runs."""
    found = json.loads(shoal("get", "pods", "-o", "json", state_dir=root).out)["items"]
    mine = [pod for pod in found if (pod["metadata"].get("annotations") or {}).get("shoal.dev/runtime") == RUNTIME]
    ready = {}
    for pod in mine:
        statuses = {each["name"]: each for each in (pod.get("status") or {}).get("containerStatuses") or ()}
        if statuses and all(each["ready"] for each in statuses.values()):
            ready[pod["metadata"]["name"]] = statuses["mlserver"]
    return ready if len(ready) == len(mine) else {}


def versions(root: Path) -> set[Path]:
    """Which builds of the image the pods run."""
    pids = [each["containerID"].removeprefix("process://") for each in pods(root).values()]
    return {Path(f"/proc/{pid}/cwd").readlink() for pid in pids}


def built(root: Path) -> Path:
    """The newest build."""
    return Path(json.loads((root / "images" / RUNTIME / "image.json").read_text())["workdir"])


def until_two_pods_run(root: Path, version: Path) -> set[str]:
    deadline = time.monotonic() + 120
    while not (len(found := pods(root)) == 2 and versions(root) == {version}):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return set(found)


def test_pods_that_run_an_older_build_are_named_with_the_command_that_replaces_them(running: Path, tmp_path: Path):
    folder = tmp_path / RUNTIME
    assert shoal("runtime", "init", str(folder), state_dir=running).code == 0
    first = shoal("runtime", "build", str(folder), "-t", f"{RUNTIME}:1", state_dir=running)
    assert first.code == 0, first.err
    assert "note: " not in first.out.replace("note: requirements", "")
    try:
        applied = shoal("apply", "-f", str(folder / "serving-runtime.yaml"), state_dir=running)
        assert applied.code == 0, applied.err
        old = built(running)
        before = until_two_pods_run(running, old)
        again = shoal("runtime", "build", str(folder), "-t", f"{RUNTIME}:1", state_dir=running)
        assert "note: 2 pods that run keep what was built before (" in again.out
        for name in before:
            assert name in again.out
        told = re.search(r"start new ones, without a gap, by `shoal (runtime restart again.*)`", again.out)
        assert told, again.out
        register(running / "images", RUNTIME, folder)  # and once more: what pods run stays all the same
        assert versions(running) == {old}
        assert old.is_dir()
        restarted = shoal(*shlex.split(told[1]), state_dir=running)
        assert restarted.code == 0, restarted.err
        after = until_two_pods_run(running, built(running))
        assert not before & after
        nothing = shoal("runtime", "restart", "nobody", state_dir=running)
        assert nothing.code == 1
        assert "no pods were made for a ServingRuntime 'nobody'" in nothing.err
    finally:
        shoal("delete", "servingruntime", RUNTIME, "--ignore-not-found", state_dir=running)
