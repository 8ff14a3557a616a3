"""Declared models and endpoints are durable, and forgotten when nothing leads to them."""

from dataclasses import replace

import pytest

from shoal.core.rollout.plan import Plan
from shoal.core.rollout.record import Phase, Rollout
from shoal.core.suspicion import Suspicion
from shoal.core.types import FailureReason, Unplaceable
from shoal.mesh.api import ModelInfo
from shoal.mesh.state.catalog import Catalog
from shoal.mesh.state.records import USAGE_CHUNK, EndpointRecord, ModelRecord, decode_usage, encode_usage
from shoal.registry.open import open_registry
from shoal.registry.protocol import Put

TERM = 1
"""That of the first election."""


@pytest.fixture
async def registry(tmp_path):
    registry, election = await open_registry(f"sqlite:{tmp_path / 'mesh.db'}")
    assert await election.campaign() == TERM
    yield registry
    await registry.close()


def model(name, **more):
    return ModelRecord(name, ModelInfo("mt:sklearn", f"{name}.joblib", '{"storage_key":"k"}'), "mlserver-1.x", **more)


async def reloaded(registry):
    catalog = Catalog(registry, TERM)
    await catalog.load()
    return catalog


async def test_everything_is_there_after_a_restart(registry):
    catalog = await reloaded(registry)
    await catalog.put_model(model("a-1", min_copies=1, max_copies=2, auto_delete=True, declared=True))
    await catalog.put_model(model("b", unplaceable=Unplaceable(FailureReason.NO_SUPPORTING_RUNTIME, "none")))
    catalog.claim("a", "isvc")
    await catalog.set_endpoint("a", "a-1", "a-1")
    await catalog.save_usage({"a-1": 12.5, "gone": 1.0})

    again = await reloaded(registry)
    assert again.models == catalog.models
    assert again.endpoints == {"a": EndpointRecord("a", "isvc", "a-1", "a-1")}
    assert again.owner("a") == "isvc"
    assert again.last_used == {"a-1": 12.5}
    assert again.referents("a-1") == {"a"}


async def test_a_new_model_becomes_durable_together_with_its_endpoint(registry, monkeypatch):
    catalog = await reloaded(registry)
    catalog.stage_model(model("a-1", auto_delete=True))
    catalog.stage_model(model("b"))
    assert (await reloaded(registry)).models == {}
    commits = []
    commit = registry.commit

    async def remember(operations, fence):
        commits.append(len(operations))
        await commit(operations, fence)

    monkeypatch.setattr(registry, "commit", remember)
    await catalog.set_endpoint("a", "a-1", "a-1")
    assert commits == [2]
    again = await reloaded(registry)
    assert again.models == {"a-1": model("a-1", auto_delete=True)}
    assert again.endpoints.keys() == {"a"}
    await catalog.put_model(model("b"))  # who registers it as well is answered only once it is durable
    await catalog.put_model(model("b"))
    assert commits == [2, 1]
    assert (await reloaded(registry)).models.keys() == {"a-1", "b"}


async def test_of_two_last_uses_the_later_one_counts_wherever_it_comes_from(registry):
    catalog = await reloaded(registry)
    for name in ("a", "b", "c"):
        await catalog.put_model(model(name))
    await catalog.save_usage({"a": 10.0, "b": 20.0})
    await catalog.save_usage({"a": 30.0, "b": 5.0})  # a's is newer, b's is stale, c was never used
    # A summary that was written in part: what is in a later record is older than what the first one says.
    await registry.commit([Put("usage/000001", b'{"a": 7.0, "c": 9.0}')], TERM)
    assert (await reloaded(registry)).last_used == {"a": 30.0, "b": 20.0, "c": 9.0}


async def test_replaced_revisions_are_forgotten_with_their_last_endpoint(registry):
    catalog = await reloaded(registry)
    for name in ("one", "two", "kept"):
        await catalog.put_model(model(name, auto_delete=name != "kept"))
    await catalog.set_endpoint("a", "one", "one")
    await catalog.set_endpoint("b", "one", "one")
    assert (await catalog.set_endpoint("a", "one", "two")).forgotten == ()
    assert (await catalog.set_endpoint("a", "two", "two")).forgotten == ()  # b still leads to `one`
    assert (await catalog.set_endpoint("b", "kept", "kept")).forgotten == ("one",)
    assert (await catalog.remove_endpoint("b")).forgotten == ()  # not marked to be deleted
    assert set((await reloaded(registry)).models) == {"two", "kept"}


async def test_models_without_any_endpoint_are_cleaned_up_at_the_next_start(registry):
    catalog = await reloaded(registry)
    await catalog.put_model(model("orphan", auto_delete=True))
    await catalog.put_model(model("registered"))
    assert set((await reloaded(registry)).models) == {"registered"}
    assert set((await reloaded(registry)).models) == {"registered"}


async def test_a_charge_outlasts_a_restart_and_goes_with_its_model(registry):
    catalog = await reloaded(registry)
    await catalog.put_model(model("bad"))
    charge = Suspicion(2, None, 5.0, "mlserver-1.x", quarantined=True)
    await catalog.set_suspicion("bad", charge)
    await catalog.set_suspicion("gone", charge)
    assert (await reloaded(registry)).suspicions == {"bad": charge}
    assert not await registry.list("suspicions/gone")
    await catalog.set_suspicion("bad", None)
    assert (await reloaded(registry)).suspicions == {}


async def test_a_smaller_usage_summary_replaces_a_larger_one(registry):
    catalog = await reloaded(registry)
    for name in ("a", "b"):
        await catalog.put_model(model(name))
    await catalog.save_usage({"a": 1.0, "b": 2.0})
    await catalog.remove_model("a")
    await catalog.save_usage({"b": 3.0})
    assert (await reloaded(registry)).last_used == {"b": 3.0}


def test_large_summaries_are_cut_into_records():
    used = {f"model-{number:06}": float(number) for number in range(USAGE_CHUNK * 2 + 1)}
    records = dict(encode_usage(used))
    assert len(records) == 3
    assert {name: at for value in records.values() for name, at in decode_usage(value).items()} == used


def test_keys_never_show_in_text():
    assert "storage_key" not in repr(model("a"))


def rollout(number, active, target, keep=2, **more):
    return Rollout(f"a-{number}", "a", active, target, Plan(keep=keep), 1.0, **more)


async def flipped(catalog, number, active, target, keep=2):
    """A rollout from one revision to another, as the core makes it durable."""
    await catalog.put_model(model(target, auto_delete=True, min_copies=1, predictor=f"how {target}"))
    running = rollout(number, active, target, keep)
    await catalog.set_endpoint("a", active, target, [running])
    return await catalog.set_endpoint("a", target, target, [replace(running, phase=Phase.SUCCEEDED)])


@pytest.fixture
async def catalog(registry):
    """Endpoint `a` leads to `one`."""
    catalog = await reloaded(registry)
    await catalog.put_model(model("one", auto_delete=True, min_copies=1))
    catalog.claim("a", "isvc")
    await catalog.set_endpoint("a", "one", "one")
    return catalog


async def test_revisions_before_stay_without_copies_until_they_fall_out(registry, catalog):
    after = await flipped(catalog, 1, "one", "two")
    assert [(kept.id, kept.min_copies) for kept in after.idle] == [("one", 0)]
    assert (await flipped(catalog, 2, "two", "three")).forgotten == ()
    assert catalog.endpoints["a"].retained == ("two", "one")
    assert catalog.referents("one") == {"a"}
    after = await flipped(catalog, 3, "three", "four")
    assert after.forgotten == ("one",)
    again = await reloaded(registry)
    assert again.endpoints == catalog.endpoints
    assert {name: kept.min_copies for name, kept in again.models.items()} == {"two": 0, "three": 0, "four": 1}
    assert again.rollouts == catalog.rollouts
    assert [past.predictor for past in again.rollouts["a"].past] == ["how three", "how two"]


async def test_a_revision_that_serves_again_is_no_longer_one_before(catalog):
    await flipped(catalog, 1, "one", "two")
    await flipped(catalog, 2, "two", "three")
    await flipped(catalog, 3, "three", "one")
    assert catalog.endpoints["a"].retained == ("three", "two")
    assert catalog.models["one"].min_copies == 1


async def test_a_change_without_a_rollout_keeps_nothing(registry, catalog):
    await flipped(catalog, 1, "one", "two")
    await catalog.put_model(model("three", auto_delete=True))
    await catalog.set_endpoint("a", "two", "three")
    assert (await catalog.set_endpoint("a", "three", "three")).forgotten == ("one", "two")
    assert set((await reloaded(registry)).models) == {"three"}


async def test_a_target_that_was_rolled_back_is_forgotten_with_the_next(catalog):
    await catalog.put_model(model("bad", auto_delete=True))
    await catalog.set_endpoint("a", "one", "bad", [rollout(1, "one", "bad")])
    await catalog.set_rollouts("a", [rollout(1, "one", "bad", phase=Phase.ROLLED_BACK)])
    assert (await flipped(catalog, 2, "one", "two")).forgotten == ()
    assert set(catalog.models) == {"one", "two"}
    assert catalog.endpoints["a"].retained == ("one",)


async def test_everything_of_an_endpoint_goes_with_it(registry, catalog):
    await flipped(catalog, 1, "one", "two")
    await flipped(catalog, 2, "two", "three")
    assert (await catalog.remove_endpoint("a")).forgotten == ("one", "three", "two")
    await catalog.set_rollouts("a", [rollout(3, "three", "four")])  # comes too late
    again = await reloaded(registry)
    assert (again.models, again.endpoints, again.rollouts) == ({}, {}, {})
    assert await registry.list("") == ()


async def test_records_of_before_there_were_rollouts_are_read(registry):
    await registry.commit(
        [
            Put("models/one", b'{"id":"one","info":{"type":"t","path":"p","key":""},"runtime":"r","auto_delete":true}'),
            Put("endpoints/a", b'{"name":"a","owner":"isvc","active":"one","target":"one"}'),
        ],
        TERM,
    )
    catalog = await reloaded(registry)
    assert catalog.endpoints["a"] == EndpointRecord("a", "isvc", "one", "one", ())
    assert catalog.models["one"].predictor == ""
    assert catalog.rollouts == {}
