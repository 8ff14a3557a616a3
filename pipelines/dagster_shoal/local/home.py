"""The Dagster home of one machine: its instance config, one owner at a time, and runs that an earlier end left open."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import dagster as dg


class LaunchError(Exception):
    """It cannot be started; the message says what to do."""


@contextlib.contextmanager
def owned(home: Path) -> Iterator[None]:
    """Be the only one that runs Dagster on this home.

    Raises:
        LaunchError: another process does, or it cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LaunchError(f"cannot write {home}: {error.strerror}; choose another --state-dir") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise LaunchError(f"Dagster already runs on {home} as pid {pid}; end that first (Ctrl-C there)") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def configure(home: Path) -> None:
    """Write the instance config, unless there is one."""
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(resources.files(__package__).joinpath("dagster.yaml").read_text())


def settle(home: Path, partitions: str, names: list[str]) -> int:
    """Close the runs whose processes are gone, and let the partitions be: the number of runs that were closed.

    A run that ended with its machine would else hold its model's turn for ever. The rollout it followed went on in the
    mesh; the next run takes it up. Nothing else may run on this home.
    """
    with dg.DagsterInstance.from_config(str(home)) as instance:
        open_states = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
        left = instance.get_runs(dg.RunsFilter(statuses=open_states))
        for run in left:
            instance.report_run_failed(run, "its process ended together with the code server; run it again")
        if names:
            instance.add_dynamic_partitions(partitions, names)
    return len(left)
