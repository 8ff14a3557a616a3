"""`shoal rollout` against a whole embedded cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rollout_cluster import apply, fill, service
from support.cli import SHOAL, shoal

pytestmark = pytest.mark.server
APPROVAL = {
    "strategy": "canary",
    "steps": [{"setWeight": 25}, {"pause": {}}],
    "checks": [{"name": "errors", "metric": "errorRate", "max": 0.01}],
}


@pytest.fixture(scope="module")
def models(running: Path) -> Path:
    fill(running)
    return running


def serving(root: Path, name: str) -> None:
    apply(root, service(name, 0, APPROVAL))
    waited = shoal("wait", "isvc", name, "--for", "Loaded", "--timeout", "90s", state_dir=root)
    assert waited.code == 0, waited.err


def rollout(root: Path, *arguments: str) -> tuple[int, str, str]:
    done = shoal("rollout", *arguments, state_dir=root)
    assert "Traceback" not in done.err
    return done.code, done.out, done.err


def report(root: Path, name: str) -> dict[str, object]:
    code, out, err = rollout(root, "status", name, "-o", "json")
    assert code == 0, err
    return json.loads(out)


def until_paused(root: Path, name: str) -> dict[str, object]:
    with subprocess.Popen(
        [SHOAL, "rollout", "watch", name, "-o", "json", "--timeout", "60s", "--state-dir", str(root)],
        stdout=subprocess.PIPE,
        text=True,
    ) as watch:
        assert watch.stdout is not None
        try:
            return next(found for found in map(json.loads, watch.stdout) if found["phase"] == "Paused")
        finally:
            watch.kill()


def test_a_rollout_from_apply_to_undo(models: Path):
    serving(models, "steered")
    code, _, err = rollout(models, "status", "steered")
    assert (code, err.strip()) == (
        1,
        "error: isvc steered had no rollout yet: one begins when its model is changed and it has spec.rollout",
    )
    apply(models, service("steered", 1, APPROVAL))
    paused = until_paused(models, "steered")
    assert (paused["weight"], paused["by"], paused["steps"]) == (25.0, "shoal", ["set weight 25%", "wait for approval"])

    _, out, _ = rollout(models, "status", "isvc/steered")
    assert "▶  2  wait for approval" in out
    assert str(paused["target"]) in out
    assert "errors  errorRate  Waiting" in out
    assert "Go on: shoal rollout resume steered" in out
    _, out, _ = rollout(models, "list")
    assert out.splitlines()[0].split()[:4] == ["NAME", "ROLLOUT", "PHASE", "STRATEGY"]
    assert any(line.split()[:3] == ["steered", paused["id"], "Paused"] for line in out.splitlines())
    wide = shoal("get", "isvc", "steered", "-o", "wide", state_dir=models).out.splitlines()
    assert dict(zip(wide[0].split(), wide[1].split(), strict=True))["ROLLOUT"] == "Paused"
    described = shoal("describe", "isvc", "steered", state_dir=models).out
    assert "Rollout:\n  steered  rollout" in described
    assert "Paused" in described.partition("Events:")[2]

    code, _, err = rollout(models, "watch", "steered", "--timeout", "0s")
    assert code == 3
    assert f"rollout {paused['id']} of steered is still Paused after 0 s" in err
    code, _, err = rollout(models, "retry", "steered")
    assert (code, "cannot retry; possible now: resume, promote, abort" in err) == (1, True)
    code, out, err = rollout(models, "resume", "steered", "--by", "ann", "--reason", "figures are fine")
    assert code == 0, err
    assert out.startswith(f"rollout {paused['id']} of steered: ")
    code, out, _ = rollout(models, "watch", "steered", "--timeout", "60s")
    assert code == 0
    assert "resumed by ann" in out
    assert "✓  2  wait for approval" in out

    code, out, _ = rollout(models, "undo", "steered", "--reason", "worse after all")
    assert code == 0
    code, _, _ = rollout(models, "watch", "steered", "--timeout", "60s")
    assert code == 0
    assert report(models, "steered")["target"] == paused["active"]
    _, out, _ = rollout(models, "history", "steered")
    rows = [line.split()[:4] for line in out.splitlines()[1:3]]
    assert [row[1] for row in rows] == ["Succeeded", "Succeeded"]
    assert "worse after all" in out
    assert f"Kept, so that going back is instant: {paused['target']}" in out


def test_watching_a_rollout_that_is_rolled_back_fails(models: Path):
    serving(models, "aborted")
    apply(models, service("aborted", 1, APPROVAL))
    until_paused(models, "aborted")
    code, out, _ = rollout(models, "abort", "aborted", "--by", "ben", "--reason", "no")
    assert (code, "RolledBack" in out) == (0, True)
    code, out, err = rollout(models, "watch", "aborted", "-o", "json")
    assert code == 1
    assert json.loads(out)["phase"] == "RolledBack"
    assert "is RolledBack: aborted by ben: no" in err
    code, out, err = rollout(models, "retry", "aborted")
    assert code == 0, err
    paused = until_paused(models, "aborted")
    assert paused["weight"] == 25.0
    assert rollout(models, "promote", "aborted")[0] == 0
    assert rollout(models, "watch", "aborted", "--timeout", "60s")[0] == 0
    apply(models, service("aborted", 2, APPROVAL))
    begun = until_paused(models, "aborted")
    code, out, err = rollout(models, "undo", "aborted")
    assert code == 0, err
    assert f"aborted declares {paused['target']} again, which serves everything; {begun['id']} is rolled back" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "absent"), "there is no isvc 'absent' in namespace modelmesh-serving"),
        (("watch", "absent"), "there is no isvc 'absent'"),
        (("undo", "absent"), "absent"),
        (("pause", "absent"), "absent"),
    ],
)
def test_what_is_not_there_is_named(running: Path, arguments: tuple[str, ...], message: str):
    code, _, err = rollout(running, *arguments)
    assert code == 1
    assert message in err


def test_without_a_cluster_the_fix_is_named(tmp_path: Path):
    code, _, err = rollout(tmp_path, "list")
    assert code == 1
    assert "start it with `shoal up --state-dir" in err
