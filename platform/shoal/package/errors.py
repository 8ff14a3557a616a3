"""What can go wrong with packages; every message names the file or field, and the fix."""

from __future__ import annotations


class PackageError(Exception):
    """Base of all errors of this package."""


class InvalidPackage(PackageError):
    """What was given cannot become a package, or what is there is none."""


class TamperedPackage(PackageError):
    """Bytes of a package are not those that were published."""


class PackageNotFound(PackageError):
    """There is no such published package."""


class StoreUnavailable(PackageError):
    """The store did not answer, or refused; the same call may work later."""


class ExtraMissing(PackageError):
    """A library is not installed that only packaging needs."""

    def __init__(self, library: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}; install it by: pip install 'shoal[package]'")
