"""`shoal package`: its verbs, their options and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoal.cli.options import NAMESPACE, Context, Kubeconfig, Namespace, StateDir
from shoal.cli.output import OutputFormat

app = typer.Typer(
    help="Model packages: a model with its signature, samples, checksums and signed evidence, published as a whole.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
DEFAULT_CLAIM = "pvc://packages"
Reference = Annotated[
    str,
    typer.Argument(metavar="PACKAGE", help="Its directory, or where it is published: pvc://... or s3://..."),
]
Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Private key in PEM. Default: the state directory's own."),
]
StorageKey = Annotated[
    str | None,
    typer.Option(
        "--storage-key",
        metavar="ENTRY",
        help="Entry of the Secret storage-config to reach s3:// by. Default: the AWS_* variables.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="MODULE:NAME", help="A name that a pickle may refer to, vouched for by you."),
]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let the model bring code of its own.")]
Metrics = Annotated[list[str] | None, typer.Option("--metric", metavar="NAME=NUMBER", help="May be given often.")]
Run = Annotated[str, typer.Option("--run", help="Id or address of the run that did it.")]


@app.command()
def build(
    source: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, or a folder such as MLflow saves.")],
    output: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Directory to make.")],
    model_format: Annotated[
        str | None, typer.Option("--format", help="Model format, such as sklearn. Default: told by the files.")
    ] = None,
    version: Annotated[str | None, typer.Option("--format-version", help='Of the format, such as "1".')] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Sample requests with expected answers: V2 JSON, or .npz.", metavar="FILE")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option(help="JSON with inputs and outputs. Default: read from the model.", metavar="FILE")
    ] = None,
    metric: Metrics = None,
    requirements: Annotated[
        Path | None, typer.Option(help="What it was trained with, as pip freeze writes it.", metavar="FILE")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    licence: Annotated[str | None, typer.Option(help="Such as Apache-2.0.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    code_version: Annotated[str | None, typer.Option(help="Of the code that trained it.")] = None,
    data_version: Annotated[str | None, typer.Option(help="Of the data it was trained on.")] = None,
    parent: Annotated[str | None, typer.Option(help="Digest of the package it follows.")] = None,
    run: Run = "",
) -> None:
    """Make a package of a model that was trained, whichever way it was saved.

    Example: `shoal package build model.joblib ./digits --samples samples.json --metric accuracy=0.97 --owner ml-team`
    """
    from shoal.cli.package.packaging import Description, build_package

    lineage = {"codeVersion": code_version, "dataVersion": data_version, "parent": parent, "dagsterRun": run or None}
    about = Description(metric or [], requirements, owner, licence, description, lineage)
    build_package(source, output, model_format, version, samples, signature, about)


@app.command()
def inspect(
    package: Reference,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="table, yaml or json.")] = OutputFormat.TABLE,
    storage_key: StorageKey = None,
    trust: Annotated[list[Path] | None, typer.Option("--trust", metavar="FILE", help="Public keys to trust.")] = None,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what is in a package, what is known of it, and its evidence.

    Example: `shoal package inspect ./digits`
    """
    from shoal.cli.package.packaging import inspect_package
    from shoal.cli.package.references import Access
    from shoal.cli.session import target

    access = Access(target(state_dir, namespace, kubeconfig, context), storage_key)
    inspect_package(access, package, output, trust or [])


@app.command()
def verify(
    package: Reference,
    trust: Annotated[
        list[Path] | None,
        typer.Option("--trust", metavar="FILE", help="Public keys to trust. Default: the state directory's own."),
    ] = None,
    storage_key: StorageKey = None,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Read every byte of a package and compare it with its manifest, signature and evidence. Exit code 1 if it differs.

    Example: `shoal package verify pvc://packages/digits/0a1b2c3d4e5f`
    """
    from shoal.cli.package.packaging import verify_package
    from shoal.cli.package.references import Access
    from shoal.cli.session import target

    verify_package(Access(target(state_dir, namespace, kubeconfig, context), storage_key), package, trust or [])


@app.command()
def publish(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="Directory made by `shoal package build`.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Name to publish it under.")],
    to: Annotated[str, typer.Option(help="A directory, pvc://CLAIM[/PREFIX] or s3://BUCKET[/PREFIX].")] = DEFAULT_CLAIM,
    key: Key = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Do not sign it.")] = False,
    no_scan: Annotated[bool, typer.Option("--no-scan", help="Do not scan it; it then lacks that evidence.")] = False,
    allow: Allow = None,
    allow_code: AllowCode = False,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="table, yaml or json.")] = OutputFormat.TABLE,
    storage_key: StorageKey = None,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Scan, sign and publish a package as a whole; the same content again changes nothing.

    Prints the predictor with which an InferenceService serves it. Example: `shoal package publish ./digits -m digits`
    """
    from shoal.cli.package.packaging import Publication, publish_package
    from shoal.cli.package.references import Access
    from shoal.cli.session import target

    access = Access(target(state_dir, namespace, kubeconfig, context), storage_key)
    wishes = Publication(model, to, key, not unsigned, not no_scan, tuple(allow or ()), allow_code)
    publish_package(access, package, wishes, output)


@app.command()
def attest(
    package: Reference,
    name: Annotated[str, typer.Argument(metavar="EVIDENCE", help="Such as approval, scan or signature.")],
    failed: Annotated[bool, typer.Option("--failed", help="The check did not pass.")] = False,
    summary: Annotated[str, typer.Option(help="The result in one line.")] = "",
    metric: Metrics = None,
    run: Run = "",
    model: Annotated[str, typer.Option(help="Only count it for the model of this name.")] = "",
    key: Key = None,
    allow: Allow = None,
    allow_code: AllowCode = False,
    storage_key: StorageKey = None,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Add signed evidence to a package: `scan` scans it now, `signature` signs its files, others say what you say.

    Example: `shoal package attest pvc://packages/digits/0a1b2c3d4e5f approval --summary "reviewed by Ada"`
    """
    from shoal.cli.package.packaging import Attestation, attest_package
    from shoal.cli.package.references import Access
    from shoal.cli.session import target

    access = Access(target(state_dir, namespace, kubeconfig, context), storage_key)
    wishes = Attestation(name, not failed, summary, metric or [], run, model, key, tuple(allow or ()), allow_code)
    attest_package(access, package, wishes)


@app.command()
def keygen(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where signing.pem and signing.pub go.")],
) -> None:
    """Make a key pair to sign packages and evidence with (elliptic curve P-256).

    Example: `shoal package keygen ./keys`
    """
    from shoal.cli.package.packaging import make_keys

    make_keys(directory)
