"""`shoal why`: the mesh's decisions about a model, in words."""

from __future__ import annotations

from urllib.parse import quote

from shoal.cli import session
from shoal.cli.errors import CliError
from shoal.cli.output import age_of, show
from shoal.cluster.errors import ApiRequestError
from shoal.cluster.kube_client import Object


def show_why(target: session.SessionTarget, name: str) -> None:
    """`shoal why`.

    Raises:
        CliError: the mesh knows no such model or has decided nothing about it.
    """
    try:
        document = session.run(
            target, lambda client: session.mesh_json(client, target.namespace, f"/why/{quote(name, safe='')}")
        )
    except ApiRequestError as error:
        raise CliError(str(error)) from None
    decisions = document.get("decisions") or []
    if not decisions:
        raise CliError(f"nothing was decided about {name!r} yet; `shoal get isvc` lists what is declared")
    show("\n".join(tell(decision) for decision in decisions))


def tell(decision: Object, now: float | None = None) -> str:
    """One decision."""
    chosen = f" on {decision['chosen']}" if decision.get("chosen") else ""
    lines = [
        f"{age_of(decision['at'], now)} ago  {decision['what']} {decision['revision']}{chosen}: {decision['because']}"
    ]
    lines += [f"    not {rejection['pod']}: {rejection['why']}" for rejection in decision.get("rejected") or ()]
    return "\n".join(lines)
