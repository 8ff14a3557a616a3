"""Notes of what a server is busy with: they outlive it, are bounded, and say when something is missing."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal_runtime import underway
from shoal_runtime.suspects import GONE_SECONDS, Suspects
from shoal_runtime.underway import NAME_BYTES, SLOTS, Activity, Ending, UnderWay

SERVER = """
import sys
from pathlib import Path
from shoal_runtime.underway import Activity, UnderWay
notes = UnderWay.below(Path(sys.argv[1]))
notes.end(notes.begin("done", Activity.ANSWERING))
notes.begin("m", Activity.LOADING)
for _ in range(3):
    notes.begin("n", Activity.ANSWERING)
print("noted", flush=True)
if sys.stdin.readline() == "stop\\n":
    notes.stopping()
    print("stopping", flush=True)
sys.stdin.read()
"""


class Server:
    """A process that notes."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "noted\n"
        self.path = underway.files(root / underway.FOLDER)[-1]

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "stopping\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.kill()


def test_notes_outlive_a_killed_process(server: Server) -> None:
    assert underway.alive(server.path)
    server.kill()
    assert not underway.alive(server.path)
    notes = underway.read(server.path)
    assert notes.doing == {("m", Activity.LOADING): 1, ("n", Activity.ANSWERING): 3}
    assert (notes.complete, notes.ending) == (True, Ending.NO)


async def test_a_process_that_lives_on_did_not_die_when_its_connection_broke(server: Server, tmp_path: Path) -> None:
    began = time.monotonic()
    assert await Suspects(tmp_path / underway.FOLDER).deaths() == []
    assert time.monotonic() - began >= GONE_SECONDS


async def test_a_process_that_stops_in_order_is_not_waited_for(server: Server, tmp_path: Path) -> None:
    server.stop()
    suspects = Suspects(tmp_path / underway.FOLDER)
    assert await suspects.deaths() == []
    server.kill()
    (death,) = await suspects.deaths()
    assert death.meant
    suspects.forget(death)
    assert underway.files(tmp_path / underway.FOLDER) == []


def test_a_server_that_is_ended_finds_that_in_its_own_notes(tmp_path: Path) -> None:
    notes = UnderWay.below(tmp_path)
    assert notes.ending is Ending.NO
    underway.end_at_once(underway.files(tmp_path / underway.FOLDER)[0])
    assert notes.ending is Ending.AT_ONCE


def test_places_are_used_again_and_their_lack_is_said(tmp_path: Path) -> None:
    notes = UnderWay.below(tmp_path)
    (path,) = underway.files(tmp_path / underway.FOLDER)
    for number in range(SLOTS * 2):
        notes.end(notes.begin(f"idle-{number}", Activity.ANSWERING))
    held = [notes.begin(f"busy-{number}", Activity.ANSWERING) for number in range(SLOTS)]
    assert not underway.read(path).complete
    assert len(underway.read(path).doing) == SLOTS - 1
    for place in held:
        notes.end(place)
    assert underway.read(path).doing == {}
    assert underway.read(path).complete
    # A model that found no place keeps none, also when there is one before it ends.
    unnamed = notes.begin("x" * NAME_BYTES, Activity.LOADING)
    assert not underway.read(path).complete
    notes.end(unnamed)
    assert underway.read(path).complete


def test_a_damaged_file_is_not_complete(tmp_path: Path) -> None:
    UnderWay.below(tmp_path)
    (path,) = underway.files(tmp_path / underway.FOLDER)
    path.write_bytes(path.read_bytes()[:-1])
    assert underway.read(path) == underway.Notes(complete=False)
    assert not underway.read(tmp_path / "absent").complete


def test_files_nobody_reads_are_bounded(tmp_path: Path) -> None:
    for _ in range(underway.KEPT_FILES + 3):
        Server(tmp_path).kill()
    assert len(underway.files(tmp_path / underway.FOLDER)) <= underway.KEPT_FILES + 1
