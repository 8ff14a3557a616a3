"""A real Prometheus for tests: started with a configuration, asked over its API, and ended."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from needs import need


@contextlib.contextmanager
def running_prometheus(config: Path, data: Path) -> Iterator[str]:
    """The address of a Prometheus with this configuration, once it is ready."""
    need("prometheus")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address={address}",
        "--log.level=error",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 60
        while not _ready(f"http://{address}"):
            assert process.poll() is None, "Prometheus ended at once"
            assert time.monotonic() < ends, "Prometheus does not become ready"
            time.sleep(0.02)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


def _ready(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/-/ready", timeout=1, trust_env=False).status_code == 200
    return False
