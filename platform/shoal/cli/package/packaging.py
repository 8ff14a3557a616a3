"""What the verbs of `shoal package` do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shoal.cli import session
from shoal.cli.errors import CliError, UsageProblem
from shoal.cli.output import OutputFormat, as_json, as_yaml, note, show
from shoal.cli.package.references import (
    Access,
    claim_directory,
    explained,
    find_package,
    open_store,
    signing_key,
    trusted_keys,
)
from shoal.cli.package.view import as_document, print_card, print_verification
from shoal.cli.pvc.directories import declare_claim
from shoal.package import evidence
from shoal.package.build import build, read_signature
from shoal.package.keys import generate_keys
from shoal.package.manifest import About, problems
from shoal.package.mlflow import read_requirements
from shoal.package.names import model_name
from shoal.package.package import Package, open_directory
from shoal.package.policy import Policy
from shoal.package.predictor import predictor_for
from shoal.package.publish import Published, publish, require_whole
from shoal.package.samples import load_samples
from shoal.package.scan import EVIDENCE_NAME, ScanReport, counted, scan
from shoal.package.stores import LocalStore, PackageStore
from shoal.package.transfer import sign_package
from shoal.package.verify import verify
from shoal.resources.evidence import EVIDENCE


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a model when it is packaged."""

    metrics: Sequence[str]
    requirements: Path | None
    owner: str | None
    licence: str | None
    description: str | None
    lineage: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Publication:
    """How a package is published."""

    model: str
    to: str
    key: Path | None
    sign: bool
    scan: bool
    allow: tuple[str, ...]
    allow_code: bool


@dataclass(frozen=True, slots=True)
class Attestation:
    """What is said of a package."""

    name: str
    passed: bool
    summary: str
    metrics: Sequence[str]
    run: str
    model: str
    key: Path | None
    allow: tuple[str, ...]
    allow_code: bool


def build_package(
    source: Path,
    output: Path,
    model_format: str | None,
    version: str | None,
    samples: Path | None,
    signature: Path | None,
    description: Description,
) -> None:
    """`shoal package build`.

    Raises:
        CliError: the model or what is said of it cannot be packaged.
    """
    with explained():
        built = build(
            source.absolute(),
            output.absolute(),
            format=model_format,
            version=version,
            signature=read_signature(signature) if signature else None,
            samples=load_samples(samples) if samples else None,
            about=_about(description),
        )
    files = counted(len(built.content.files), "file")
    note(f"built {output}: {built.content.format} package {built.digest[:12]}, {files}")
    note(f"next: shoal package publish {output} --model NAME")


def inspect_package(access: Access, where: str, output: OutputFormat, trust: list[Path]) -> None:
    """`shoal package inspect`.

    Raises:
        CliError: there is no such package.
    """
    with explained():
        package, model = find_package(access, where)
        trusted = trusted_keys(access, trust)
        if output in (OutputFormat.JSON, OutputFormat.YAML):
            document = as_document(package, model, trusted)
            show(as_json(document) if output is OutputFormat.JSON else as_yaml(document))
        else:
            print_card(package, model, trusted)


def verify_package(access: Access, where: str, trust: list[Path]) -> None:
    """`shoal package verify`.

    Raises:
        CliError: it is not what was published.
    """
    with explained():
        package, _ = find_package(access, where)
        found = verify(package, trusted_keys(access, trust))
    print_verification(package, found)
    if not found.sound:
        raise CliError(
            f"package {package.digest[:12]} is not what was published ({counted(len(found.problems), 'problem')})"
        )


def publish_package(access: Access, directory: Path, wishes: Publication, output: OutputFormat) -> None:
    """`shoal package publish`.

    Raises:
        CliError: it is unsafe, or cannot be published.
    """
    with explained():
        if str(directory).startswith(("pvc:/", "s3:/")):
            raise UsageProblem(f"{directory} is published already; name the directory that was built")
        key = signing_key(access, wishes.key) if wishes.sign else None
        package = open_directory(directory.absolute())
        model_name(wishes.model)
        require_whole(package, read=False)
        store = open_store(access, wishes.to)
        if wishes.scan:
            report = _scanned(package, wishes.allow, allow_code=wishes.allow_code)
            if not report.passed:
                found = "\n  ".join(str(finding) for finding in report.findings[:20])
                raise CliError(f"not published, for its scan did not pass:\n  {found}")
            if key is not None:
                package.add(evidence.sign(report.statement(package), key))
        done = publish(directory.absolute(), store, wishes.model, key=key)
    _declare_claim(access, store, done)
    _tell(done, output)


def attest_package(access: Access, where: str, wishes: Attestation) -> None:
    """`shoal package attest`.

    Raises:
        CliError: there is no such package, or the key cannot be used.
    """
    if wishes.name in (EVIDENCE_NAME, evidence.SIGNATURE_EVIDENCE):
        _require_nothing_said(wishes)
    with explained():
        package, model = find_package(access, where)
        key = signing_key(access, wishes.key)
        if wishes.name == evidence.SIGNATURE_EVIDENCE:
            sign_package(package, key)
            note(f"signed {package.digest[:12]} by key {key.public.id[:12]}")
            return
        statement = _statement(package, wishes)
        envelope = evidence.sign(statement, key)
        if model:
            evidence.add_evidence(package.store, model, package.digest, envelope)
        else:
            package.add(envelope)
    outcome = "passed" if statement.passed else "failed"
    note(
        f"{statement.name} of {package.digest[:12]}: {outcome}"
        + (f", {statement.summary}" if statement.summary else "")
    )
    if statement.name not in EVIDENCE:
        note(f"no rollout can require {statement.name!r}: the names it may ask for are {', '.join(EVIDENCE)}")
    if wishes.name == EVIDENCE_NAME and not statement.passed:
        raise CliError("the scan did not pass; its findings are kept as evidence: `shoal package inspect`")


def make_keys(directory: Path) -> None:
    """`shoal package keygen`.

    Raises:
        CliError: there are keys already, or the directory cannot be written.
    """
    with explained():
        pair = generate_keys(directory.absolute())
    show(f"private key: {pair.private} (keep it to yourself)\npublic key:  {pair.public}")
    note(
        "to trust it in a namespace: kubectl -n modelmesh-serving patch configmap shoal-trusted-keys --type merge "
        f'-p "$(jq -Rs \'{{data: {{"NAME": .}}}}\' {pair.public})"'
    )


def _require_nothing_said(wishes: Attestation) -> None:
    said = {
        "--failed": not wishes.passed,
        "--summary": wishes.summary,
        "--metric": wishes.metrics,
        "--model": wishes.model,
    }
    if given := [option for option, value in said.items() if value]:
        raise UsageProblem(f"{wishes.name} is found out, not said: leave out {', '.join(given)}")


def _statement(package: Package, wishes: Attestation) -> evidence.Statement:
    if wishes.name == EVIDENCE_NAME:
        return _scanned(package, wishes.allow, allow_code=wishes.allow_code).statement(package, wishes.run)
    fields: dict[str, Any] = {
        "name": wishes.name,
        "digest": package.digest,
        "passed": wishes.passed,
        "at": evidence.now(),
        "summary": wishes.summary,
        "metrics": _numbers(wishes.metrics),
        "run": wishes.run,
        "model": wishes.model,
    }
    try:
        return evidence.Statement.model_validate(fields)
    except ValidationError as error:
        raise UsageProblem(problems(evidence.Statement, error)) from None


def _scanned(package: Package, allow: Sequence[str], *, allow_code: bool) -> ScanReport:
    return scan(package, Policy(allow), allow_code=allow_code)


def _about(given: Description) -> About:
    fields: dict[str, Any] = {
        "created": evidence.now(),
        "metrics": _numbers(given.metrics),
        "environment": read_requirements(given.requirements) if given.requirements else {},
        "lineage": {name: value for name, value in given.lineage.items() if value is not None},
        "owner": given.owner,
        "licence": given.licence,
        "description": given.description,
    }
    try:
        return About.model_validate(fields)
    except ValidationError as error:
        raise UsageProblem(problems(About, error)) from None


def _numbers(pairs: Sequence[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            numbers[name] = float(number)
        except ValueError:
            raise UsageProblem(f"--metric {pair!r} must be NAME=NUMBER, such as accuracy=0.97") from None
    return numbers


def _declare_claim(access: Access, store: PackageStore, done: Published) -> None:
    """A package on a volume is only served if the volume is declared."""
    claim = done.address.parameters.get("name")
    if not isinstance(store, LocalStore) or claim is None:
        return
    claim_directory(access, claim)
    session.run(access.target, lambda client: declare_claim(client, access.target.namespace, claim, "1Gi"))


def _tell(done: Published, output: OutputFormat) -> None:
    document = {
        "model": done.model,
        "digest": done.digest,
        "uri": done.uri,
        "created": done.created,
        "predictor": predictor_for(done),
    }
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        show(as_json(document) if output is OutputFormat.JSON else as_yaml(document))
        return
    how = "published" if done.created else "was published before, its content stays"
    note(f"{done.model} {done.digest[:12]}: {how} ({done.uri.removesuffix('/model')})")
    if not done.address.parameters:
        note("to serve it, publish to pvc://CLAIM or s3://BUCKET, or copy it there")
        return
    show(as_yaml({"predictor": document["predictor"]}))
    if done.address.parameters.get("type") == "s3":
        note("pods cannot reach it yet: publish again with --storage-key ENTRY, an entry of the Secret storage-config")
