"""`shoal release`: lets quarantined models be loaded again."""

from __future__ import annotations

from urllib.parse import quote

from shoal.cli import session
from shoal.cli.errors import CliError
from shoal.cli.output import show
from shoal.cluster.errors import ApiRequestError


def release_model(target: session.SessionTarget, name: str) -> None:
    """`shoal release`.

    Raises:
        CliError: the mesh knows no such model.
    """
    path = f"/release/{quote(name, safe='')}"
    try:
        document = session.run(target, lambda client: session.mesh_json(client, target.namespace, path, "POST"))
    except ApiRequestError as error:
        raise CliError(str(error)) from None
    released = document.get("released") or []
    lines = [f"{revision} released: it is loaded when it is asked for" for revision in released]
    show("\n".join(lines or [f"{name} is not quarantined: nothing to release"]))
