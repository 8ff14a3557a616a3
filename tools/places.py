"""Where the checkout keeps what is fetched."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FETCHED = ROOT / ".tools"
BIN = FETCHED / "bin"
"""What comes first on the PATH of tests. A program is put here last, so one that is here works."""

DEBIAN = FETCHED / "debian"
"""Debian packages, unpacked over each other."""

SCRATCH = FETCHED / "scratch"
"""Downloads, removed at the end."""

AIRFLOW = ROOT / ".venv-airflow"
