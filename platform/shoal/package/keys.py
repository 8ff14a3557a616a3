"""Keys that packages and evidence are signed with: elliptic-curve pairs in PEM files, and the set of those trusted.

Whoever holds a trusted private key can vouch for models. The embedded cluster makes one pair a state directory and
trusts it; on a cluster the ConfigMap `shoal-trusted-keys` lists the public keys, by names that people know.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from shoal.durable import write_whole
from shoal.package.errors import InvalidPackage

TRUSTED_KEYS: Final = "shoal-trusted-keys"
"""ConfigMap whose `data` is name -> PEM."""
PRIVATE: Final = "signing.pem"
PUBLIC: Final = "signing.pub"
LOCAL_KEY: Final = "shoal-up"
"""Name under which the embedded cluster trusts its own key."""
MAX_KEYS: Final = 1000
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where a pair is kept."""

    private: Path
    public: Path


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key to verify with."""

    name: str
    id: str
    """SHA-256 of its PEM, as OpenSSF model signatures name keys."""
    pem: bytes
    key: ec.EllipticCurvePublicKey

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this key's owner signed the data."""
        try:
            self.key.verify(signature, data, ec.ECDSA(_HASHES[self.key.curve.name]))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key to sign with. `path` is where it was read from; the signing library reads it there itself."""

    path: Path
    public: PublicKey
    key: ec.EllipticCurvePrivateKey

    def sign(self, data: bytes) -> bytes:
        """An ECDSA signature in DER."""
        return self.key.sign(data, ec.ECDSA(_HASHES[self.key.curve.name]))

    def __repr__(self) -> str:
        return f"SigningKey({self.public.id[:12]})"


class TrustedKeys:
    """Public keys by id."""

    def __init__(self, keys: Mapping[str, PublicKey]) -> None:
        self._keys = {key.id: key for key in keys.values()}

    def get(self, key_id: str) -> PublicKey | None:
        """The trusted key of this id."""
        return self._keys.get(key_id)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all, sorted."""
        return tuple(sorted(key.name for key in self._keys.values()))

    def __len__(self) -> int:
        return len(self._keys)


def read_trusted(pems: Mapping[str, Any]) -> tuple[TrustedKeys, list[str]]:
    """The keys of a ConfigMap's `data`, and what is wrong with the others; a wrong one must not harm the rest."""
    keys: dict[str, PublicKey] = {}
    wrong: list[str] = []
    for name, pem in sorted(pems.items())[:MAX_KEYS]:
        try:
            keys[name] = read_public(str(pem).encode(), name)
        except InvalidPackage as error:
            wrong.append(str(error))
    if len(pems) > MAX_KEYS:
        wrong.append(f"there are more than {MAX_KEYS} keys; those after {MAX_KEYS} are ignored")
    return TrustedKeys(keys), wrong


def read_public(pem: bytes, name: str) -> PublicKey:
    """A public key in PEM. `name` is what people call it.

    Raises:
        InvalidPackage: it is none on a curve that model signatures use.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidPackage(f"key {name!r} is not a public key in PEM; `shoal package keygen` makes pairs") from None
    return PublicKey(name, *_identity(_curve_checked(key, name)))


def load_public(path: Path) -> PublicKey:
    """A public key from a file; its name is the file's.

    Raises:
        InvalidPackage: it cannot be read or is none.
    """
    return read_public(_read(path), path.name)


def load_signing(path: Path) -> SigningKey:
    """A private key from an unencrypted PEM file.

    Raises:
        InvalidPackage: it cannot be read, is none, or others may read it.
    """
    data = _read(path)
    if path.stat().st_mode & 0o077:
        raise InvalidPackage(f"{path} may be read by others than its owner; chmod 600 it")
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidPackage(
            f"{path} is no unencrypted private key in PEM; make one by `shoal package keygen`"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidPackage(f"{path} is no elliptic-curve key; `shoal package keygen` makes one")
    public = _curve_checked(key.public_key(), path.name)
    return SigningKey(path, PublicKey(path.name, *_identity(public)), key)


def generate_keys(directory: Path) -> KeyPair:
    """A new pair on P-256, `signing.pem` (0600) and `signing.pub`, both written as a whole.

    Raises:
        InvalidPackage: a pair is there, or the directory cannot be written.
    """
    pair = KeyPair(directory / PRIVATE, directory / PUBLIC)
    if pair.private.exists() or pair.public.exists():
        raise InvalidPackage(f"{directory} has keys already; move them away first, others may trust them")
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(pair.private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        write_whole(pair.public, _pem(key.public_key()), 0o644)
    except OSError as error:
        raise InvalidPackage(f"{directory} cannot be written: {error.strerror}") from None
    return pair


def ensure_keys(state_dir: Path) -> KeyPair:
    """The pair of a state directory (`keys/`), made if there is none; a lost public half is made from the private one.

    Raises:
        InvalidPackage: it cannot be read or written.
    """
    directory = state_dir / "keys"
    pair = KeyPair(directory / PRIVATE, directory / PUBLIC)
    if not pair.private.exists():
        with contextlib.suppress(FileNotFoundError):
            pair.public.unlink()  # Of no use without the other half, and `generate_keys` would not overwrite it.
        return generate_keys(directory)
    signing = load_signing(pair.private)
    if not pair.public.exists() or load_public(pair.public).id != signing.public.id:
        try:
            write_whole(pair.public, signing.public.pem, 0o644)
        except OSError as error:
            raise InvalidPackage(f"{pair.public} cannot be written: {error.strerror}") from None
    return pair


def trusted_keys_manifest(public: Path, namespace: str) -> dict[str, Any]:
    """The ConfigMap with which the embedded cluster trusts its own key. Server-side apply leaves keys of others.

    Raises:
        InvalidPackage: the file holds no public key.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": TRUSTED_KEYS, "namespace": namespace},
        "data": {LOCAL_KEY: load_public(public).pem.decode()},
    }


def _identity(key: ec.EllipticCurvePublicKey) -> tuple[str, bytes, ec.EllipticCurvePublicKey]:
    pem = _pem(key)
    return hashlib.sha256(pem).hexdigest(), pem, key


def _curve_checked(key: object, name: str) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise InvalidPackage(f"key {name!r} is on no curve that model signatures use; use {', '.join(_HASHES)}")
    return key


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64 * 1024)
    except OSError as error:
        raise InvalidPackage(f"{path} cannot be read: {error.strerror}; `shoal package keygen` makes keys") from None
