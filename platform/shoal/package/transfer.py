"""Changing what belongs to a published package without being part of its content: its signature and its scan."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal.package.errors import TamperedPackage
from shoal.package.keys import SigningKey, TrustedKeys
from shoal.package.names import PAYLOAD, SIGNATURE
from shoal.package.package import Package
from shoal.package.signing import covers, sign_payload


@contextmanager
def fetched(package: Package) -> Iterator[Path]:
    """The payload as a folder of this machine, checked while it is copied.

    Raises:
        TamperedPackage: a file is not what was packed.
    """
    with tempfile.TemporaryDirectory(prefix="shoal-package-") as scratch:
        folder = Path(scratch) / PAYLOAD
        for name, expected in package.content.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            path = package.path(f"{PAYLOAD}/{name}")
            with package.store.chunks(path) as chunks, target.open("wb") as copy:
                for chunk in chunks:
                    digest.update(chunk)
                    copy.write(chunk)
            if digest.hexdigest() != expected.sha256:
                raise TamperedPackage(f"{path} is not what was packed; publish the package again")
        yield folder


def sign_package(package: Package, key: SigningKey) -> None:
    """Sign the payload, in place of an earlier signature.

    Raises:
        TamperedPackage: a file is not what was packed.
        ExtraMissing: `model-signing` is not installed.
    """
    with fetched(package) as folder:
        signature = sign_payload(folder, key)
    covers(signature, package.content.files, TrustedKeys({"": key.public}))
    package.store.write(package.path(SIGNATURE), signature)
