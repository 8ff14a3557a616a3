"""`shoal pvc`: volumes of the embedded cluster, which are directories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoal.cli.options import NAMESPACE, Namespace, StateDir

app = typer.Typer(
    help="Volumes of the embedded cluster: directories that models are read from. Deleting a claim keeps its files.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    source: Annotated[Path, typer.Option("--from", metavar="PATH", help="A file or directory to copy into it.")],
    replace: Annotated[bool, typer.Option("--replace", help="Empty it first if it exists.")] = False,
    size: Annotated[str, typer.Option(help="Capacity to show; nothing limits it.")] = "1Gi",
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
) -> None:
    """Copy a file or a directory's content into a volume, and declare its PersistentVolumeClaim.

    Example: `shoal pvc create my-models-pvc --from ./models`
    """
    from shoal.cli.pvc.directories import create_claim
    from shoal.cli.session import target

    create_claim(target(state_dir, namespace), name, source, replace=replace, size=size)


@app.command(name="list")
def list_(namespace: Namespace = NAMESPACE, state_dir: StateDir = None) -> None:
    """List the volumes with the directories they are.

    Example: `shoal pvc list`
    """
    from shoal.cli.pvc.directories import list_claims
    from shoal.cli.session import target

    list_claims(target(state_dir, namespace))
