"""Schedules: who is trained when, the same every day, and not all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import dagster as dg
from dagster_shoal import build_model_assets
from dagster_shoal.schedules import SLOTS, retrain_schedules, slot_of, staggered
from support.dagster import stump

NAMES = [f"model-{number}" for number in range(100)]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """On disk: a schedule's context knows its instance only by reference, which an ephemeral one has not."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def due(schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance, at: datetime) -> list[dg.RunRequest]:
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at)
    result = schedule(context)
    return result if isinstance(result, list) else []


def test_each_model_is_trained_once_an_hour_of_the_schedule_and_always_at_its_time(instance: dg.DagsterInstance):
    instance.add_dynamic_partitions("models", NAMES)
    (schedule,) = retrain_schedules(build_model_assets([stump(name) for name in NAMES]), "H 3 * * *")
    assert schedule.cron_schedule == "*/5 3 * * *"
    days = []
    for day in (1, 2):
        slots = [due(schedule, instance, datetime(2026, 5, day, 3, minute, tzinfo=UTC)) for minute in range(0, 60, 5)]
        days.append([[request.partition_key for request in slot] for slot in slots])
        assert Counter(name for slot in days[-1] for name in slot) == Counter(NAMES)
        assert max(map(len, days[-1])) < 3 * len(NAMES) / SLOTS
        keys = [request.run_key for slot in slots for request in slot]
        assert len(set(keys)) == len(keys)
        assert all(f"2026-05-0{day}T03" in str(key) for key in keys)
    assert days[0] == days[1]


def test_without_h_all_are_due_together(instance: dg.DagsterInstance):
    instance.add_dynamic_partitions("models", NAMES[:3])
    (schedule,) = retrain_schedules(build_model_assets([stump(name) for name in NAMES]), "0 3 * * *")
    assert len(due(schedule, instance, datetime(2026, 5, 1, 3, tzinfo=UTC))) == 3


def test_models_with_assets_of_their_own_have_their_own_schedules(instance: dg.DagsterInstance):
    models = build_model_assets([stump("apple"), stump("birch")], layout="assets")
    schedules = retrain_schedules(models, "H 3 * * *", "Europe/Berlin")
    assert [schedule.name for schedule in schedules] == ["apple__retrain_schedule", "birch__retrain_schedule"]
    minutes = {schedule.cron_schedule.split()[0] for schedule in schedules}
    assert minutes == {str(slot_of(name, 60)) for name in ("apple", "birch")}
    (request,) = due(schedules[0], instance, datetime(2026, 5, 1, 3, tzinfo=UTC))
    assert (request.job_name, request.partition_key) == ("apple__retrain", None)


def test_it_is_off_until_turned_on():
    (schedule,) = retrain_schedules(build_model_assets([stump()]), "H 3 * * *")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


@pytest.mark.parametrize("cron", ["daily", "H 3 * *", ""])
def test_cron_that_is_none_is_refused(cron: str):
    with pytest.raises(ValueError, match="5: minute hour day month weekday"):
        staggered(cron, None)


def test_slot_is_the_same_in_every_process():
    assert (slot_of("digits", 60), slot_of("fraud", 60)) == (37, 25)
