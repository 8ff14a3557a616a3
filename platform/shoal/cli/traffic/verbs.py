"""`shoal infer`, `logs`, `top`, `why`: their options and help."""

from __future__ import annotations

from typing import Annotated

import typer

from shoal.cli.options import NAMESPACE, Context, Kubeconfig, Namespace, StateDir

_PANEL = "Traffic and decisions"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (infer, logs, top, why, release):
        app.command(rich_help_panel=_PANEL)(verb)


def infer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The InferenceService.")],
    file: Annotated[str, typer.Option("--filename", "-f", metavar="FILE|-", help="The request as JSON; - for stdin.")],
    grpc: Annotated[
        bool, typer.Option("--grpc", help="Send it by gRPC (the message's JSON form) instead of REST.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(help="Gateway, such as http://host:8008. Default: the embedded one's.", show_default=False),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 60.0,
    state_dir: StateDir = None,
) -> None:
    """Send one inference request through the gateway and print the answer.

    Example: `shoal infer sklearn-mnist -f request.json`
    """
    from shoal.cli.traffic.inferring import send

    send(state_dir, name, file, by_grpc=grpc, address=address, timeout=timeout)


def logs(
    what: Annotated[
        str, typer.Argument(metavar="POD|isvc/NAME|PART", help="A part is mesh, gateway, apiserver or supervisor.")
    ],
    container: Annotated[
        str | None, typer.Option("--container", "-c", help="One container.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only so many last lines.", show_default=False)] = None,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print logs of a pod, of the pods that hold a model, or of a part of the embedded cluster.

    Example: `shoal logs isvc/sklearn-mnist -c mlserver --tail 50`, `shoal logs mesh -f`
    """
    from shoal.cli.session import target
    from shoal.cli.traffic.logs import show_logs

    show_logs(target(state_dir, namespace, kubeconfig, context), what, container, follow=follow, tail=tail)


def top(
    once: Annotated[bool, typer.Option("--once", help="Print once and end, for scripts.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    models: Annotated[int, typer.Option(min=1, max=200, help="How many of the hottest models.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print once what the mesh answers, as JSON.")] = False,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Watch pods, their occupancy and the hottest models.

    Example: `shoal top`, `shoal top --once`, `shoal top --json | jq .hitRatio`
    """
    from shoal.cli.session import target
    from shoal.cli.traffic.top import print_top, show_top

    which = target(state_dir, namespace, kubeconfig, context)
    if as_json:
        print_top(which)
    else:
        show_top(which, once=once, interval=interval, models=models)


def why(
    name: Annotated[str, typer.Argument(metavar="REVISION|ISVC")],
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Tell why a model is where it is: the decisions about it, what was chosen and what was not.

    Example: `shoal why sklearn-mnist`
    """
    from shoal.cli.session import target
    from shoal.cli.traffic.why import show_why

    show_why(target(state_dir, namespace, kubeconfig, context), name)


def release(
    name: Annotated[str, typer.Argument(metavar="REVISION|ISVC")],
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Let a quarantined model be loaded again.

    A model is quarantined when model servers died or hung twice while they were busy with it: nothing loads it until it
    changes, or is released. It is loaded on one pod first; if that goes wrong again, it is quarantined once more.

    Example: `shoal release sklearn-mnist`
    """
    from shoal.cli.session import target
    from shoal.cli.traffic.releasing import release_model

    release_model(target(state_dir, namespace, kubeconfig, context), name)
