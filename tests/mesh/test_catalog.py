"""Declared models and endpoints are durable, and forgotten when nothing leads to them."""

import pytest

from shoal.core.types import FailureReason, Unplaceable
from shoal.mesh.api import ModelInfo
from shoal.mesh.catalog import Catalog
from shoal.mesh.records import USAGE_CHUNK, EndpointRecord, ModelRecord, decode_usage, encode_usage
from shoal.registry.open import open_registry


@pytest.fixture
async def registry(tmp_path):
    registry = await open_registry(f"sqlite:{tmp_path / 'mesh.db'}")
    yield registry
    await registry.close()


def model(name, **more):
    return ModelRecord(name, ModelInfo("mt:sklearn", f"{name}.joblib", '{"storage_key":"k"}'), "mlserver-1.x", **more)


async def reloaded(registry):
    catalog = Catalog(registry)
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


async def test_a_smaller_usage_summary_replaces_a_larger_one(registry):
    catalog = await reloaded(registry)
    for name in ("a", "b"):
        await catalog.put_model(model(name))
    await catalog.save_usage({"a": 1.0, "b": 2.0})
    await catalog.save_usage({"b": 3.0})
    assert (await reloaded(registry)).last_used == {"b": 3.0}


def test_large_summaries_are_cut_into_records():
    used = {f"model-{number:06}": float(number) for number in range(USAGE_CHUNK * 2 + 1)}
    records = dict(encode_usage(used))
    assert len(records) == 3
    assert {name: at for value in records.values() for name, at in decode_usage(value).items()} == used


def test_keys_never_show_in_text():
    assert "storage_key" not in repr(model("a"))
