"""Where the checkout keeps what is fetched."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FETCHED = ROOT / ".tools"
BIN = FETCHED / "bin"
"""What comes first on the PATH of tests. A program is put here last, so one that is here works."""

_ADMINISTRATORS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian has programs that need no root, though only root's PATH names these folders."""

DEBIAN = FETCHED / "debian"
"""Debian packages, unpacked over each other."""

SCRATCH = FETCHED / "scratch"
"""Downloads, removed at the end."""

AIRFLOW = ROOT / ".venv-airflow"


def search_path() -> str:
    """The PATH that has the tools: what was fetched, then what the caller has, then the administrator's folders."""
    return os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath), *_ADMINISTRATORS))


def put_on_path() -> None:
    """Have this process, and all that it starts, find the tools."""
    os.environ["PATH"] = search_path()
