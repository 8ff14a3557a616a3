"""Rollouts and their evidence from manifests to status, against the real API server and real packages."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from shoal.controller.evidence import EvidenceGate
from shoal.controller.kube import CONFIG_MAP, EVENT, ISVC, RUNTIME, KubeError
from shoal.controller.store import DeclarationStore
from shoal.core.rollout.record import Phase
from shoal.core.types import FailureReason, ModelState, Transition, Unplaceable
from shoal.package import evidence as statements
from shoal.package.build import build
from shoal.package.keys import generate_keys, load_signing, trusted_keys_manifest
from shoal.package.predictor import predictor_for
from shoal.package.publish import publish
from shoal.package.stores.local import LocalStore
from shoal.resources import inferenceservice
from shoal.resources.builtin import builtin_runtime
from shoal.resources.evidence import REQUIRES_EVIDENCE
from support.controller import endpoint_view, model_view, rollout_status
from support.resources import isvc, model
from waiting import until

pytestmark = pytest.mark.server
NAMESPACE = "modelmesh-serving"


def declared(path="a", *, rollout=None, predictor=None, name="m"):
    document = isvc(name, predictor=predictor or model(storage={"key": "k", "path": path}))
    if rollout is not None:
        document["spec"]["rollout"] = rollout
    return document


async def status_where(bench, check, name="m"):
    async def look():
        status = (await bench.get(ISVC, name) or {}).get("status") or {}
        return status if check(status) else None

    return await until(look)


async def told(bench, reason):
    async def look():
        events = [event for event in await bench.list(EVENT) if event["reason"] == reason]
        return events[0] if events else None

    return await until(look)


def moving(bench, active, target, phase, transition=Transition.IN_PROGRESS, **fields):
    bench.mesh.rollouts["m"] = rollout_status(phase, active=active, target=target, **fields)
    old, new = (model_view(revision, ModelState.LOADED, copies=1) for revision in (active, target))
    bench.mesh.show("m", endpoint_view(old, new, transition))


async def test_a_rollout_is_declared_and_told_until_it_is_rolled_back(bench):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, declared("a", rollout={"strategy": "blueGreen"}))
    await status_where(bench, lambda status: status.get("observedGeneration") == 1)
    active = bench.mesh.declarations["m"].revision
    await bench.apply(ISVC, declared("b", rollout={"strategy": "blueGreen"}))
    await status_where(bench, lambda status: status.get("observedGeneration") == 2)
    declaration = bench.mesh.declarations["m"]
    assert declaration.by == "shoal-controller"  # the tests' own field manager
    assert json.loads(declaration.predictor)["model"]["storage"]["path"] == "b"

    moving(bench, active, declaration.revision, Phase.PROGRESSING, paused=True, reason="step 1 waits for approval")
    status = await status_where(bench, lambda status: "rollout" in status)
    assert (status["rollout"]["phase"], status["rollout"]["revision"]) == ("Paused", declaration.revision)
    assert (await told(bench, "Paused"))["type"] == "Normal"

    blocked = Transition.BLOCKED_BY_FAILED_LOAD
    moving(bench, active, declaration.revision, Phase.ROLLED_BACK, blocked, reason="check errors failed")
    status = await status_where(bench, lambda status: status["rollout"]["phase"] == "RolledBack")
    assert status["modelStatus"]["lastFailureInfo"]["message"] == "check errors failed"
    event = await told(bench, "RolledBack")
    assert (event["type"], event["message"]) == (
        "Warning",
        f"rollout m-1 to {declaration.revision}: check errors failed",
    )


async def test_a_refused_change_is_declared_again_when_the_endpoint_changes(bench):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, declared("a", rollout={}))
    await status_where(bench, lambda status: status.get("observedGeneration") == 1)
    running = bench.mesh.declarations["m"].revision
    moving(bench, "m__isvc-0", running, Phase.PROGRESSING)
    bench.mesh.refusal = "rollout m-1 lets no other begin"
    await bench.apply(ISVC, declared("b", rollout={}))
    status = await status_where(bench, lambda status: status.get("observedGeneration") == 2)
    assert status["rollout"]["message"] == "rollout m-1 lets no other begin"
    await told(bench, "Refused")
    assert bench.mesh.declarations["m"].revision == running

    bench.mesh.refusal = ""
    moving(bench, "m__isvc-0", running, Phase.SUCCEEDED)
    await until(lambda: bench.mesh.declarations["m"].revision != running)


async def test_a_wrong_rollout_is_refused_by_the_api_with_every_field(bench):
    wrong = declared(rollout={"strategy": "canary", "steps": [{"setWeight": 5, "pause": {}}, {}]})
    with pytest.raises(KubeError, match=r"spec\.rollout\.steps\[0\].*spec\.rollout\.steps\[1\]"):
        await bench.apply(ISVC, wrong)


class Published:
    """A model published as a package, with keys to sign evidence."""

    def __init__(self, directory):
        self.claims = directory / "pvcs"
        (self.claims / "models").mkdir(parents=True)
        self.pair = generate_keys(directory / "keys")
        self.store = LocalStore(self.claims / "models", claim="models")
        source = directory / "model.json"
        source.write_text("{}")
        build(source, directory / "package", format="xgboost", version="1")
        self.published = publish(directory / "package", self.store, "m")

    @property
    def predictor(self):
        return predictor_for(self.published)

    def attest(self, name, *, passed=True):
        statement = statements.Statement(
            name=name, digest=self.published.digest, passed=passed, at=datetime.now(UTC).replace(microsecond=0)
        )
        envelope = statements.sign(statement, load_signing(self.pair.private))
        statements.add_evidence(self.store, "m", self.published.digest, envelope)

    @property
    def trust(self):
        return trusted_keys_manifest(self.pair.public, NAMESPACE)


@pytest.fixture
def package(tmp_path):
    return Published(tmp_path)


def _why(bench):
    declaration = bench.mesh.declarations.get("m")
    return declaration.unplaceable if declaration else None


async def test_a_model_without_evidence_is_held_back_until_it_has_it(bench, package, monkeypatch):
    monkeypatch.setattr("shoal.controller.evidence.RETRY_SECONDS", 0.3)
    monkeypatch.setattr("shoal.controller.isvcs.RETRY_SECONDS", 0.3)
    runtime = builtin_runtime("mlserver-1.x")
    runtime["metadata"].setdefault("annotations", {})[REQUIRES_EVIDENCE] = "scan"
    await bench.apply(RUNTIME, runtime)
    await bench.apply(CONFIG_MAP, package.trust)
    await bench.control(claims=package.claims)
    wanted = declared(predictor=package.predictor, rollout={"strategy": "blueGreen", "requires": ["golden-replay"]})
    await bench.apply(ISVC, wanted)
    await until(lambda: _why(bench) is not None)
    assert _why(bench).reason is FailureReason.EVIDENCE_MISSING
    assert "golden-replay" in _why(bench).message
    assert "scan" in _why(bench).message
    assert "shoal package attest" in _why(bench).message
    assert bench.mesh.declarations["m"].runtime is None

    package.attest("golden-replay")
    package.attest("scan")
    await until(lambda: _why(bench) is None)
    assert bench.mesh.declarations["m"].runtime == "mlserver-1.x"

    refused = bench.mesh.chooser("mt:xgboost:1")
    assert isinstance(refused, Unplaceable)
    assert refused.reason is FailureReason.EVIDENCE_MISSING
    assert "mmesh.ModelMesh" in refused.message


async def test_what_serves_already_is_not_asked_for_evidence_again(bench, package):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control(claims=package.claims)
    await bench.apply(ISVC, declared(predictor=package.predictor))
    await status_where(bench, lambda status: status.get("observedGeneration") == 1)
    assert _why(bench) is None
    await bench.apply(ISVC, declared(predictor=package.predictor, rollout={"requires": ["scan"]}))
    await status_where(bench, lambda status: status.get("observedGeneration") == 2)
    assert _why(bench) is None
    await bench.apply(ISVC, declared("another", rollout={"requires": ["scan"]}))
    await until(lambda: _why(bench) is not None)
    assert "evidence is required (scan) and cannot be found" in _why(bench).message


async def test_evidence_counts_only_if_its_key_is_trusted(package):
    store = DeclarationStore()
    gate = EvidenceGate(store, package.claims, lambda: 0.0)
    package.attest("scan")
    package.attest("data", passed=False)
    _, source = inferenceservice.parse(declared(predictor=package.predictor))
    try:
        untrusted = await gate.held_back(source, ("scan",))
        assert untrusted is not None
        assert (
            "No key is trusted in this namespace: add public keys to ConfigMap shoal-trusted-keys" in untrusted.message
        )
        store.put(CONFIG_MAP, "shoal-trusted-keys", package.trust)
        assert await gate.held_back(source, ("scan",)) is None
        failed = await gate.held_back(source, ("scan", "data"))
        assert failed is not None
        assert "data (did not pass" in failed.message
        assert await gate.held_back(source, ()) is None
    finally:
        gate.close()


async def test_a_plan_the_mesh_cannot_keep_is_told_like_a_wrong_spec(bench):
    await bench.apply(RUNTIME, builtin_runtime("mlserver-1.x"))
    await bench.control()
    await bench.apply(ISVC, declared("a"))
    await status_where(bench, lambda status: status.get("observedGeneration") == 1)
    bench.mesh.refusal = "spec.rollout: takes too many bytes"
    await bench.apply(ISVC, declared("b", rollout={}))
    status = await status_where(bench, lambda status: status.get("observedGeneration") == 2)
    assert status["modelStatus"]["transitionStatus"] == "InvalidSpec"
    assert status["modelStatus"]["lastFailureInfo"]["message"] == "spec.rollout: takes too many bytes"
