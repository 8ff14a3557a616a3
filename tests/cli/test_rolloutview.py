"""How rollouts look, as text."""

from __future__ import annotations

import pytest

from shoal.cli.rollout.view import history, line, overview, plain, whole
from shoal.client.reports import RolloutReport

ACTIVE, TARGET = "fraud__isvc-aaaaaaaaaa", "fraud__isvc-bbbbbbbbbb"
PAST = {
    "id": "fraud-2",
    "phase": "RolledBack",
    "active": ACTIVE,
    "target": TARGET,
    "started": 800.0,
    "ended": 810.0,
}


def report(phase: str = "Progressing", **fields: object) -> RolloutReport:
    values: dict[str, object] = {
        "name": "fraud",
        "id": "fraud-3",
        "phase": phase,
        "strategy": "canary",
        "active": ACTIVE,
        "target": TARGET,
        "weight": 12.5,
        "step": 1,
        "steps": ["set weight 12.5%", "pause 30s", "set weight 50%"],
        "stepSince": 990.0,
        "started": 900.0,
        "now": 1000.0,
        "deadline": 4500.0,
        "by": "run 7",
        "revisions": {
            ACTIVE: {"requests": 1203, "errors": 1, "errorRate": 0.00083, "p50Ms": 2.1, "p90Ms": 3.4, "p99Ms": 12.3},
            TARGET: {"requests": 171, "errors": 0, "errorRate": 0.0, "p50Ms": 2.0, "p90Ms": 3.1, "p99Ms": 140.0},
        },
        "checks": [
            {
                "name": "p99",
                "metric": "latency",
                "verdict": "Fail",
                "value": 140.0,
                "baseline": 12.3,
                "limit": "<= active x 1.5",
                "samples": 171,
                "message": "slower",
            }
        ],
        "timeline": [{"at": 900.0, "what": "started by run 7"}],
    }
    return RolloutReport.model_validate(values | fields)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_rollout_under_way():
    text = plain(whole(report()))
    lines = text.splitlines()
    assert lines[0] == "fraud  rollout fraud-3  canary  Progressing  12.5% of requests on the new revision"
    assert lines[1] == "started 100s ago by run 7, deadline in 58m"
    assert lines[3:6] == [" ✓  1  set weight 12.5%", " ▶  2  pause 30s   since 10s", "    3  set weight 50%"]
    table = rows(text)
    assert [ACTIVE, "active", "87.5%", "1,203", "1", "0.08%", "2.1", "ms", "3.4", "ms", "12.3", "ms"] in table
    assert [TARGET, "new", "12.5%", "171", "0", "0.00%", "2", "ms", "3.1", "ms", "140", "ms"] in table
    assert ["p99", "latency", "Fail", "140", "ms", "12.3", "ms", "<=", "active", "x", "1.5", "171", "slower"] in table
    assert text.splitlines()[-1].endswith("started by run 7")
    assert all(line == line.rstrip() for line in lines)


def test_comparisons_are_shown_where_there_are_any():
    assert "DISAGREED" not in plain(whole(report()))
    compared = {"compared": 200, "disagreed": 3, "disagreementRate": 0.015}
    text = plain(whole(report(revisions={TARGET: compared}, shadow=20.0)))
    assert "20% shadowed" in text
    assert [TARGET, "new", "12.5%", "0", "0", "-", "-", "-", "-", "200", "1.50%"] in rows(text)


@pytest.mark.parametrize(
    ("phase", "fields", "hint"),
    [
        ("Paused", {}, "Go on: shoal rollout resume fraud"),
        ("RolledBack", {"ended": 950.0}, "Again: shoal rollout retry fraud"),
        ("Succeeded", {"ended": 950.0, "retained": [ACTIVE]}, f"Back to {ACTIVE}: shoal rollout undo fraud"),
        ("Succeeded", {"ended": 950.0}, ""),
    ],
)
def test_what_can_be_done_is_said(phase: str, fields: dict[str, object], hint: str):
    text = plain(whole(report(phase, **fields)))
    assert hint in text
    assert ("shoal rollout" in text) == bool(hint)


def test_after_success_every_step_is_done_and_the_roles_change():
    text = plain(whole(report("Succeeded", ended=950.0, weight=100.0)))
    assert text.count("✓") == 3
    assert [row[1] for row in rows(text) if row and row[0] in (ACTIVE, TARGET)] == ["before", "active"]


def test_of_an_earlier_rollout_only_what_is_remembered_is_shown():
    found = report(history=[PAST]).past("fraud-2")
    assert found is not None
    text = plain(whole(found))
    assert "REQUESTS" not in text
    assert "TIMELINE" not in text


def test_times_of_a_retried_rollout_count_from_its_first_beginning():
    timeline = [{"at": 900.0, "what": "started"}, {"at": 930.0, "what": "aborted"}, {"at": 990.0, "what": "retried"}]
    text = plain(whole(report(started=990.0, timeline=timeline)))
    assert [line.split()[1:] for line in text.splitlines()[-3:]] == [
        ["+0s", "started"], ["+30s", "aborted"], ["+90s", "retried"]
    ]  # fmt: skip


def test_one_line():
    assert (
        line(report(reason="because")) == f"rollout fraud-3 of fraud: Progressing, 12.5% on {TARGET}, step 2/3, because"
    )


def test_many_rollouts_and_those_before():
    long = "it lacks evidence and more " * 20
    table = rows(plain(overview([report("RolledBack", ended=910.0, reason=long)])))
    assert table[0][:4] == ["NAME", "ROLLOUT", "PHASE", "STRATEGY"]
    assert table[1][:7] == ["fraud", "fraud-3", "RolledBack", "canary", "12.5%", "2/3", "bbbbbbbbbb"]
    table = rows(plain(overview([report(), report("RolledBack", ended=910.0, reason="why not")])))
    assert table[1] == ["fraud", "fraud-3", "Progressing", "canary", "12.5%", "2/3", "bbbbbbbbbb", "100s", "run", "7"]
    text = plain(history(report(history=[PAST], retained=[ACTIVE])))
    assert rows(text)[2][:4] == ["fraud-2", "RolledBack", "aaaaaaaaaa", "bbbbbbbbbb"]
    assert text.endswith(f"Kept, so that going back is instant: {ACTIVE}")
