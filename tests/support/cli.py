"""Runs the `shoal` command for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SHOAL = str(Path(sys.executable).with_name("shoal"))


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


def shoal(*arguments: str, state_dir: Path, stdin: str = "", timeout: float = 150) -> Outcome:
    """Run the real command on a state directory."""
    env = {**os.environ, "SHOAL_STATE_DIR": str(state_dir), "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        [SHOAL, *arguments], input=stdin, capture_output=True, text=True, env=env, timeout=timeout, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  annotations:
    serving.kserve.io/deploymentMode: ModelMesh
spec:
  predictor:
    model:
      modelFormat:
        name: no-such-format
      storage:
        parameters: {{type: pvc, name: models}}
        path: model
"""
CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data: {{key: "{value}"}}
"""
