"""`shoal up`, `down`, `status`, `kubeconfig`, `version`: their options and help."""

from __future__ import annotations

from typing import Annotated

import typer

from shoal.cli.options import NAMESPACE, Namespace, StateDir

_PANEL = "The embedded cluster"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (up, down, status, kubeconfig, version):
        app.command(rich_help_panel=_PANEL)(verb)


def up(
    state_dir: StateDir = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready; it goes on running.")
    ] = False,
    pods_per_runtime: Annotated[
        int | None, typer.Option(min=1, max=100, help="Pods of each runtime. [default: 2]")
    ] = None,
    pod_memory: Annotated[
        str | None, typer.Option(help="Memory of a pod of the built-in runtimes, such as 512Mi. [default: 1Gi]")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Gateway's gRPC port. [default: 8033]")
    ] = None,
    rest_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Gateway's REST port. [default: 8008]")
    ] = None,
    namespace: Namespace = NAMESPACE,
) -> None:
    """Start the embedded cluster: API, mesh, gateway and pods as processes of this machine.

    What was declared before on the same state directory comes back, options given before as well.

    Example: `shoal up --detach --pods-per-runtime 2 --pod-memory 512Mi`
    """
    from shoal.cli.cluster.starting import Wishes, start

    wishes = Wishes(pods_per_runtime, pod_memory, grpc_port, rest_port, namespace)
    start(state_dir, wishes, detach=detach)


def down(
    state_dir: StateDir = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait before it is killed.")] = 60.0,
) -> None:
    """Stop the embedded cluster. What was declared stays in the state directory.

    Example: `shoal down`
    """
    from shoal.cli.cluster.starting import stop

    stop(state_dir, timeout)


def status(state_dir: StateDir = None) -> None:
    """Show how the parts of the embedded cluster are doing. Exit code 1 unless it is ready.

    Example: `shoal status`
    """
    from shoal.cli.cluster.status import show_status

    show_status(state_dir)


def kubeconfig(state_dir: StateDir = None) -> None:
    """Print the kubeconfig of the embedded cluster, for kubectl and other clients.

    Example: `shoal kubeconfig > kubeconfig && kubectl --kubeconfig kubeconfig get isvc`
    """
    from shoal.cli.cluster.starting import print_kubeconfig

    print_kubeconfig(state_dir)


def version() -> None:
    """Print the version.

    Example: `shoal version`
    """
    from importlib import metadata

    typer.echo(f"shoal {metadata.version('shoal')}")
