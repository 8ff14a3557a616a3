"""What `spec.rollout` accepts, and how it says what is wrong."""

import json
from pathlib import Path

import pytest
import yaml

from shoal.resources import inferenceservice, runtimerules
from shoal.resources.evidence import EVIDENCE, REQUIRES_EVIDENCE, required_of_runtime
from shoal.resources.kinds import kind_named
from shoal.resources.units import parse_duration
from support.resources import isvc, runtime

EXAMPLES = Path(__file__).parents[2] / "examples" / "rollouts"
ERRORS = {"name": "errors", "metric": "errorRate", "max": 0.01}


def declared(**rollout):
    manifest = isvc()
    manifest["spec"]["rollout"] = rollout
    return manifest


def said(**rollout):
    return [str(problem) for problem in inferenceservice.validate(declared(**rollout))]


def canary(*steps, **more):
    return said(strategy="canary", steps=list(steps), **more)


ACCEPTED = [
    {},
    {"strategy": "immediate", "keepRevisions": 0, "warmUp": {"requests": 3, "timeout": 5}},
    {
        "strategy": "canary",
        "steps": [
            {"setWeight": 0},
            {"setWeight": 12.5},
            {"pause": {"duration": "30s"}},
            {"pause": {"duration": 5}},
            {"pause": {}},
            {"analysis": {"timeout": "1m30s"}},
            {"analysis": {"checks": [{"name": "p50", "metric": "latency", "quantile": 0.5, "max": 20}]}},
            {"setWeight": 100},
        ],
        "checks": [
            {**ERRORS, "maxIncrease": 0.005, "minSamples": 50, "confidence": 0.99},
            {"name": "p99", "metric": "latency", "quantile": 0.99, "max": 250, "maxRatio": 1.5},
            {"name": "hook", "metric": "webhook", "url": "http://h:8080/ok", "interval": "10s", "failureLimit": 1},
            {"name": "prom", "metric": "prometheus", "url": "https://p/x", "query": "up{e='{{endpoint}}'}", "min": 1},
        ],
        "sticky": True,
        "shield": False,
        "deadline": "2h",
        "onDeadline": "pause",
        "onInconclusive": "continue",
        "onConflict": "refuse",
        "requires": list(EVIDENCE),
    },
    {"strategy": "blueGreen"},
    {"strategy": "blueGreen", "preview": {"autoPromoteAfter": "60s"}},
    {"strategy": "shadow", "checks": [{"name": "flips", "metric": "disagreementRate", "max": 0.02}]},
    {
        "strategy": "shadow",
        "shadow": {"percent": 20, "duration": "60s", "then": "promote"},
        "checks": [{"name": "drift", "metric": "scoreDrift", "max": 0.2}],
    },
    {
        "strategy": "canary",
        "steps": [{"setShadow": 50}, {"analysis": {}}, {"setShadow": 0}, {"setWeight": 10}],
        "checks": [{"name": "flips", "metric": "disagreementRate", "max": 0.02}],
    },
]


@pytest.mark.parametrize("rollout", ACCEPTED, ids=lambda rollout: rollout.get("strategy", "nothing"))
def test_every_strategy_is_accepted(rollout):
    assert said(**rollout) == []
    assert inferenceservice.warn(declared(**rollout)) == []
    service, _ = inferenceservice.parse(declared(**rollout))
    assert service.spec.rollout is not None


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([{"setWeight": 101}], "steps[0].setWeight: must be a number from 0 to 100 (percent), not 101"),
        ([{"setWeight": -1}], "steps[0].setWeight: must be a number from 0 to 100 (percent), not -1"),
        ([{"setWeight": "10"}], "steps[0].setWeight: must be a number from 0 to 100 (percent), not '10'"),
        ([{"setWeight": True}], "steps[0].setWeight: must be a number from 0 to 100 (percent), not True"),
        ([{"setWeight": 1.25}], "steps[0].setWeight: 1.25 has more than one decimal; round it, such as 12.5"),
        ([{"setWeight": 5}, {}], "steps[1]: says nothing to do; set one of setWeight, setShadow, pause, analysis; "),
        ([{"setWeight": 5, "pause": {}}], "steps[0]: has setWeight and pause; make each a step of its own"),
        ([{"pause": {"duration": "5 min"}}], 'steps[0].pause.duration: must be a duration such as "30s", "5m" or "1h"'),
        ([{"pause": {"duration": "1000h"}}], "steps[0].pause.duration: 3.6e+06 is out of range; use at most 30 days"),
        ([{"pause": 5}], "steps[0].pause: must be an object, not 5; write {duration: 5}"),
        ([{"pause": "5s"}], "steps[0].pause: must be an object, not '5s'; write {duration: 5s}"),
        ([{"pause": True}], "steps[0].pause: must be an object, not True; write an object; known there: duration"),
        (["pause"], "steps[0]: must be an object, not 'pause'; write an object; known there: analysis, pause, set"),
        ([{"pause": {"durtion": 1}}], "steps[0].pause.durtion: unknown field; did you mean 'duration'?"),
        ([{"analysis": {}}], "steps[0].analysis: has no checks; add checks here or in spec.rollout.checks"),
        ([{"analysis": {"timeout": 0}}], "steps[0].analysis.timeout: 0 is out of range; use between 1s and 7 days"),
        ([{"analysis": {"checks": [{"name": "a"}]}}], "steps[0].analysis.checks[0].metric: is required; add it"),
        ([{"setWeigth": 5}], "steps[0].setWeigth: unknown field; did you mean 'setWeight'?"),
        ([{"setWeight": 5}] * 51, "steps: list should have at most 50 items"),
        ([], "steps: is required with strategy canary; add some, such as [{setWeight: 10}, "),
    ],
)
def test_a_wrong_step_is_named_with_the_fix(steps, problem):
    assert any(line.startswith(f"spec.rollout.{problem}") for line in canary(*steps)), canary(*steps)


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ({"max": 2}, "max: 2 is out of range; use a fraction such as 0.01"),
        (
            {"maxRatio": 1.5},
            "maxRatio: has no effect with metric errorRate; remove it; errorRate has max, maxIncrease, ",
        ),
        ({"metric": "latency", "maxIncrease": 1}, "maxIncrease: has no effect with metric latency; remove it"),
        ({"metric": "latency", "max": 0}, "max: 0 is out of range; use milliseconds such as 250"),
        ({"metric": "latency", "quantile": 99}, "quantile: 99 is out of range; use a quantile such as 0.99"),
        ({"max": None}, ": has no limit for errorRate; set max or maxIncrease"),
        ({"minSamples": 0}, "minSamples: 0 is out of range"),
        ({"confidence": 95}, "confidence: 95 is out of range; use a probability such as 0.95"),
        ({"query": "up"}, "query: has no effect with metric errorRate"),
        (
            {"metric": "disagreementRate"},
            "metric: disagreementRate compares answers to shadowed requests; use strategy ",
        ),
        ({"metric": "webhook", "max": None}, "url: is required with metric webhook; add it"),
        (
            {"metric": "webhook", "max": None, "url": "ftp://h/x"},
            "url: 'ftp://h/x' is not a URL of scheme http or https",
        ),
        ({"metric": "webhook", "max": None, "url": "http://h:x/"}, "url: 'http://h:x/' is not a URL ("),
        ({"metric": "webhook", "max": None, "url": "http://me:pw@h/"}, "url: holds a user name or a password"),
        ({"metric": "webhook", "max": None, "url": "http://h", "interval": "0s"}, "interval: 0 is out of range"),
        ({"metric": "prometheus", "url": "http://p"}, "query: is required with metric prometheus; add it"),
        (
            {"metric": "prometheus", "url": "http://p", "query": "up", "max": None},
            ": has no limit for prometheus; set max",
        ),
        (
            {"metric": "prometheus", "url": "http://p", "query": "up", "max": 1, "min": 2},
            "min: 2 is above max 1; lower it",
        ),
        ({"metric": "prometheus", "url": "http://p", "query": "u" * 5000}, "query: is longer than 4096 characters"),
        ({"metric": "p99"}, "metric: must be one of errorRate, latency, disagreementRate, scoreDrift, webhook, "),
        ({"name": "a b"}, "name: string should match pattern"),
        ({"treshold": 1}, "treshold: unknown field"),
    ],
)
def test_a_wrong_check_is_named_with_the_fix(check, problem):
    given = {key: value for key, value in {**ERRORS, **check}.items() if value is not None}
    found = canary({"setWeight": 5}, checks=[given])
    at = "spec.rollout.checks[0]"
    assert any(line.startswith(at + problem if problem[0] == ":" else f"{at}.{problem}") for line in found), found
    assert "pw@" not in "".join(found)


def test_names_of_checks_tell_them_apart():
    twice = said(checks=[ERRORS, {**ERRORS, "max": 0.5}])
    assert twice == ["spec.rollout.checks[1].name: 'errors' is the name of another check; rename one"]
    step = {"analysis": {"checks": [{**ERRORS, "max": 0.5}]}}
    assert canary(step, checks=[ERRORS]) == [
        "spec.rollout.steps[0].analysis.checks[0].name: 'errors' is the name of another check; rename one"
    ]
    assert canary({"analysis": {"checks": [ERRORS]}}, checks=[ERRORS]) == []


@pytest.mark.parametrize(
    ("rollout", "problem"),
    [
        (
            {"strategy": "canry"},
            "strategy: must be one of immediate, canary, blueGreen, shadow, not 'canry'; did you mean",
        ),
        (
            {"steps": [{"setWeight": 5}]},
            "steps: has no effect with strategy immediate; set spec.rollout.strategy: canary",
        ),
        ({"strategy": "shadow", "preview": {}}, "preview: has no effect with strategy shadow"),
        (
            {"shadow": {"percent": 5}},
            "shadow: has no effect with strategy immediate; set spec.rollout.strategy: shadow",
        ),
        ({"strategy": "shadow", "shadow": {"then": "flip"}}, "shadow.then: must be one of promote, pause, not 'flip'"),
        ({"requires": ["scna"]}, "requires[0]: there is no evidence 'scna'; did you mean 'scan'?"),
        ({"keepRevisions": 11}, "keepRevisions: input should be less than or equal to 10"),
        ({"deadline": "0s"}, "deadline: 0 is out of range; use between 1s and 30 days"),
        ({"warmUp": {"requests": -1}}, "warmUp.requests: input should be greater than or equal to 0"),
        ({"warmUp": {"timeout": "2h"}}, "warmUp.timeout: 7200 is out of range; use between 1s and 1h"),
        ({"checks": [ERRORS | {"name": f"e{n}"} for n in range(21)]}, "checks: list should have at most 20 items"),
        ({"sticky": "yes"}, "sticky: must be true or false, not 'yes'"),
    ],
)
def test_what_does_not_fit_the_strategy_is_named(rollout, problem):
    assert any(line.startswith(f"spec.rollout.{problem}") for line in said(**rollout)), said(**rollout)


def test_every_wrong_field_is_reported_at_once():
    found = canary({"setWeight": 5, "pause": {}}, {}, checks=[{**ERRORS, "maxRatio": 2}], requires=["x"], preview={})
    assert len(found) == 5


def test_explaining_a_field_says_what_it_is_for():
    schema = kind_named("InferenceService").schema["properties"]["spec"]["properties"]["rollout"]
    undescribed = [
        path for path, node in _fields(schema) if not node.get("description") and node.get("type") != "object"
    ]
    assert undescribed == []
    assert schema["properties"]["steps"]["items"]["properties"]["setWeight"]["maximum"] == 100
    assert schema["properties"]["strategy"]["enum"] == ["immediate", "canary", "blueGreen", "shadow"]
    assert "$ref" not in json.dumps(schema)


def _fields(schema, path="spec.rollout"):
    for name, node in schema.get("properties", {}).items():
        yield f"{path}.{name}", node
        yield from _fields(node.get("items", node), f"{path}.{name}")


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("1h30m", 5400)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "-1s", "1s ", "1m1", "9" * 50 + "s"])
def test_no_durations(text):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_a_runtime_says_which_evidence_its_models_need():
    manifest = runtime()
    manifest["metadata"]["annotations"] = {REQUIRES_EVIDENCE: "scan, signature,,scan"}
    assert required_of_runtime(manifest["metadata"]["annotations"]) == ("scan", "signature")
    assert runtimerules.validate(manifest) == []
    manifest["metadata"]["annotations"] = {REQUIRES_EVIDENCE: "scan,signatur"}
    assert [str(problem) for problem in runtimerules.validate(manifest)] == [
        f"metadata.annotations[\"{REQUIRES_EVIDENCE}\"]: there is no evidence 'signatur'; did you mean 'signature'?"
    ]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_accepted_without_a_word(path):
    manifest = yaml.safe_load(path.read_text())
    assert inferenceservice.validate(manifest) == []
    assert inferenceservice.warn(manifest) == []
    assert manifest["metadata"]["name"] == "fraud"
