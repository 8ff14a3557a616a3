"""Packages, stores and statements for tests."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shoal.package import evidence
from shoal.package.build import build
from shoal.package.keys import SigningKey, TrustedKeys
from shoal.package.manifest import About
from shoal.package.package import Package
from shoal.package.samples import samples_of

SAMPLES = [
    {
        "request": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, 1.0]]}]},
        "response": {"outputs": [{"name": "y", "datatype": "INT64", "shape": [1], "data": [1]}]},
    }
]


def make_package(folder: Path, files: dict[str, bytes] | None = None, **more: Any) -> Package:
    """A package built of these files (or a small pickle) in `folder/package`."""
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    for name, data in (files or {"model.joblib": pickle.dumps({"weights": [1, 2, 3]})}).items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    more = {"format": "sklearn", "samples": samples_of(SAMPLES)} | more
    return build(source, folder / "package", **more)


def about(**fields: Any) -> About:
    return About(created=evidence.now(), **fields)


def statement(package: Package, name: str = "approval", **more: Any) -> evidence.Statement:
    return evidence.Statement(**({"name": name, "digest": package.digest, "passed": True, "at": evidence.now()} | more))


def attested(package: Package, key: SigningKey, name: str = "approval", **more: Any) -> None:
    package.add(evidence.sign(statement(package, name, **more), key))


def trust(key: SigningKey, name: str = "tester") -> TrustedKeys:
    from shoal.package.keys import read_trusted

    trusted, wrong = read_trusted({name: key.public.pem.decode()})
    assert not wrong
    return trusted


class Crash(Exception):
    """Stands for the end of the process."""


@dataclass
class CrashingStore:
    """A store whose process ends before, or right after, one of its changes."""

    inner: Any
    at: int
    """Number of the change, from 0."""
    after: bool = False
    changes: int = field(default=0)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)
        return self._counted(call) if name in ("upload", "write", "create", "delete") else call

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            number, self.changes = self.changes, self.changes + 1
            if number >= self.at and not (self.after and number == self.at):
                raise Crash
            done = call(*arguments)
            if number == self.at:
                raise Crash
            return done

        return counted


def flip(data: bytes, index: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[index] ^= 1 << bit
    return bytes(changed)
