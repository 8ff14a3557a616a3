"""Evidence: what was checked about a package, by whom, with what result; signed, and kept beside the package.

A statement follows in-toto's Statement v1: its subject is the digest of the package, its predicate the result. So a
check that ran in a pipeline counts wherever the package goes, and a result cannot be moved to another package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationError

from shoal.package import dsse
from shoal.package.errors import InvalidPackage, PackageNotFound
from shoal.package.keys import SigningKey, TrustedKeys
from shoal.package.manifest import FilePart, Metric, Moment, Sha256, Text, canonical, problems
from shoal.package.names import (
    EVIDENCE,
    MANIFEST,
    MAX_EVIDENCE,
    MAX_EVIDENCE_BYTES,
    MAX_MANIFEST_BYTES,
    evidence_name,
    folder_of,
    model_name,
)
from shoal.package.stores.protocol import PackageStore

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://shoal.dev/evidence/v1"
SIGNATURE_EVIDENCE: Final = "signature"
"""Not a statement: it is the OpenSSF signature of the payload, `model.sig`."""
KNOWN_EVIDENCE: Final = (
    "data",
    "schema",
    "metrics",
    "champion",
    "golden-replay",
    "scan",
    "signature",
    "budget",
    "approval",
)
"""Names that Shoal's pipelines give; others are as good."""
_ANY = "*"


def _name(name: str) -> str:
    try:
        return evidence_name(name)
    except InvalidPackage as error:
        raise ValueError(str(error)) from None


class Statement(FilePart):
    """The result of one check."""

    name: Annotated[str, AfterValidator(_name)]
    digest: Sha256
    """Of the package."""
    passed: bool
    at: Moment
    summary: Text = ""
    metrics: dict[str, Metric] = Field(default_factory=dict, max_length=1024)
    run: Text = ""
    """Id or address of the run that checked."""
    model: Text = ""
    """The model it is about, for checks that compare with what serves now; empty: the package under any name."""
    details: list[Text] = Field(default_factory=list, max_length=200)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A statement that was found, and who signed it."""

    statement: Statement
    envelope: dsse.Envelope
    signer: str | None
    """Name of the trusted key; None: it is not to be believed."""


def now() -> datetime:
    """The moment, for what is made now: fine enough to order packages that are made one right after another."""
    return datetime.now(UTC)


def sign(statement: Statement, key: SigningKey) -> dsse.Envelope:
    """The statement, signed.

    Raises:
        InvalidPackage: it is about the signature, which is a file of its own, or too long.
    """
    if statement.name == SIGNATURE_EVIDENCE:
        raise InvalidPackage(
            "evidence 'signature' is the model's signature itself: publish with a key, or `shoal package attest`"
        )
    predicate = statement.model_dump(mode="json", by_alias=True, exclude={"digest", "model"})
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": statement.model or _ANY, "digest": {"sha256": statement.digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    envelope = dsse.sign(dsse.IN_TOTO, canonical(document), key)
    if len(envelope.to_bytes()) > MAX_EVIDENCE_BYTES:
        raise InvalidPackage(f"evidence {statement.name!r} is larger than {MAX_EVIDENCE_BYTES} bytes; shorten it")
    return envelope


def read_evidence(data: bytes, where: str, trusted: TrustedKeys) -> Evidence:
    """The evidence in a file; its `signer` says whether to believe it.

    Raises:
        InvalidPackage: it is no signed statement, or was changed.
    """
    envelope = dsse.parse(data, where)
    return Evidence(_statement(envelope, where), envelope, envelope.signer(trusted))


def add_evidence(store: PackageStore, model: str, digest: str, envelope: dsse.Envelope) -> None:
    """Keep evidence beside a published package, in place of older of the same name.

    Args:
        digest: the whole one, so that nothing is said of the wrong package.

    Raises:
        InvalidPackage: it is about another package or model, or there is too much already.
        PackageNotFound: no such package is published.
        StoreUnavailable: try again.
    """
    folder = folder_of(model_name(model), digest)
    statement = _statement(envelope, "the evidence")
    if statement.digest != digest:
        raise InvalidPackage(f"evidence {statement.name!r} is about package {statement.digest[:12]}, not {digest[:12]}")
    if statement.model not in ("", model):
        raise InvalidPackage(f"evidence {statement.name!r} is about model {statement.model!r}, not {model!r}")
    try:
        store.read(f"{folder}/{MANIFEST}", MAX_MANIFEST_BYTES)
    except PackageNotFound:
        raise PackageNotFound(f"model {model!r} has no published package {digest[:12]}; publish it first") from None
    put_evidence(store, folder, envelope)


def put_evidence(store: PackageStore, folder: str, envelope: dsse.Envelope) -> bool:
    """Write evidence into a package's folder unless newer of that name is there; whether it was written."""
    statement = _statement(envelope, "the evidence")
    prefix = f"{folder}/" if folder else ""
    path = f"{prefix}{EVIDENCE}/{statement.name}.json"
    there = {entry.path for entry in store.files(f"{prefix}{EVIDENCE}", MAX_EVIDENCE)}
    if path not in there and len(there) >= MAX_EVIDENCE:
        raise InvalidPackage(f"there are {MAX_EVIDENCE} pieces of evidence already; use one of their names")
    data = envelope.to_bytes()
    if path in there and not _replaces(statement, data, store.read(path, MAX_EVIDENCE_BYTES), path):
        return False
    store.write(path, data)
    return True


def _replaces(statement: Statement, data: bytes, old: bytes, path: str) -> bool:
    try:
        before = _statement(dsse.parse(old, path), path)
    except InvalidPackage:
        return True
    return data != old and statement.at >= before.at


def _statement(envelope: dsse.Envelope, where: str) -> Statement:
    if envelope.type != dsse.IN_TOTO:
        raise InvalidPackage(f"{where} holds {envelope.type!r}, not {dsse.IN_TOTO}")
    try:
        document = json.loads(envelope.payload)
        kinds = document["_type"], document["predicateType"]
        (subject,) = document["subject"]
        fields: Mapping[str, Any] = {
            **document["predicate"],
            "digest": subject["digest"]["sha256"],
            "model": "" if subject["name"] == _ANY else subject["name"],
        }
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InvalidPackage(f"{where} is not an in-toto statement about one package") from None
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InvalidPackage(f"{where} is a statement of another kind: {kinds[1]!r}")
    try:
        return Statement.model_validate_json(canonical(fields))
    except (ValidationError, ValueError) as error:
        why = problems(Statement, error) if isinstance(error, ValidationError) else str(error)
        raise InvalidPackage(f"{where} is not evidence: {why}") from None
