"""`shoal pvc`: fills and lists the directories that are the embedded cluster's volumes."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from pathlib import Path

from shoal.cli import session
from shoal.cli.errors import CliError, UsageProblem
from shoal.cli.output import age_of, note, show, table
from shoal.cluster.kube_client import CLAIMS, KubeClient, Object
from shoal.disk import full_message, no_room

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def create_claim(target: session.SessionTarget, name: str, source: Path, *, replace: bool, size: str) -> None:
    """`shoal pvc create`.

    Raises:
        CliError: the name or the source is wrong, or the volume exists.
    """
    if not _NAME.fullmatch(name):
        raise UsageProblem(f"{name!r} is no name for a volume: use lower-case letters, digits, '-' and '.'")
    if not source.exists():
        raise CliError(f"{source} does not exist")
    destination = target.layout.pvcs / name
    if _has_content(destination) and not replace:
        raise CliError(f"volume {name} exists and is not empty; --replace empties it first")
    if not target.layout.pvcs.is_dir():
        raise CliError(f"no cluster was started on {target.state_dir}; start it with `shoal up`")
    _fill(source, destination)
    session.run(target, lambda client: declare_claim(client, target.namespace, name, size))
    show(f"persistentvolumeclaim/{name} holds {source} ({destination})")


def _has_content(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


def _fill(source: Path, destination: Path) -> None:
    """Copy beside the destination first, so that nobody reads half a model and a failure leaves what was there."""
    scratch = destination.with_name(f".{uuid.uuid4().hex}")
    try:
        scratch.mkdir(mode=0o700)
        fresh = scratch / "new"
        if source.is_dir():
            shutil.copytree(source, fresh)
        else:
            fresh.mkdir()
            shutil.copy2(source, fresh / source.name)
        before = scratch / "old"
        if destination.exists():
            destination.rename(before)
        try:
            fresh.rename(destination)
        except OSError:
            if before.exists():
                before.rename(destination)
            raise
    except (OSError, shutil.Error) as error:
        # Of a folder every file that did not fit is listed: one line says as much.
        why = full_message(destination.parent) if no_room(destination.parent) else error
        raise CliError(f"copying {source} failed: {why}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


async def declare_claim(client: KubeClient, namespace: str, name: str, size: str) -> None:
    """Create the claim unless it exists."""
    if await client.get(CLAIMS, namespace, name) is not None:
        return
    claim: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": size}},
            "volumeMode": "Filesystem",
        },
    }
    await client.create(CLAIMS, namespace, claim)


def list_claims(target: session.SessionTarget) -> None:
    """`shoal pvc list`.

    Raises:
        CliError: no cluster answers.
    """
    claims, _ = session.run(target, lambda client: client.list(CLAIMS, target.namespace))
    if not claims:
        note("no volumes; `shoal pvc create NAME --from PATH` makes one")
        return
    rows = [
        [
            claim["metadata"]["name"],
            (claim.get("status") or {}).get("phase", ""),
            str(_files(target.layout.pvcs / claim["metadata"]["name"])),
            age_of(claim["metadata"].get("creationTimestamp")),
            str(target.layout.pvcs / claim["metadata"]["name"]),
        ]
        for claim in claims
    ]
    show(table(("NAME", "STATUS", "FILES", "AGE", "DIRECTORY"), rows))


def _files(directory: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(directory))
