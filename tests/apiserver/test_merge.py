"""Patches: the RFCs' examples, Kubernetes' list merging, and that inputs are never changed."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.apiserver import merge
from shoal.apiserver.errors import ApiError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)
POD_SPEC = {"$ref": "#/components/schemas/V1PodSpec"}


@given(OBJECTS, JSON)
def test_a_merge_patch_is_pure_and_idempotent(target, patch) -> None:
    before = copy.deepcopy((target, patch))
    once = merge.merge_patch(target, patch)
    assert (target, patch) == before
    assert merge.merge_patch(once, patch) == once


def test_merge_patch_example_of_the_rfc() -> None:
    target = {"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["x"], "content": "c"}
    patch = {"title": "Hello!", "author": {"familyName": None}, "tags": ["y"]}
    expected = {"title": "Hello!", "author": {"givenName": "John"}, "tags": ["y"], "content": "c"}
    assert merge.merge_patch(target, patch) == expected


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": {"b/c": 1}}, [{"op": "remove", "path": "/a/b~1c"}], {"a": {}}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
        ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}, {"op": "replace", "path": "/a", "value": 2}], {"a": 2}),
    ],
)
def test_json_patch(document, operations, result) -> None:
    before = copy.deepcopy(document)
    assert merge.json_patch(document, operations) == result
    assert document == before


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({}, 400),
        ([1], 400),
        ([{"op": "test", "path": "/a", "value": True}], 422),
        ([{"op": "remove", "path": "/absent"}], 422),
        ([{"op": "replace", "path": "/l/9", "value": 1}], 422),
        ([{"op": "add", "path": "/a/b/c", "value": 1}], 422),
        ([{"op": "add", "path": "a", "value": 1}], 422),
        ([{"op": "add", "path": "/x"}], 422),
        ([{"op": "frobnicate", "path": "/a"}], 422),
        ([{"op": "move", "from": "/l", "path": "/l/0"}], 422),
        ([{"op": "remove", "path": "/a"}] * 10_001, 400),
        ([{"op": "copy", "from": "/l", "path": "/l/-"}] * 40, 400),
    ],
)
def test_json_patches_that_do_not_fit_are_refused(operations, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        merge.json_patch({"a": 1, "l": [1]}, operations)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ({"op": "remove", "path": "/absent"}, "no field 'absent' to remove"),
        ({"op": "replace", "path": "/absent", "value": 1}, "no field 'absent' to replace"),
        ({"op": "test", "path": "/absent/deep", "value": 1}, "no field 'absent'"),
        ({"op": "remove", "path": "/l/3"}, "no item '3' in a list of 1"),
    ],
)
def test_json_patches_that_do_not_fit_are_explained(operation, why: str) -> None:
    with pytest.raises(ApiError) as refused:
        merge.json_patch({"a": 1, "l": [1]}, [operation])
    assert refused.value.details["causes"][0]["message"] == why


def test_strategic_merge_merges_containers_by_name() -> None:
    spec = {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}
    patch = {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b", "$patch": "delete"}]}
    merged = merge.strategic_merge(spec, patch, POD_SPEC)
    environment = [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]
    assert merged == {"containers": [{"name": "a", "image": "1", "env": environment}]}


def test_strategic_merge_directives() -> None:
    spec = {"containers": [{"name": "a"}, {"name": "b"}], "tolerations": [{"key": "k"}], "nodeSelector": {"a": "b"}}
    patch = {
        "containers": [{"name": "c"}],
        "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}],
        "tolerations": [],
        "nodeSelector": {"$patch": "replace", "c": "d"},
    }
    merged = merge.strategic_merge(spec, patch, POD_SPEC)
    assert [container["name"] for container in merged["containers"]] == ["c", "a", "b"]
    assert (merged["tolerations"], merged["nodeSelector"]) == ([], {"c": "d"})
