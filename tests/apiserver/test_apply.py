"""Server-side apply: ownership rules as Kubernetes documents them."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.apiserver import apply, fields
from shoal.apiserver.apply import Writer
from shoal.apiserver.errors import ApiError
from support.apiserver import config_map, deployment

CONFIG_MAP = {"$ref": "#/components/schemas/V1ConfigMap"}
DEPLOYMENT = {"$ref": "#/components/schemas/V1Deployment"}
DATA = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2"]), max_size=4)


def writer(name: str, operation: str = "Apply") -> Writer:
    return Writer(name, operation, "", "v1", "2026-01-01T00:00:00Z")


def owners(document) -> dict[str, set]:
    return {m["manager"]: fields.from_json(m["fieldsV1"]) for m in document["metadata"]["managedFields"]}


@given(DATA, DATA, DATA)
def test_apply_is_pure_idempotent_and_keeps_what_others_own(first, second, third) -> None:
    live = apply.apply(config_map("x"), config_map("x", **first), CONFIG_MAP, writer("one"), force=True)
    live = apply.apply(live, config_map("x", **second), CONFIG_MAP, writer("two"), force=True)
    before = copy.deepcopy(live)
    once = apply.apply(live, config_map("x", **third), CONFIG_MAP, writer("one"), force=True)
    assert live == before
    assert apply.apply(once, config_map("x", **third), CONFIG_MAP, writer("one"), force=False) == once
    assert once.get("data", {}) == {**second, **third}


def test_conflicts_name_fields_and_managers() -> None:
    live = apply.apply(config_map("x"), config_map("x", a="1", b="1"), CONFIG_MAP, writer("one"), force=False)
    with pytest.raises(ApiError) as refused:
        apply.apply(live, config_map("x", a="2", b="2"), CONFIG_MAP, writer("two"), force=False)
    assert refused.value.code == 409
    assert [(c["field"], c["reason"]) for c in refused.value.details["causes"]] == [
        (".data.a", "FieldManagerConflict"),
        (".data.b", "FieldManagerConflict"),
    ]
    same = apply.apply(live, config_map("x", a="1"), CONFIG_MAP, writer("two"), force=False)
    assert owners(same)["two"] == {("f:data", "f:a")}
    assert ("f:data", "f:a") in owners(same)["one"]


def test_containers_are_owned_one_by_one() -> None:
    live = apply.track(None, deployment(), DEPLOYMENT, writer("controller", "Update"))
    wanted = {
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "extra", "image": "y"}]}}},
    }
    merged = apply.apply(live, wanted, DEPLOYMENT, writer("injector"), force=False)
    names = [container["name"] for container in merged["spec"]["template"]["spec"]["containers"]]
    assert names == ["main", "extra"]
    nothing = {"metadata": {"name": "web"}}
    removed = apply.apply(merged, nothing, DEPLOYMENT, writer("injector"), force=False)
    assert [c["name"] for c in removed["spec"]["template"]["spec"]["containers"]] == ["main"]
    assert set(owners(removed)) == {"controller"}


def test_an_update_takes_ownership_of_what_it_changes() -> None:
    live = apply.apply(config_map("x"), config_map("x", a="1", b="1"), CONFIG_MAP, writer("one"), force=False)
    changed = {**live, "data": {"a": "2", "b": "1"}}
    tracked = apply.track(live, changed, CONFIG_MAP, writer("editor", "Update"))
    assert owners(tracked) == {"one": {("f:data", "f:b")}, "editor": {("f:data", "f:a")}}


def test_the_list_of_managers_is_bounded() -> None:
    live = config_map("x")
    for number in range(30):
        changed = {**live, "data": {**live["data"], f"k{number}": "v"}}
        live = apply.track(
            live, changed, CONFIG_MAP, Writer(f"m{number}", "Update", "", "v1", f"2026-01-01T00:00:{number:02}Z")
        )
    assert len(live["metadata"]["managedFields"]) <= apply.MAX_UPDATE_MANAGERS + 1


@given(st.sets(st.lists(st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"']), min_size=1, max_size=4).map(tuple)))
def test_field_sets_survive_their_json_form(paths) -> None:
    leaves = {p for p in paths if p[-1].startswith("k:") or not any(o[: len(p)] == p and o != p for o in paths)}
    assert fields.from_json(fields.to_json(leaves)) == leaves
