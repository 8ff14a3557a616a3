"""Whatever a manifest holds, it is accepted or explained, never crashed on."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.controller.plans import entry_plan, plan_of
from shoal.core.rollout.plan import SetWeight
from shoal.resources.inferenceservice import parse, parse_canary
from shoal.resources.kinds import kind_named
from shoal.resources.problems import InvalidManifest
from shoal.resources.settings import config_from
from shoal.resources.storage import parse_entry
from speed import times
from support.resources import example, rollout_example

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)


def _places(node, path=()):
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from _places(child, (*path, key))


def _replaced(document, path, value):
    document = copy.deepcopy(document)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return document


def _problems(read):
    """What is wrong, or None when nothing is."""
    try:
        read()
    except InvalidManifest as error:
        return error.problems
    return None


@pytest.mark.parametrize("name", ["isvc-sklearn-mnist", "isvc-legacy", "runtime-custom", "runtime-triton"])
@settings(max_examples=times(150), deadline=None)
@given(data=st.data())
def test_any_value_anywhere_is_accepted_or_explained(name, data):
    document = example(name)
    kind = kind_named(document["kind"])
    path = data.draw(st.sampled_from([path for path in _places(document) if path]))
    changed = _replaced(document, path, data.draw(_JSON))
    problems = kind.validate(changed)
    assert all(problem.path and problem.problem for problem in problems)
    if not problems:
        assert all(isinstance(warning, str) for warning in kind.warn(changed))


@pytest.mark.parametrize("name", ["canary", "outside-checks", "shadow", "evidence", "kserve-canary"])
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_a_rollout_is_accepted_or_explained(name, data):
    document = rollout_example(name)
    kind = kind_named("InferenceService")
    places = [path for path in _places(document["spec"]) if path]
    changed = document | {"spec": _replaced(document["spec"], data.draw(st.sampled_from(places)), data.draw(_JSON))}
    problems = kind.validate(changed)
    assert all(problem.path.startswith("spec") and problem.problem for problem in problems)
    if not problems:
        service, _ = parse(changed)
        canary = parse_canary(service)
        plan = entry_plan(service.spec.rollout, canary.percent) if canary else plan_of(service.spec.rollout)
        assert plan is None or all(0 <= step.weight <= 1000 for step in plan.steps if isinstance(step, SetWeight))


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_a_configuration_or_explained(text):
    problems = _problems(lambda: config_from({"data": {"config.yaml": text}}))
    assert problems is None or problems


@settings(max_examples=100, deadline=None)
@given(document=_JSON)
def test_any_json_is_a_storage_entry_or_explained(document):
    problems = _problems(lambda: parse_entry("k", json.dumps(document)))
    assert problems is None or problems
