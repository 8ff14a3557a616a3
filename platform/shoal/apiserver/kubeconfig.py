"""The kubeconfig of an embedded instance: what kubectl and every other client needs to reach it."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from shoal.durable import write_whole

NAME = "shoal"
DEFAULT_NAMESPACE = "modelmesh-serving"


def kubeconfig(server: str, ca: bytes, token: str, namespace: str = DEFAULT_NAMESPACE) -> str:
    """Return a kubeconfig whose cluster, user and context are named `shoal`.

    Args:
        server: URL of the API server, e.g. `https://127.0.0.1:6443`.
        ca: its certificate authority, PEM.
        token: the bearer token.
        namespace: what commands without `--namespace` work on.
    """
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [
            {"name": NAME, "cluster": {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}}
        ],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": namespace}}],
    }
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def write(path: Path, text: str) -> None:
    """Write a kubeconfig that only its owner can read: it holds the token."""
    write_whole(path, text.encode(), 0o600)
