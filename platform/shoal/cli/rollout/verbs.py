"""`shoal rollout`: its verbs, their options and help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated

import typer

from shoal.cli.choices import Steering
from shoal.cli.options import NAMESPACE, Context, Kubeconfig, Namespace, StateDir

app = typer.Typer(
    help=(
        "Follow and steer how a new revision takes over.\n\n"
        "A rollout begins when an InferenceService with `spec.rollout` (or KServe's `spec.canary`) is changed to "
        "another model: `shoal apply -f isvc.yaml`, then `shoal rollout watch NAME`. It goes on by itself, in the "
        "mesh, whoever watches; these commands look at it and steer it.\n\n"
        "Typical: `shoal rollout status NAME`; at a pause `shoal rollout resume NAME`; in doubt "
        "`shoal rollout abort NAME`; afterwards `shoal rollout undo NAME`."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class Form(StrEnum):
    """Values of `--output`."""

    TABLE = "table"
    JSON = "json"


Name = Annotated[str, typer.Argument(metavar="ISVC", help="The InferenceService.")]
Output = Annotated[Form, typer.Option("--output", "-o", help="How to print.")]
Id = Annotated[
    str, typer.Option("--rollout", metavar="ID", help="Only if the newest rollout has this id.", show_default=False)
]
By = Annotated[
    str, typer.Option("--by", help="Who asks, for the history. Default: your user name.", show_default=False)
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the history and the timeline.", show_default=False)]


@app.command(name="list")
def list_(
    output: Output = Form.TABLE,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the newest rollout of every InferenceService that had one, those under way first.

    Example: `shoal rollout list`
    """
    from shoal.cli.rollout.rolling import show_list
    from shoal.cli.session import target

    show_list(target(state_dir, namespace, kubeconfig, context), as_json=output is Form.JSON)


@app.command()
def status(
    name: Name,
    output: Output = Form.TABLE,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show the newest rollout: its steps, what both revisions answered, how the checks stand, what happened.

    Example: `shoal rollout status fraud`, `shoal rollout status fraud -o json | jq .revisions`
    """
    from shoal.cli.rollout.rolling import show_status
    from shoal.cli.session import target

    show_status(target(state_dir, namespace, kubeconfig, context), name, as_json=output is Form.JSON)


@app.command()
def watch(
    name: Name,
    rollout: Id = "",
    timeout: Annotated[
        str | None, typer.Option(help="Such as 10m. Default: as long as it takes.", show_default=False)
    ] = None,
    output: Output = Form.TABLE,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Follow a rollout to its end. Exit code 0: the new revision took over; 1: it did not; 3: the timeout was over.

    Ending the command (Ctrl-C) ends nothing but the view. `--output json` prints one report a line.

    Example: `shoal apply -f isvc.yaml && shoal rollout watch fraud --timeout 10m`
    """
    from shoal.cli.rollout.rolling import follow
    from shoal.cli.session import target

    which = target(state_dir, namespace, kubeconfig, context)
    follow(which, name, rollout, timeout, as_json=output is Form.JSON)


_STEERING: Mapping[Steering, str] = {
    "pause": """Stop a rollout where it is: the weights stay, the checks go on, the deadline waits.

Example: `shoal rollout pause fraud --reason "looking at the complaints"`""",
    "resume": """Go on where it was paused. Where a step waits for approval (`pause: {}`, a preview), this is it.

Example: `shoal rollout resume fraud`""",
    "promote": """Skip the steps that are left: the new revision takes over as soon as it has as many copies as the
active one.

Example: `shoal rollout promote fraud --reason "urgent fix"`""",
    "abort": """Roll back: the active revision answers everything again, at once. The manifest still names the new one.

Then change the manifest, or `shoal rollout retry`, or `shoal rollout undo` to declare the active one again.

Example: `shoal rollout abort fraud --reason "wrong training data"`""",
    "retry": """Begin a rollout again that was rolled back, from its first step and with nothing counted yet.

Example: `shoal rollout retry fraud`""",
}


def _steering(verb: Steering) -> Callable[..., None]:
    def command(
        name: Name,
        reason: Reason = "",
        rollout: Id = "",
        by: By = "",
        output: Output = Form.TABLE,
        namespace: Namespace = NAMESPACE,
        state_dir: StateDir = None,
        kubeconfig: Kubeconfig = None,
        context: Context = None,
    ) -> None:
        from shoal.cli.rollout.rolling import steer
        from shoal.cli.session import target

        which = target(state_dir, namespace, kubeconfig, context)
        steer(which, verb, name, rollout=rollout, by=by, reason=reason, as_json=output is Form.JSON)

    return command


for _verb, _help in _STEERING.items():
    app.command(name=_verb, help=_help)(_steering(_verb))


@app.command()
def undo(
    name: Name,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION|ID",
            help="A revision of `shoal rollout history`, its hash, or the rollout that led to it. Default: the one "
            "before, or the active one if the newest rollout did not succeed.",
            show_default=False,
        ),
    ] = None,
    reason: Reason = "",
    by: By = "",
    output: Output = Form.TABLE,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Declare an earlier revision again. At once if it is still kept (`keepRevisions`), otherwise by the strategy.

    It changes `spec.predictor`, so apply the right manifest next time, or the newer model comes back.

    Example: `shoal rollout undo fraud`, `shoal rollout undo fraud --to fraud-3`
    """
    from shoal.cli.rollout.rolling import go_back
    from shoal.cli.session import target

    which = target(state_dir, namespace, kubeconfig, context)
    go_back(which, name, to, by=by, reason=reason, as_json=output is Form.JSON)


@app.command()
def history(
    name: Name,
    output: Output = Form.TABLE,
    namespace: Namespace = NAMESPACE,
    state_dir: StateDir = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the rollouts of an InferenceService, newest first: how each ended, who started it, and why.

    Example: `shoal rollout history fraud`
    """
    from shoal.cli.rollout.rolling import show_history
    from shoal.cli.session import target

    show_history(target(state_dir, namespace, kubeconfig, context), name, as_json=output is Form.JSON)
