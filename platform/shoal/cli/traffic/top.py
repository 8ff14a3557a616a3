"""`shoal top`: pods, how full they are, and the hottest models, as the mesh sees them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shoal.cli import session
from shoal.cli.output import age_of, as_json, bar, show, size
from shoal.cluster.kube_client import KubeClient, Object

_FULL, _NEARLY = 0.98, 0.85


def show_top(target: session.SessionTarget, *, once: bool, interval: float, models: int) -> None:
    """`shoal top`.

    Raises:
        CliError: no mesh answers.
    """
    with contextlib.suppress(KeyboardInterrupt):
        if once:
            document = session.run(target, lambda client: session.mesh_json(client, target.namespace, "/top"))
            Console(width=None if Console().is_terminal else 200).print(render(document, models, time.time()))
        else:
            session.run(target, lambda client: _live(client, target.namespace, interval, models))


def print_top(target: session.SessionTarget) -> None:
    """`shoal top --json`: what the mesh answers.

    Raises:
        CliError: no mesh answers.
    """
    show(as_json(session.run(target, lambda client: session.mesh_json(client, target.namespace, "/top"))))


async def _live(client: KubeClient, namespace: str, interval: float, models: int) -> None:
    first = await session.mesh_json(client, namespace, "/top")
    with Live(render(first, models, time.time()), screen=True, auto_refresh=False) as live:
        while True:
            document = await session.mesh_json(client, namespace, "/top")
            live.update(render(document, models, time.time()), refresh=True)
            await asyncio.sleep(interval)


def render(document: Object, models: int, now: float) -> Group:
    """The view of one answer of `/top`."""
    return Group(_summary(document), Text(), _pods(document, now), Text(), _models(document, models, now))


def _summary(document: Object) -> Text:
    text = Text()
    hit = document.get("hitRatio")
    figures = (
        (f"{document.get('requestsPerSecond', 0):,.1f}", "requests/s"),
        (f"{document.get('coldPerSecond', 0):,.1f}", "cold/s"),
        ("-" if hit is None else f"{hit:.1%}", "hit ratio"),
        (f"{document.get('loads', 0):,}", "loads"),
        (f"{document.get('evictions', 0):,}", "evictions"),
    )
    for value, name in figures:
        text.append(value, style="bold").append(f" {name}   ")
    return text


def _pods(document: Object, now: float) -> Table:
    view = _table("POD", "RUNTIME", "OCCUPANCY", "USED", "CAPACITY", "COPIES", "LOADING", "QUEUED", "OLDEST USE")
    for pod in document.get("pods") or ():
        capacity = pod.get("capacityBytes") or 0
        share = pod.get("usedBytes", 0) / capacity if capacity else 0.0
        style = "red" if share >= _FULL else "yellow" if share >= _NEARLY else "green"
        view.add_row(
            pod["pod"] + (" (draining)" if pod.get("draining") else ""),
            pod.get("runtime", ""),
            Text(f"{bar(share, 16)} {share:4.0%}", style=style),
            size(pod.get("usedBytes", 0)),
            size(capacity),
            str(pod.get("copies", 0)),
            str(pod.get("loading", 0)),
            str(pod.get("queued", 0)),
            age_of(pod.get("oldestUse"), now),
        )
    return view


def _models(document: Object, most: int, now: float) -> Table:
    view = _table("HOTTEST MODEL", "REVISION", "REQ/S", "COPIES", "LAST USED")
    hottest: Callable[[Object], float] = lambda model: -float(model.get("requestsPerSecond") or 0)  # noqa: E731
    for model in sorted(document.get("models") or (), key=hottest)[:most]:
        view.add_row(
            model.get("endpoint") or "-",
            model["revision"],
            f"{model.get('requestsPerSecond') or 0:,.1f}",
            str(model.get("copies", 0)),
            age_of(model.get("lastUsed"), now),
        )
    return view


def _table(*columns: str) -> Table:
    view = Table(box=None, pad_edge=False, header_style="dim")
    numbers = ("USED", "CAPACITY", "COPIES", "LOADING", "QUEUED", "REQ/S")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        view.add_column(column, justify=justify, overflow="fold", no_wrap=column in ("OCCUPANCY", "POD"))
    return view
