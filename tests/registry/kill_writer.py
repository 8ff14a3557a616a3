"""Kills a process that writes to a registry, again and again, and checks the file each time.

A program of its own, without threads, so that each life is a cheap fork. Arguments: database, kills, seed.
Eight tasks write pairs of records, one commit a pair; a pair's value counts up, and is told through a pipe once
acknowledged. So after a kill each pair is equal, and not older than what was told. Each life's term is told, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

from shoal.registry.backends.sqlite.backend import open_sqlite
from shoal.registry.protocol import Put

PAIRS = 8
TERM = -1
"""Told instead of a pair."""


async def write(path: Path, told: int) -> None:
    registry, election = await open_sqlite(path)
    term = await election.campaign()
    os.write(told, f"{TERM} {term}\n".encode())

    async def count(pair: int) -> None:
        record = next(iter(await registry.list(f"pair/{pair}/left")), None)
        value = int(record.value) if record else 0
        while True:
            value += 1
            text = str(value).encode()
            await registry.commit([Put(f"pair/{pair}/left", text), Put(f"pair/{pair}/right", text)], term)
            os.write(told, f"{pair} {value}\n".encode())

    await asyncio.gather(*(count(pair) for pair in range(PAIRS)))


def live(path: Path, seconds: float) -> list[tuple[int, int]]:
    """One life of the writer, ended by SIGKILL: what it told."""
    reading, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        asyncio.run(write(path, told))
        os._exit(1)
    os.close(told)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit("the writer ended by itself")
    with os.fdopen(reading) as stream:
        lines = stream.read().split("\n")[:-1]
    return [(int(a), int(b)) for a, b in (line.split() for line in lines)]


def check(path: Path, told: dict[int, int], term: int) -> list[str]:
    """What is wrong with the file."""
    connection = sqlite3.connect(path)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'election'").fetchone():
            return ["the file is empty"] if told or term else []
        rows = {key: int(value) for key, value in connection.execute("SELECT key, value FROM records")}
        stored = connection.execute("SELECT term FROM election").fetchone()[0]
    finally:
        connection.close()
    problems = [] if stored >= term else [f"term {term} was told, {stored} is stored"]
    for pair in range(PAIRS):
        left, right = rows.get(f"pair/{pair}/left"), rows.get(f"pair/{pair}/right")
        if left != right:
            problems.append(f"pair {pair} is half there: {left} {right}")
        if (left or 0) < told.get(pair, 0):
            problems.append(f"pair {pair}: {told[pair]} was told, {left} is stored")
    return problems


def main() -> None:
    path, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    told: dict[int, int] = {}
    term = 0
    lives = 0
    problems: list[str] = []
    for _ in range(kills):
        lines = live(path, rng.uniform(0.0, 0.15))
        lives += any(pair != TERM for pair, _ in lines)
        for pair, value in lines:
            if pair != TERM:
                told[pair] = max(told.get(pair, 0), value)
            elif value > term:
                term = value
            else:
                problems.append(f"term {value} was won after term {term}")
        problems += check(path, told, term)
    outcome = {"kills": kills, "lives_with_acknowledgements": lives, "term": term, "problems": problems}
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
