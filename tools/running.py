"""Run a program that fetches something; show how much has arrived."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

LONGEST = 45 * 60.0
"""Seconds after which a program that fetches is ended."""


class Unavailable(Exception):
    """A tool cannot be had here; the text says why."""


def run(
    what: str, command: Sequence[str], *, grows: Path, megabytes: int, env: Mapping[str, str] | None = None
) -> None:
    """Run a program to its end, saying how large the folder is that it fills; `megabytes` is about what will arrive.

    Raises:
        Unavailable: It failed, with its last words.
    """
    size = f", {megabytes} MB" if megabytes else ""
    print(f"tools: {what}{size} ...", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=env)
        try:
            _wait(process, grows, began)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode:
            raise Unavailable(f"`{' '.join(command[:3])} ...` failed: {_last_words(said)}")
    print(f"tools: {what}: done in {time.monotonic() - began:.0f} s", flush=True)


def output(command: Sequence[str]) -> str:
    """What a program prints that takes no time.

    Raises:
        Unavailable: It failed, with its last words.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=True
        )
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).strip().splitlines()
        raise Unavailable(lines[-1] if lines else f"{command[0]} failed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    return done.stdout


def _wait(process: subprocess.Popen[bytes], grows: Path, began: float) -> None:
    """Wait for the end; every second on a terminal and every half minute elsewhere say how far it is."""
    terminal = sys.stdout.isatty()
    every = 1.0 if terminal else 30.0
    shown = began
    while True:
        try:
            process.wait(min(every, 1.0))
        except subprocess.TimeoutExpired:
            pass
        else:
            break
        now = time.monotonic()
        if now - began > LONGEST:
            raise Unavailable(f"it took longer than {LONGEST / 60:.0f} minutes")
        if now - shown >= every:
            shown = now
            text = f"tools:   {_size(grows) / 1e6:.0f} MB after {now - began:.0f} s"
            print(f"\r{text} " if terminal else text, end="" if terminal else "\n", flush=True)
    if terminal and shown > began:
        print("\r" + " " * 40, end="\r")


def _size(folder: Path) -> int:
    total = 0
    for top, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(f"{top}/{name}").st_size
            except OSError:  # gone meanwhile
                continue
    return total


def _last_words(said: IO[str]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said if line.strip()]
    return " | ".join(lines[-2:]) or "it said nothing"
