"""What `shoal rollout` does: asks the mesh through the client, shows the answer."""

from __future__ import annotations

import contextlib
import getpass
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.live import Live

from shoal.cli.choices import Steering, duration
from shoal.cli.errors import CliError, CommandTimedOut
from shoal.cli.output import as_json as to_json
from shoal.cli.output import interactive, note, show
from shoal.cli.rollout import view
from shoal.cli.session import SessionTarget
from shoal.client import NotFound, RolloutReport, ShoalClient, ShoalError, Unreachable
from shoal.client import TimedOut as ClientTimedOut


def show_list(target: SessionTarget, *, as_json: bool) -> None:
    """`shoal rollout list`.

    Raises:
        CliError: no mesh answers.
    """
    with _client(target) as client:
        reports = sorted(client.rollouts(), key=lambda report: (not report.live, -report.started))
    if as_json:
        show(to_json({"rollouts": [_document(report) for report in reports]}))
    elif reports:
        view.printed(view.overview(reports))
    else:
        note(f"no rollouts in namespace {target.namespace}: they begin when an isvc with spec.rollout is changed")


def show_status(target: SessionTarget, name: str, *, as_json: bool) -> None:
    """`shoal rollout status`.

    Raises:
        CliError: there is no rollout, or no mesh answers.
    """
    with _client(target) as client:
        report = _newest(client, _plain(name))
    _show(report, as_json=as_json)


def follow(target: SessionTarget, name: str, rollout: str, timeout: str | None, *, as_json: bool) -> None:
    """`shoal rollout watch`.

    Raises:
        CliError: it did not succeed; its code is 1.
        TimedOut: it goes on.
    """
    seconds = None if timeout is None else duration(timeout)
    with _client(target) as client:
        last = _newest(client, _plain(name))
        reports = client.follow(last.name, rollout or last.id, seconds)
        if as_json:
            last = _as_lines(reports, last)
        elif interactive():
            last = _live(reports, last)
        else:
            last = _as_text(reports, last)
    if not last.succeeded:
        raise CliError(f"rollout {last.id} of {last.name} is {last.phase}: {last.reason or 'no reason given'}")


def steer(
    target: SessionTarget, verb: Steering, name: str, *, rollout: str, by: str, reason: str, as_json: bool
) -> None:
    """`shoal rollout pause`, `resume`, `promote`, `abort`, `retry`.

    Raises:
        CliError: it cannot be done now; the message says what can.
    """
    with _client(target) as client:
        report = client.steer(_plain(name), verb, rollout=rollout, by=by or _user(), reason=reason)
    _outcome(report, as_json=as_json)


def go_back(target: SessionTarget, name: str, to: str | None, *, by: str, reason: str, as_json: bool) -> None:
    """`shoal rollout undo`.

    Raises:
        CliError: there is nothing to go back to.
    """
    with _client(target) as client:
        report = client.undo(_plain(name), to, by=by or _user(), reason=reason)
    if report.phase == "RolledBack" and not as_json:  # there was nothing to roll out
        show(f"{report.name} declares {report.active} again, which serves everything; {report.id} is rolled back")
    else:
        _outcome(report, as_json=as_json)


def show_history(target: SessionTarget, name: str, *, as_json: bool) -> None:
    """`shoal rollout history`.

    Raises:
        CliError: there is no rollout.
    """
    with _client(target) as client:
        report = _newest(client, _plain(name))
    if as_json:
        show(to_json(_document(report)))
    else:
        view.printed(view.history(report))


@contextlib.contextmanager
def _client(target: SessionTarget) -> Iterator[ShoalClient]:
    try:
        with _connected(target) as client:
            yield client
    except ClientTimedOut as error:
        raise CommandTimedOut(str(error)) from None
    except Unreachable as error:
        hint = f"; is it running? `shoal status --state-dir {target.state_dir}`" if target.embedded else ""
        raise CliError(f"{error}{'' if '`' in str(error) else hint}") from None
    except ShoalError as error:
        raise CliError(str(error)) from None


def _connected(target: SessionTarget) -> ShoalClient:
    if target.embedded:
        return ShoalClient.from_state_dir(target.state_dir, target.namespace)
    return ShoalClient.from_kubeconfig(target.kubeconfig, target.context, target.namespace)


def _newest(client: ShoalClient, name: str) -> RolloutReport:
    try:
        return client.rollout(name)
    except NotFound:
        if client.isvc(name) is None:
            raise NotFound(f"there is no isvc {name!r} in namespace {client.namespace}") from None
        raise NotFound(
            f"isvc {name} had no rollout yet: one begins when its model is changed and it has spec.rollout"
        ) from None


def _plain(name: str) -> str:
    """A name, also when it is given as `isvc/NAME`."""
    return name.rpartition("/")[2]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown user"


def _document(report: RolloutReport) -> dict[str, Any]:
    return report.model_dump(mode="json", by_alias=True)


def _show(report: RolloutReport, *, as_json: bool) -> None:
    if as_json:
        show(to_json(_document(report)))
    else:
        view.printed(view.whole(report))


def _outcome(report: RolloutReport, *, as_json: bool) -> None:
    if as_json:
        show(to_json(_document(report)))
    else:
        show(view.line(report))


def _live(reports: Iterable[RolloutReport], last: RolloutReport) -> RolloutReport:
    with Live(view.whole(last), auto_refresh=False, vertical_overflow="visible") as screen:
        for last in reports:
            screen.update(view.whole(last), refresh=True)
    return last


def _as_text(reports: Iterable[RolloutReport], last: RolloutReport) -> RolloutReport:
    """One line whenever something happened, for logs."""
    told = 0.0
    for last in reports:
        for entry in last.timeline:
            if entry.at > told:
                show(f"{view.clock(entry.at)}  {last.name}  {entry.what}")
        told = max((entry.at for entry in last.timeline), default=told)
    view.printed(view.whole(last))
    return last


def _as_lines(reports: Iterable[RolloutReport], last: RolloutReport) -> RolloutReport:
    for last in reports:
        show(json.dumps(_document(last), ensure_ascii=False))
        sys.stdout.flush()
    return last
