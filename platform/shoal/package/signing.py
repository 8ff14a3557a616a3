"""The OpenSSF model signature of a payload (`model.sig`), and the seal of a manifest.

Signing, and verifying files against a signature, is the `model-signing` library's. What the mesh asks - did a trusted
key sign exactly these checksums - is answered from the bundle alone (`covers`), without the library and the files.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from shoal.package import dsse
from shoal.package.errors import ExtraMissing, InvalidPackage, PackageError, TamperedPackage
from shoal.package.keys import PublicKey, SigningKey, TrustedKeys
from shoal.package.manifest import FileRef, Manifest, Seal
from shoal.package.names import SIGNATURE

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
SEAL_TYPE: Final = "application/vnd.shoal.package+json"


def seal(manifest: Manifest, key: SigningKey) -> Manifest:
    """The manifest with a signature over content and about."""
    signature = key.sign(dsse.pae(SEAL_TYPE, manifest.sealed_bytes()))
    return manifest.model_copy(update={"seal": Seal(keyid=key.public.id, sig=dsse.encode(signature))})


def sealed_by(manifest: Manifest, trusted: TrustedKeys) -> str | None:
    """Name of the trusted key that sealed it; None: none did."""
    if manifest.seal is None or (key := trusted.get(manifest.seal.keyid)) is None:
        return None
    try:
        signature = dsse.decode(manifest.seal.sig)
    except ValueError:
        return None
    return key.name if key.verifies(signature, dsse.pae(SEAL_TYPE, manifest.sealed_bytes())) else None


def sign_payload(payload: Path, key: SigningKey) -> bytes:
    """The signature of all files in a folder, as OpenSSF's tools make and verify it.

    Raises:
        ExtraMissing: `model-signing` is not installed.
        InvalidPackage: the folder cannot be signed.
    """
    try:
        from model_signing import hashing, signing
    except ImportError:
        raise ExtraMissing("model-signing", "signing a model") from None
    with tempfile.TemporaryDirectory(prefix="shoal-sign-") as scratch:
        target = Path(scratch) / SIGNATURE
        config = signing.Config().use_elliptic_key_signer(private_key=key.path)
        # Files of Git are part of a payload like any others.
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
        try:
            config.sign(payload, target)
        except (ValueError, OSError) as error:
            raise InvalidPackage(f"{payload} cannot be signed: {error}") from None
        return target.read_bytes()


def verify_payload(payload: Path, signature: Path, key: Path) -> None:
    """Have `model-signing` compare the files of a folder with their signature by a public key.

    Raises:
        ExtraMissing: `model-signing` is not installed.
        TamperedPackage: they differ, or another key signed.
    """
    try:
        from model_signing import verifying
    except ImportError:
        raise ExtraMissing("model-signing", "verifying a model's signature") from None
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(payload, signature)
    except Exception as error:  # The library raises what its parts raise, of many kinds.
        raise TamperedPackage(f"{signature.name} does not sign {payload}: {error or type(error).__name__}") from None


def covers(data: bytes, files: Mapping[str, FileRef], trusted: TrustedKeys) -> PublicKey:
    """The trusted key by which a bundle signs exactly these files of a payload.

    Raises:
        InvalidPackage: it is no such bundle, no trusted key signed it, or it signs other files.
    """
    envelope, hint = _bundle(data)
    key = trusted.get(hint)
    if key is None:
        raise InvalidPackage(f"{SIGNATURE} is by key {hint[:12]}, which is not trusted")
    if not key.verifies(envelope.signature, dsse.pae(envelope.type, envelope.payload)):
        raise TamperedPackage(f"{SIGNATURE} is not what key {key.name!r} signed")
    if _signed_files(envelope) != {path: file.sha256 for path, file in files.items()}:
        raise TamperedPackage(f"{SIGNATURE} signs other files than the package has")
    return key


def _bundle(data: bytes) -> tuple[dsse.Envelope, str]:
    try:
        document = json.loads(data)
        hint = str(document["verificationMaterial"]["publicKey"]["hint"])
        envelope = dsse.envelope_of(document["dsseEnvelope"], SIGNATURE)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _no_bundle() from None
    rebuilt = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": envelope.to_json(),
    }
    compact = json.dumps(document, separators=(",", ":")).encode() == data
    if not compact or document != rebuilt or envelope.keyid or envelope.type != dsse.IN_TOTO:
        raise _no_bundle()
    return envelope, hint


def _signed_files(envelope: dsse.Envelope) -> dict[str, str]:
    try:
        statement: Any = json.loads(envelope.payload)
        predicate = statement["predicate"]
        resources = predicate["resources"]
        (subject,) = statement["subject"]
        kinds = statement["_type"], statement["predicateType"], predicate["serialization"]["method"]
        signed = {str(item["name"]): str(item["digest"]) for item in resources if item["algorithm"] == "sha256"}
        root = hashlib.sha256(b"".join(bytes.fromhex(item["digest"]) for item in resources)).hexdigest()
        consistent = len(signed) == len(resources) and subject["digest"]["sha256"] == root
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _no_bundle() from None
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE, "files") or not consistent:
        raise _no_bundle()
    return signed


def _no_bundle() -> PackageError:
    return InvalidPackage(f"{SIGNATURE} is no OpenSSF model signature by an elliptic-curve key over whole files")
