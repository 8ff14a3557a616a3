"""Packages of drafts: built, described, signed, published, and read back. The glue to `shoal.package`."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shoal import plots, samples
from dagster_shoal.drafts import PackageDraft
from dagster_shoal.model import ModelDefinition, Rows
from dagster_shoal.steps import refusal
from dagster_shoal.store import ModelStore
from dagster_shoal.verdicts import GateVerdict, judged
from shoal.package import evidence
from shoal.package import publish as publishing
from shoal.package.build import build as build_package
from shoal.package.errors import PackageError
from shoal.package.evidence import SIGNATURE_EVIDENCE, Statement
from shoal.package.keys import SigningKey, TrustedKeys
from shoal.package.manifest import About, Lineage, TensorSpec
from shoal.package.names import PAYLOAD
from shoal.package.package import Package, open_directory, published
from shoal.package.policy import Policy
from shoal.package.publish import Published
from shoal.package.scan import counted, scan
from shoal.package.signing import covers, sign_payload
from shoal.package.verify import verify

_LIBRARIES = ("numpy", "scikit-learn", "xgboost", "lightgbm", "onnx", "torch", "transformers", "joblib")
_RELATIVE = frozenset({"schema", "champion", "golden-replay"})
"""Gates that compare with what serves under the model's name, so that their evidence holds for that name only."""


def build(
    draft: PackageDraft,
    model: ModelDefinition,
    rows: Rows,
    metrics: Mapping[str, float],
    lineage: Mapping[str, str | None],
) -> Package:
    """Build the package of a draft, anew if there was one.

    Raises:
        PackageError: the model's files or samples cannot be packaged.
        Failure: inputs or answers have a type the inference protocol does not know.
    """
    answers = samples.arrays(model.predict(model.load(draft.payload), rows.inputs))
    try:
        signature = samples.signature_of(rows.inputs, answers)
        golden = samples.golden_set(rows.inputs, answers)
    except ValueError as error:
        raise refusal(str(error)) from None
    about = About(
        created=evidence.now(),
        metrics=dict(metrics),
        environment=_environment(),
        lineage=Lineage(**lineage),
        licence=model.licence or None,
        owner=", ".join(model.owners) or None,
        description=model.description or None,
    )
    shutil.rmtree(draft.package, ignore_errors=True)
    return build_package(
        draft.payload,
        draft.package,
        format=model.format,
        version=model.format_version or None,
        signature=signature,
        samples=golden,
        about=about,
    )


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def built(draft: PackageDraft) -> Package:
    """The package of a draft.

    Raises:
        PackageError: there is none.
    """
    return open_directory(draft.package)


def shown(package: Package) -> dict[str, Any]:
    """What people look at."""
    signature = package.content.signature
    found: dict[str, Any] = {
        "size_bytes": package.content.size,
        "files": len(package.content.files),
        "model_card": dg.MetadataValue.md(_card(package)),
    }
    if signature is not None:
        found["dagster/column_schema"] = dg.TableSchema(
            [_column("input", tensor) for tensor in signature.inputs]
            + [_column("output", tensor) for tensor in signature.outputs]
        )
    return found


def _column(side: str, tensor: TensorSpec) -> dg.TableColumn:
    return dg.TableColumn(tensor.name, f"{tensor.datatype} {tensor.shape}", description=side)


def _card(package: Package) -> str:
    about, lineage = package.about, package.about.lineage
    lines = [
        f"**{about.description or 'Model'}**",
        "",
        f"- digest `{package.digest[:12]}`, format {package.content.format}",
    ]
    lines += [f"- {name}: {value:.4g}" for name, value in about.metrics.items()]
    known = {"owner": about.owner, "licence": about.licence, "run": lineage.dagster_run, "data": lineage.data_version}
    lines += [f"- {name}: {value}" for name, value in known.items() if value]
    lines.append(f"- made with {', '.join(f'{name} {version}' for name, version in about.environment.items())}")
    return "\n".join(lines)


def judge_scan(draft: PackageDraft, model: ModelDefinition) -> GateVerdict:
    """Whether the files hold nothing that runs code beyond what models need.

    Raises:
        PackageError: the scanner is not installed.
    """
    report = scan(built(draft), Policy(frozenset(model.trusted_names)))
    figures = {"files": float(report.files), "pickles": float(report.pickles)}
    return judged("scan", [str(finding) for finding in report.findings], report.summary, metrics=figures)


def judge_signature(draft: PackageDraft, key: SigningKey, trusted: TrustedKeys) -> GateVerdict:
    """Whether the files can be signed so that those who verify believe it."""
    package = built(draft)
    try:
        signer = covers(sign_payload(draft.package / PAYLOAD, key), package.content.files, trusted)
    except PackageError as error:
        return judged("signature", [str(error)], "")
    return judged("signature", [], f"{counted(len(package.content.files), 'file')}, signed by key {signer.id[:12]}")


def publish(
    draft: PackageDraft, model: ModelDefinition, verdicts: Iterable[GateVerdict], store: ModelStore
) -> Published:
    """Publish a draft's package with its evidence, which is there before anybody sees the package.

    Raises:
        PackageError: it cannot be signed or stored.
    """
    package, key = built(draft), store.signer()
    for verdict in verdicts:
        if verdict.gate != SIGNATURE_EVIDENCE:  # That one is the signature itself.
            package.add(evidence.sign(_statement(verdict, package.digest, model.name), key))
    return publishing.publish(draft.package, store.open(), model.name, key=key)


def _statement(verdict: GateVerdict, digest: str, model: str) -> Statement:
    return Statement(
        name=verdict.gate,
        digest=digest,
        passed=verdict.passed,
        at=verdict.at,
        summary=verdict.summary[:4096],
        metrics=verdict.metrics,
        run=verdict.run,
        model=model if verdict.gate in _RELATIVE else "",
        details=[line[:4096] for line in verdict.details],
    )


def evidence_table(verdicts: Sequence[GateVerdict]) -> dg.TableMetadataValue:
    """What vouches for a package."""
    return plots.table(
        [{"evidence": v.gate, "result": v.summary, "run": v.run[:8], "at": v.at.isoformat()} for v in verdicts]
    )


def proven(found: Published, model: ModelDefinition, store: ModelStore) -> None:
    """Make sure that a published package is sound and carries the evidence of all the model's gates.

    The mesh asks the same, of everybody. This says it earlier, and on the asset.

    Raises:
        Failure: it is not; all that is missing is named.
        PackageError: the store cannot be read.
    """
    verification = verify(published(store.open(), model.name, found.digest), store.trusted())
    problems = list(verification.problems)
    for gate in model.gates:
        if gate == SIGNATURE_EVIDENCE:
            problems += [] if verification.signed_by else ["signature: the files are not signed by a trusted key"]
            continue
        given = verification.evidence.get(gate)
        if given is None or given.signer is None:
            problems.append(f"{gate}: no trusted evidence")
        elif given.statement.model not in ("", model.name):
            problems.append(f"{gate}: is about model {given.statement.model}")
        elif not given.statement.passed:
            problems.append(f"{gate}: did not pass: {given.statement.summary}")
    if problems:
        raise refusal(
            f"package {found.digest[:12]} of {model.name} may not be rolled out: {'; '.join(problems)}. "
            "Run its gates and publish it again",
            {"missing": dg.MetadataValue.json(problems)},
        )


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
