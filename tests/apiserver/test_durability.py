"""What was acknowledged survives kill -9, at any moment."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seeds import seed
from shoal.apiserver.store import ObjectStore
from support.apiserver import CONFIG_MAPS, ApiServer, config_map

pytestmark = [pytest.mark.server, pytest.mark.slow]
MOMENTS = 40
VICTIM = """
import asyncio, sys
from pathlib import Path
from shoal.apiserver.state import Key
from shoal.apiserver.store import ObjectStore

async def main(path, round_number):
    store = ObjectStore(Path(path))
    for number in range(100_000):
        key = Key("/configmaps", "ns", f"m{number % 40}")
        value = f"{round_number}-{number}"
        if number % 7 == 3:
            await store.write(lambda draft: draft.remove(key))
            value = ""
        else:
            await store.write(lambda draft: draft.put(key, {"metadata": {"name": key.name}, "value": value}))
        print(key.name, value, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.search
def test_acknowledged_writes_survive_kills_at_random_moments(tmp_path: Path) -> None:
    """Kill the writing process at random moments; each time compare what is there with what was acknowledged."""
    moments = random.Random(seed(7))
    path = tmp_path / "apiserver.db"
    expected: dict[str, str] = {}
    version = acknowledged = 0
    for round_number in range(MOMENTS):
        command = [sys.executable, "-c", VICTIM, str(path), str(round_number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            first = victim.stdout.readline()
            killer = threading.Timer(moments.uniform(0, 0.05), victim.kill)
            killer.start()
            lines = [first, *victim.stdout]
            killer.join()
        whole = [line for line in lines if line.endswith("\n")]
        acknowledged += len(whole)
        for line in whole:
            name, _, value = line.rstrip("\n").partition(" ")
            expected[name] = value
        store = ObjectStore(path)
        found = {key.name: record.document["value"] for key, record in store.state.objects["/configmaps"].items()}
        assert store.state.version > version, "versions never go back"
        version = store.state.version
        store.close()
        # The write after the last acknowledged one may or may not have become durable.
        following = f"m{(int(whole[-1].split()[0][1:]) + 1) % 40}"
        wanted = {name: value for name, value in expected.items() if value}
        assert {k: v for k, v in found.items() if k != following} == {k: v for k, v in wanted.items() if k != following}
        expected = dict(found)
    assert acknowledged > MOMENTS


def test_a_killed_server_comes_back_with_everything(own_server: ApiServer) -> None:
    for number in range(20):
        assert own_server.http.post(CONFIG_MAPS, json=config_map(f"m{number}")).status_code == 201
    own_server.kill()
    own_server.start()
    assert len(own_server.get(CONFIG_MAPS)["items"]) == 20


def test_two_servers_cannot_share_a_state_directory(own_server: ApiServer) -> None:
    second = ApiServer(own_server.state_dir)
    kubeconfig = own_server.kubeconfig.read_text()
    with pytest.raises(AssertionError, match="is another server running on this state directory"):
        second.start()
    own_server.kubeconfig.write_text(kubeconfig)


def test_a_stopped_server_ends_its_watches_and_exits_cleanly(own_server: ApiServer) -> None:
    with own_server.http.stream("GET", f"{CONFIG_MAPS}?watch=1") as watching:
        assert watching.status_code == 200
        assert own_server.stop() == 0
