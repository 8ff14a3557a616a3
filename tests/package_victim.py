"""Publishes packages in a child that is killed, again and again, and checks what is visible each time.

Run as a program, because it forks: nothing else must run in its process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import model_signing.signing  # noqa: F401 - so that no child spends its life importing it

from seeds import seed
from shoal.package.keys import TrustedKeys, load_public, load_signing
from shoal.package.package import find, open_directory
from shoal.package.publish import publish
from shoal.package.stores import LocalStore
from shoal.package.stores.s3 import open_s3
from shoal.package.verify import verify


def open_store(where: dict):
    return LocalStore(Path(where["root"])) if "root" in where else open_s3(**where)


def endless(directory: Path, where: dict, key: Path, first: int) -> None:
    store, signing = open_store(where), load_signing(key)
    for number in range(first, first + 1000):
        publish(directory, store, f"m{number}", key=signing)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("directory", "store", "key", "public"):
        parser.add_argument(name)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    directory, key, where = Path(given.directory), Path(given.key), json.loads(given.store)
    trusted = TrustedKeys({"": load_public(Path(given.public))})
    chance = random.Random(seed(4711))
    whole, partial = 0, 0
    for kill in range(given.kills):
        first = kill * 1000
        child = os.fork()
        if child == 0:
            endless(directory, where, key, first)
            os._exit(1)
        time.sleep(chance.uniform(0.0, given.seconds))  # The random moment.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        store = open_store(where)
        number = first
        while store.files(f"m{number}", 10_000):
            found = find(store, f"m{number}")
            for package in found:
                verification = verify(package, trusted)
                assert verification.sound, verification.problems
                assert verification.signed_by is not None
                assert list(verification.evidence) == ["approval"]
            whole, partial = whole + len(found), partial + (not found)
            number += 1
        last = max(first, number - 1)
        done = publish(directory, store, f"m{last}", key=load_signing(key))
        (package,) = find(store, f"m{last}")
        assert package.digest == done.digest == open_directory(directory).digest
        assert verify(package, trusted).sound, verify(package, trusted).problems
    json.dump({"whole": whole, "partial": partial}, sys.stdout)


if __name__ == "__main__":
    main()
