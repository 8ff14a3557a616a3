"""DSSE envelopes (Dead Simple Signing Envelope, protocol v1): text, its type, and signatures over both.

Verified here by the `cryptography` package alone, so that the mesh needs no signing library. An envelope has one form:
its text is canonical JSON and its base64 has no other spelling, so a changed byte anywhere is found.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Final

from shoal.package.errors import InvalidPackage
from shoal.package.keys import SigningKey, TrustedKeys
from shoal.package.manifest import canonical

IN_TOTO: Final = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Signed text with one signature."""

    type: str
    payload: bytes
    keyid: str
    signature: bytes

    def to_bytes(self) -> bytes:
        """The file."""
        return canonical(self.to_json()) + b"\n"

    def to_json(self) -> dict[str, Any]:
        """The object."""
        return {
            "payload": encode(self.payload),
            "payloadType": self.type,
            "signatures": [{"keyid": self.keyid, "sig": encode(self.signature)}],
        }

    def signer(self, trusted: TrustedKeys) -> str | None:
        """Name of the trusted key that signed it; None: none did, or the text is not what was signed."""
        key = trusted.get(self.keyid)
        return key.name if key and key.verifies(self.signature, pae(self.type, self.payload)) else None


def pae(kind: str, payload: bytes) -> bytes:
    """What is signed: the pre-authentication encoding of type and text."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def sign(kind: str, payload: bytes, key: SigningKey) -> Envelope:
    """An envelope signed by this key."""
    return Envelope(kind, payload, key.public.id, key.sign(pae(kind, payload)))


def parse(data: bytes, where: str) -> Envelope:
    """The envelope in a file. `where` names it in errors. Nothing is verified yet.

    Raises:
        InvalidPackage: it is none, or not written as `Envelope.to_bytes` does.
    """
    envelope = envelope_of(_load(data, where), where)
    if envelope.to_bytes() != data:
        raise InvalidPackage(f"{where} is not written as Shoal writes it: it was changed")
    return envelope


def envelope_of(document: Any, where: str) -> Envelope:
    """The envelope an object is.

    Raises:
        InvalidPackage: it is none.
    """
    try:
        (signature,) = document["signatures"]
        kind, keyid = document["payloadType"], signature["keyid"]
        payload, sig = decode(document["payload"]), decode(signature["sig"])
    except (LookupError, TypeError, ValueError):
        raise InvalidPackage(f"{where} is not a DSSE envelope with one signature") from None
    if not isinstance(kind, str) or not isinstance(keyid, str):
        raise InvalidPackage(f"{where} is not a DSSE envelope with one signature")
    return Envelope(kind, payload, keyid, sig)


def encode(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def decode(text: str) -> bytes:
    """What a base64 text says, if it says it in the one proper way.

    Raises:
        ValueError: it does not.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError("not base64") from error
    if encode(data) != text:
        raise ValueError("not the proper base64 of its bytes")
    return data


def _load(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidPackage(f"{where} is not JSON") from None
