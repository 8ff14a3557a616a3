"""An API server whose disk is full refuses writes, goes on reading, and takes writes again once there is space."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.apiserver import CONFIG_MAPS, ApiServer, config_map
from support.disk import small_disk

pytestmark = pytest.mark.server


def test_writes_are_refused_by_name_and_nothing_is_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        server = ApiServer(disk.root / "state").start()
        try:
            assert server.http.post(CONFIG_MAPS, json=config_map("kept")).status_code == 201
            disk.fill()
            for number in range(3):
                refused = server.http.post(CONFIG_MAPS, json=config_map(f"refused-{number}", value="x" * 200_000))
                assert (refused.status_code, refused.json()["reason"]) == (507, "InsufficientStorage")
                assert f"the disk of {server.state_dir} is full: nothing was changed" in refused.json()["message"]
            said = server.kubectl("create", "configmap", "x", f"--from-literal=a={'x' * 100_000}", fails=True)
            assert f"the disk of {server.state_dir} is full" in said
            assert [item["metadata"]["name"] for item in server.get(CONFIG_MAPS)["items"]] == ["kept"]
            disk.clear()
            assert server.http.post(CONFIG_MAPS, json=config_map("after", value="x" * 200_000)).status_code == 201
            server.kill()
            server.start()
            assert [item["metadata"]["name"] for item in server.get(CONFIG_MAPS)["items"]] == ["after", "kept"]
        finally:
            server.kill()


def test_after_a_kill_it_starts_and_reads_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        server = ApiServer(disk.root / "state").start()
        try:
            assert server.http.post(CONFIG_MAPS, json=config_map("kept")).status_code == 201
            server.kill()
            (
                server.state_dir / "kubeconfig"
            ).unlink()  # a start waits until there is a new one, which takes as much space
            disk.fill(leave=8192)
            server.start()
            assert [item["metadata"]["name"] for item in server.get(CONFIG_MAPS)["items"]] == ["kept"]
        finally:
            server.kill()
