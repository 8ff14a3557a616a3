"""A checkout that has nothing but the tools' program, and a PATH that has nothing but what a test puts there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.places import ROOT


@dataclass(frozen=True)
class Checkout:
    root: Path

    @property
    def path(self) -> Path:
        """The only folder of the PATH."""
        return self.root / "path"

    @property
    def bin(self) -> Path:
        return self.root / ".tools" / "bin"

    def has(self, name: str, script: str = "") -> None:
        """Put a program on the PATH."""
        file = self.path / name
        file.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        file.chmod(0o755)

    def tools(self, *names: str) -> list[str]:
        """What `python -m tools` says; it must succeed."""
        done = self._python("-m", "tools", *names)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    def pytest(self, *arguments: str, **environment: str) -> tuple[int, list[str]]:
        """Exit code and output of pytest on the tests that are in the folder."""
        done = self._python("-m", "pytest", "-p", "needs", *arguments, **environment)
        return done.returncode, done.stdout.splitlines()

    def _python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYTEST", "MAKE"))}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env={**kept, "PATH": str(self.path), "PYTHONPATH": str(self.root), **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for plugin in ("needs.py", "speed.py", "speeds.py"):
        shutil.copy(ROOT / "tests" / plugin, tmp_path)
    (tmp_path / "path").mkdir()
    return Checkout(tmp_path)
