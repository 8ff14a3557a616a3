"""How rollouts are written down: whatever a rollout is, it reads back as it was, and fits into a record."""

import json
from dataclasses import is_dataclass, replace
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.core.rollout.plan import Analyse, Check, Metric, Pause, Plan, SetShadow, SetWeight
from shoal.core.rollout.record import MAX_TIMELINE, CheckResult, Phase, Rollout, TimelineEvent, Verdict
from shoal.mesh.state.rollout_codec import from_document, plan_document, to_document
from shoal.mesh.state.rollout_records import (
    MAX_PAST,
    MAX_PLAN_BYTES,
    MAX_PREDICTOR_BYTES,
    MAX_TEXT,
    PAST,
    Rollouts,
    decode_current,
    decode_past,
    plan_bytes,
)
from shoal.registry.protocol import MAX_VALUE_BYTES

PLAIN = Rollout("digits-1", "digits", "digits__v1", "digits__v2", Plan(), 1.0)


def any_of(kind):
    """Any value of a type, all fields of dataclasses filled in."""
    if is_dataclass(kind):
        return st.builds(kind, **{name: any_of(hint) for name, hint in get_type_hints(kind).items()})
    if get_origin(kind) is tuple:
        return st.lists(any_of(get_args(kind)[0]), max_size=3).map(tuple)
    if get_origin(kind) in (Union, UnionType):
        return st.one_of([any_of(one) for one in get_args(kind)])
    return st.from_type(kind)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(any_of(Rollout))
def test_every_rollout_reads_back_as_it_was(rollout):
    again = from_document(json.loads(json.dumps(to_document(rollout))))
    assert repr(again) == repr(rollout)  # not by ==, for not-a-number equals nothing


def test_steps_are_told_apart_by_their_kind():
    check = Check("errors", Metric.ERROR_RATE, max=0.01)
    plan = Plan(steps=(SetWeight(5), SetShadow(5), Pause(5.0), Pause(None), Analyse((), 5.0), Analyse((check,), 5.0)))
    assert [step["kind"] for step in plan_document(plan)["steps"]] == [
        "setWeight", "setShadow", "pause", "pause", "analysis", "analysis",
    ]  # fmt: skip
    assert from_document(json.loads(json.dumps(to_document(replace(PLAIN, plan=plan))))).plan == plan


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.WARMING_UP, Phase.PROGRESSING, Phase.PROMOTING])
def test_what_version_0_1_wrote_of_a_paused_rollout_is_read(phase):
    paused = replace(PLAIN, phase=phase, paused=True, paused_at=2.0)
    written = to_document(paused) | {"phase": "Paused", "paused_from": phase.value}
    del written["paused"]
    assert from_document(written) == paused
    running = to_document(PLAIN) | {"paused_from": None}
    del running["paused"]
    assert from_document(running) == PLAIN


def test_what_another_version_wrote_is_read():
    newer = to_document(PLAIN) | {"mood": "calm"}
    newer["plan"]["colour"] = "blue"
    assert from_document(newer) == PLAIN
    older = {key: value for key, value in to_document(PLAIN).items() if key not in ("timeline", "waited", "checks")}
    assert from_document(older) == PLAIN


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"phase": "Dancing"}, r"rollout\.phase: must be one of Loading"),
        ({"started": "now"}, r"rollout\.started: must be of type float"),
        ({"timeline": {}}, r"rollout\.timeline: must be of type list"),
        ({"plan": {"steps": [{"kind": "jump"}]}}, r"rollout\.plan\.steps\[0\]\.kind: must be one of setWeight"),
        ({"plan": {"checks": [{"name": "x"}]}}, r"rollout\.plan\.checks\[0\]: .*metric"),
    ],
)
def test_what_is_no_rollout_is_named(change, named):
    with pytest.raises(ValueError, match=named):
        from_document(to_document(PLAIN) | change)


def test_ended_rollouts_become_the_past_newest_first_and_bounded():
    rollouts = Rollouts(PLAIN, "first")
    for number in range(2, MAX_PAST + 4):
        loading = replace(PLAIN, id=f"digits-{number}")
        rollouts = rollouts.after(loading, f"predictor {number}").after(replace(loading, phase=Phase.SUCCEEDED), "")
    assert (rollouts.number, rollouts.current.phase) == (MAX_PAST + 3, Phase.SUCCEEDED)
    assert rollouts.predictor == f"predictor {MAX_PAST + 3}"
    assert [past.rollout.id for past in rollouts.past] == [f"digits-{n}" for n in range(MAX_PAST + 2, 2, -1)]
    assert rollouts.past[0].predictor == f"predictor {MAX_PAST + 2}"


def test_the_past_is_written_only_when_it_changes():
    first = Rollouts(PLAIN)
    second = first.after(replace(PLAIN, id="digits-2"), "")
    third = second.after(replace(PLAIN, id="digits-2", weight=500), "")
    assert [put.key for put in first.puts(None)] == ["rollouts/digits"]
    assert [put.key for put in second.puts(first)] == ["rollouts/digits", "past-rollouts/digits"]
    assert [put.key for put in third.puts(second)] == ["rollouts/digits"]


def test_the_largest_rollouts_fit_into_their_records():
    long = "ä\x01" * 5000
    checks = tuple(Check(f"c{number}", Metric.PROMETHEUS, query=long[:200]) for number in range(40))
    largest = replace(
        PLAIN,
        plan=Plan(checks=checks),
        reason=long,
        by=long,
        timeline=tuple(TimelineEvent(1.0, long) for _ in range(MAX_TIMELINE)),
        checks=tuple(CheckResult(check.name, Verdict.FAIL, message=long) for check in checks),
    )
    assert plan_bytes(largest.plan) < MAX_PLAN_BYTES
    predictor = "\x01" * MAX_PREDICTOR_BYTES
    rollouts = Rollouts(largest, predictor)
    for number in range(2, MAX_PAST + 2):
        rollouts = rollouts.after(replace(largest, id=f"digits-{number}"), predictor)
    puts = {put.key: put.value for put in rollouts.puts(None)}
    assert all(len(value) <= MAX_VALUE_BYTES for value in puts.values())
    current, past = decode_current(puts["rollouts/digits"]), decode_past(puts[f"{PAST}digits"])
    assert len(current.current.reason) == MAX_TEXT
    assert 0 < len(past) < MAX_PAST
    assert past[0].rollout.id == f"digits-{MAX_PAST}"


def test_a_predictor_too_large_to_keep_is_left_out():
    (put,) = Rollouts(PLAIN, "x" * (MAX_PREDICTOR_BYTES + 1)).puts(None)
    assert decode_current(put.value).predictor == ""
