"""`shoal status`: what the supervisor says of the parts, held against the processes and the disk themselves.

A supervisor that hangs, or whose disk is full, leaves a report that was true once. Nothing of it is shown as if it were
true now.
"""

from __future__ import annotations

from pathlib import Path

from shoal import process, statedir
from shoal.cli.errors import CliError
from shoal.cli.output import age, age_of, note, show, size, table
from shoal.cluster import lock
from shoal.cluster.layout import Layout
from shoal.cluster.report import STALE_SECONDS, ClusterPhase, ClusterReport, PartReport, PartState, read_report
from shoal.disk import FULL_BYTES, Disk, disk_of, full_message

DEAD = "Dead"
UNKNOWN = "Unknown"
_ADMIN_TIMEOUT = 2.0
_PROCESSES = ("apiserver", "mesh", "gateway")


def show_status(state_dir: Path | None) -> None:
    """`shoal status`.

    Raises:
        CliError: it is not ready.
    """
    root = statedir.state_dir(state_dir)
    layout = Layout(root)
    report = read_report(layout.status)
    supervisor = lock.holder(layout.lock)
    if supervisor is None:
        failed = report.message if report is not None and report.phase is ClusterPhase.FAILED else ""
        raise CliError(f"nothing runs on {root}" + (f"; the last start failed: {failed}" if failed else "; `shoal up`"))
    disk = disk_of(root)
    if report is None:
        raise CliError(disk_problem(disk) or f"the cluster on {root} is starting")
    seen = {name: judged(part, report) for name, part in report.parts.items()}
    rows = [
        (name, state, str(part.restarts), str(part.pid or ""), message)
        for (name, part), (state, message) in zip(report.parts.items(), seen.values(), strict=True)
    ]
    show(table(("PART", "STATE", "RESTARTS", "PID", "MESSAGE"), rows))
    show(f"\ngRPC {report.addresses.grpc}   REST {report.addresses.rest}   API {report.addresses.api}")
    show(f"state in {root}, {size(disk.free_bytes)} free, supervisor pid {supervisor}")
    if disk.low:
        note(
            f"warning: the disk of {root} is nearly full: {size(disk.free_bytes)} are free; "
            f"with less than {size(FULL_BYTES)} nothing is started and no model may fit"
        )
    if warning := faults_of(report.addresses.admin):
        note(warning)
    if problem := problem_of(report, disk, {name: state for name, (state, _) in seen.items()}, supervisor):
        raise CliError(problem)


def judged(part: PartReport, report: ClusterReport) -> tuple[str, str]:
    """State and message of a part, as far as they can be true now."""
    state, message = part.state.value, part.message
    when = f"{state}{f' ({message})' if message else ''} {age(report.age())} ago"
    if part.pid is not None and _gone(part):
        return DEAD, f"the process does not live any more; it was {when}"
    if report.age() > STALE_SECONDS:
        return UNKNOWN, f"was {when}" + ("; its process lives" if part.pid is not None else "")
    return state, message


def _gone(part: PartReport) -> bool:
    now = process.started(part.pid or 0)
    return now is None or (part.started is not None and now != part.started)


def problem_of(report: ClusterReport, disk: Disk, states: dict[str, str], supervisor: int) -> str:
    """The first reason why the cluster is not ready; empty if it is."""
    if problem := disk_problem(disk):
        return problem
    if report.age() > STALE_SECONDS:
        return (
            f"the supervisor (pid {supervisor}) has not written its report for {age(report.age())}: it hangs, or is "
            "stopped; `shoal down` ends it, `shoal up` brings everything back"
        )
    if report.phase is not ClusterPhase.READY:
        return f"the cluster is {report.phase.value.lower()}"
    behind = [f"{name} is {states[name]}" for name in _PROCESSES if states.get(name) != PartState.READY]
    return f"the cluster is not ready: {', '.join(behind)}" if behind else ""


def faults_of(admin: str) -> str:
    """A warning if the mesh met defects of its own since it started; empty if it did not, or does not answer."""
    import httpx

    try:
        document = httpx.get(f"{admin}/faults", timeout=_ADMIN_TIMEOUT, trust_env=False).json()
        count, last = int(document["count"]), document["last"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ""
    if not count:
        return ""
    times = "once" if count == 1 else f"{count} times"
    return (
        f"warning: the mesh met a defect of its own {times}, the last time {age_of(last['at'])} ago: {last['message']}"
        ". It goes on; `shoal logs mesh` has the details: please report them"
    )


def disk_problem(disk: Disk) -> str:
    """Why nothing can be written; empty if something can."""
    if not disk.full:
        return ""
    left = "no further file fits" if disk.out_of_files else f"{size(disk.free_bytes)} are free"
    return (
        f"{full_message(disk.directory)}: {left}. Free some space there, and all goes on by itself: until then loaded "
        "models serve, nothing is lost, and what is declared is refused"
    )
