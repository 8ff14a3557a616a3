"""The benchmarks run from the command line, and what must hold on any machine holds."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main
from needs import need
from tools.sources import GoSource

ROOT = Path(__file__).parents[2]


async def bench(*arguments: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", *arguments,
        cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 300)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


@pytest.mark.server
@pytest.mark.slow
async def test_the_gateway_answers_rightly_and_leaves_the_python_proxy_behind():
    need("shoal-bench-models", "shoal-bench-load")
    code, output = await bench("gateway", "--quick")
    assert code == 0, output
    path = ROOT / output.rpartition("written to ")[2].splitlines()[0]
    rows = {(row["group"], row["name"]): row["figure"] for row in json.loads(path.read_text())["rows"]}
    path.unlink()
    assert rows["gateway", "wrong or failed answers"] == 0
    assert rows["gateway, all forms", "wrong or failed answers"] == 0
    assert rows["gateway, 1 model, 16 in flight", "requests/s, times the Python proxy's"] > 1
    assert rows["gateway", "memory a routed model"] <= 30


@pytest.mark.server
@pytest.mark.slow
async def test_misses_that_need_room_fail_no_request():
    need("shoal-bench-models", "shoal-bench-load")
    code, output = await bench("misses", "--quick")
    assert code == 0, output
    path = ROOT / output.rpartition("written to ")[2].splitlines()[0]
    rows = {(row["group"], row["name"]): row for row in json.loads(path.read_text())["rows"]}
    path.unlink()
    assert rows["misses", "failed requests"]["figure"] == 0
    assert 60 < rows["misses, 16 in flight, by Zipf", "hits"]["figure"] < 90
    assert rows["misses, 16 in flight", "CPU of the mesh a load"]["figure"] > 0


def test_missing_programs_are_named_with_what_is_to_be_done(monkeypatch, capsys):
    monkeypatch.setattr(GoSource, "there", lambda *_: False)
    monkeypatch.setattr(sys, "argv", ["bench", "gateway"])
    assert main() == 2
    said = capsys.readouterr().out
    assert said.startswith("shoal-bench-models, shoal-bench-load: missing; put Go 1.21 or newer on PATH")


def measured() -> set[str]:
    """The names that the modules below `bench` register."""
    texts = [path.read_text() for path in (ROOT / "bench").glob("*.py")]
    return {name for text in texts for name in re.findall(r'^@measures\("(\w+)"', text, re.MULTILINE)}


@pytest.mark.server
async def test_unknown_measurements_are_refused_with_those_there_are():
    code, output = await bench("gatway")
    assert code == 2
    assert (
        {"gateway", "misses"}
        < measured()
        <= set(re.split(r"[ ,\n]+", output.partition("no measurement named gatway; there are ")[2]))
    )
