"""What of a rollout's reports becomes observations, and what is attached when it ended."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster_shoal.rollout_watch import RolloutWatch, awaits_approval, evidence, figures_of
from shoal.client import RolloutReport


def report(now: float = 0.0, **fields: Any) -> RolloutReport:
    told = {
        "name": "m",
        "id": "m-1",
        "phase": "Progressing",
        "active": "m__old",
        "target": "m__new",
        "weight": 10.0,
        "steps": ["set weight 10%", "analyse"],
        "started": 1000.0,
        "now": 1000.0 + now,
        "deadline": 5000.0,
        "revisions": {
            "m__old": {"requests": 90, "errors": 0, "errorRate": 0.0, "p99Ms": 8.0},
            "m__new": {"requests": 10, "errors": 1, "errorRate": 0.1, "p99Ms": 9.5},
        },
        **fields,
    }
    return RolloutReport.model_validate(told)


def test_figures_are_numbers_so_that_the_ui_plots_them():
    assert figures_of(report()) == {
        "weight": 10.0,
        "requests": 10.0,
        "error_rate": 0.1,
        "p99_ms": 9.5,
        "active_error_rate": 0.0,
        "active_p99_ms": 8.0,
    }


def test_what_is_not_known_is_left_out():
    assert figures_of(report(revisions={})) == {"weight": 10.0, "requests": 0.0}


def test_every_change_is_shown_at_once_and_the_rest_every_few_seconds():
    watch = RolloutWatch()
    seen = [
        watch.see(report(0.0)),
        watch.see(report(0.5)),
        watch.see(report(1.0, weight=50.0)),
        watch.see(report(1.5, weight=50.0, phase="Paused", reason="somebody said so")),
        watch.see(report(2.0, weight=50.0, phase="Paused")),
        watch.see(report(7.0, weight=50.0, phase="Paused")),
    ]
    assert [each is not None for each in seen] == [True, False, True, True, False, True]
    assert seen[3] is not None
    assert seen[3]["message"] == "somebody said so"


def test_a_rollout_of_days_does_not_flood_the_event_log():
    watch = RolloutWatch()
    shown = sum(watch.see(report(float(second))) is not None for second in range(0, 3 * 86400, 1))
    assert 500 < shown < 5000


def test_waiting_for_people_is_told_from_a_pause_that_ends_by_itself():
    assert awaits_approval(report(phase="Paused", deadline=None))
    assert not awaits_approval(report(phase="Paused"))
    assert not awaits_approval(report(deadline=None))


def test_the_evidence_of_an_ended_rollout_is_complete_and_storable():
    watch = RolloutWatch()
    for second in (0.0, 6.0, 12.0):
        watch.see(report(second))
    ended = report(
        20.0,
        phase="RolledBack",
        ended=1020.0,
        reason="check errors failed",
        checks=[{"name": "errors", "metric": "errorRate", "verdict": "Fail", "value": 0.1, "limit": "<= 0.01"}],
        timeline=[{"at": 1000.0, "what": "started"}, {"at": 1020.0, "what": "rolled back"}],
    )
    found = evidence(ended, watch.points)
    dg.AssetObservation("rollout", metadata=found)
    assert found["rollout_seconds"] == 20.0
    assert found["checks"].records[0].data["verdict"] == "Fail"
    assert [record.data["seconds"] for record in found["timeline"].records] == [0.0, 20.0]
    assert {record.data["revision"] for record in found["before_and_after"].records} == {"m__old", "m__new"}
    assert found["progress"].value.startswith("![rollout](data:image/png;base64,")
