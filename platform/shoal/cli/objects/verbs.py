"""`shoal apply`, `get`, `describe`, `delete`, `wait`: their options and help."""

from __future__ import annotations

from typing import Annotated

import typer

from shoal.cli.choices import Goal
from shoal.cli.options import NAMESPACE, Context, Kubeconfig, Namespace, StateDir
from shoal.cli.output import OutputFormat

_PANEL = "Declared objects"
_KIND = typer.Argument(
    metavar="KIND", help="isvc, servingruntimes, pods, copies, pvc, secrets, configmaps, events, ..."
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (apply, get, describe, delete, wait):
        app.command(rich_help_panel=_PANEL)(verb)


def apply(
    files: Annotated[
        list[str],
        typer.Option("--filename", "-f", metavar="FILE|DIR|-", help="Manifests: a file, a directory, - for stdin."),
    ],
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Declare the objects of manifests: created, configured or unchanged.

    Example: `shoal apply -f isvc.yaml`
    """
    from shoal.cli.objects.applying import apply_files
    from shoal.cli.session import target

    apply_files(target(state_dir, namespace, kubeconfig, context), files)


def get(
    kind: Annotated[str, _KIND],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these.", show_default=False)
    ] = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to print.")] = OutputFormat.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on printing changes.")] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Only objects with these labels.")] = "",
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")] = False,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List objects, or `copies`: which revision is loaded on which pod.

    Example: `shoal get isvc`, `shoal get copies`, `shoal get isvc sklearn-mnist -o yaml`
    """
    from shoal.cli.objects.listing import Query, list_objects
    from shoal.cli.session import target

    query = Query(kind, tuple(names or ()), output, watch=watch, selector=selector, everywhere=everywhere)
    list_objects(target(state_dir, namespace, kubeconfig, context), query)


def describe(
    kind: Annotated[str, _KIND],
    name: Annotated[str, typer.Argument(metavar="NAME")],
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show one object with what happened to it.

    Example: `shoal describe isvc sklearn-mnist`
    """
    from shoal.cli.objects.describing import describe_object
    from shoal.cli.session import target

    describe_object(target(state_dir, namespace, kubeconfig, context), kind, name)


def delete(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", show_default=False)] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)] = None,
    files: Annotated[
        list[str] | None, typer.Option("--filename", "-f", metavar="FILE|DIR|-", help="Objects of these manifests.")
    ] = None,
    ignore_missing: Annotated[bool, typer.Option("--ignore-not-found", help="Missing objects are no error.")] = False,
    wait_gone: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when they are gone.")] = True,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Delete objects by name or as declared in manifests.

    Example: `shoal delete isvc sklearn-mnist`, `shoal delete -f isvc.yaml`
    """
    from shoal.cli.objects.deleting import delete_objects
    from shoal.cli.session import target

    delete_objects(
        target(state_dir, namespace, kubeconfig, context),
        kind,
        tuple(names or ()),
        tuple(files or ()),
        ignore_missing=ignore_missing,
        wait_gone=wait_gone,
    )


def wait(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="isvc, or another kind with conditions.")],
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    goal: Annotated[Goal, typer.Option("--for", help="What to wait for.", case_sensitive=False)] = Goal.READY,
    timeout: Annotated[str, typer.Option(help="Such as 60s, 2m or 90.")] = "60s",
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Wait until what was last applied is in effect. Exit code 3 if it takes longer than the timeout.

    Waiting for Loaded has the model loaded if nobody uses it.

    Example: `shoal wait isvc sklearn-mnist --for Loaded --timeout 60s`
    """
    from shoal.cli.objects.waiting import wait_for
    from shoal.cli.session import target

    wait_for(target(state_dir, namespace, kubeconfig, context), kind, tuple(names), goal, timeout)
