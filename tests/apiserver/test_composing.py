"""`shoal apply` and the real `kubectl apply`, on the client's and on the server's side, one after the other: what a
manifest no longer states goes, whoever applied it before, and what others set stays."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from shoal.cli import session
from shoal.cli.objects import applying
from support.apiserver import CONFIG_MAPS, NAMESPACE, SERVICES, ApiServer, config_map, deployment, isvc

pytestmark = pytest.mark.server


class Hands:
    """Three ways to apply a manifest to one server."""

    def __init__(self, server: ApiServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._server = server
        self._file = folder / "manifest.yaml"
        self._capsys = capsys

    def apply(self, how: str, manifest: dict[str, Any]) -> str:
        """Apply it: what is told."""
        self._file.write_text(yaml.safe_dump(manifest))
        if how == "shoal":
            target = session.target(None, NAMESPACE, kubeconfig=self._server.kubeconfig)
            self._capsys.readouterr()
            applying.apply_files(target, [str(self._file)])
            return self._capsys.readouterr().out
        options = ["--server-side"] if how == "kubectl --server-side" else []
        return self._server.kubectl("apply", *options, "-f", str(self._file))


@pytest.fixture
def hands(server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Hands:
    return Hands(server, tmp_path, capsys)


HOW = ("shoal", "kubectl", "kubectl --server-side")
PAIRS = [pair for pair in itertools.product(HOW, HOW) if pair != ("kubectl --server-side", "kubectl")]
"""All but the one in which kubectl itself leaves what it applied on the server before."""


@pytest.mark.parametrize(("first", "then"), PAIRS, ids=lambda how: how.replace(" ", ""))
def test_what_a_manifest_no_longer_states_goes_and_what_others_set_stays(
    server: ApiServer, hands: Hands, first: str, then: str
):
    both = config_map("m", kept="1", dropped="1", changed="1")
    both["metadata"]["labels"] = {"team": "a", "app": "b"}
    assert "created" in hands.apply(first, both) or "serverside-applied" in hands.apply(first, both)
    server.kubectl("label", "configmap", "m", "by=others")
    server.kubectl("patch", "configmap", "m", "--type", "merge", "-p", '{"data":{"theirs":"1"}}')
    fewer = config_map("m", kept="1", changed="2")
    fewer["metadata"]["labels"] = {"app": "b"}
    hands.apply(then, fewer)
    found = server.get(f"{CONFIG_MAPS}/m")
    assert found["data"] == {"kept": "1", "changed": "2", "theirs": "1"}
    assert found["metadata"]["labels"] == {"app": "b", "by": "others"}


@pytest.mark.parametrize(("first", "then"), PAIRS, ids=lambda how: how.replace(" ", ""))
def test_a_field_of_a_model_goes_too(server: ApiServer, hands: Hands, first: str, then: str):
    wanted = isvc()
    wanted["spec"]["predictor"]["minReplicas"] = 1
    hands.apply(first, wanted)
    del wanted["spec"]["predictor"]["minReplicas"]
    hands.apply(then, wanted)
    found = server.get(f"{SERVICES}/sklearn-mnist")
    assert "minReplicas" not in found["spec"]["predictor"]
    assert found["spec"]["predictor"]["model"]["modelFormat"] == {"name": "sklearn"}


def test_the_same_manifest_changes_nothing_whoever_applied_it(server: ApiServer, hands: Hands):
    same = config_map("m", text="a <b> & \u00e9 \u2028")
    assert "created" in hands.apply("shoal", same)
    version = server.get(f"{CONFIG_MAPS}/m")["metadata"]["resourceVersion"]
    assert "unchanged" in hands.apply("shoal", same)
    assert "unchanged" in hands.apply("kubectl", same)
    assert server.get(f"{CONFIG_MAPS}/m")["metadata"]["resourceVersion"] == version
    server.kubectl("delete", "configmap", "m")
    hands.apply("kubectl", same)
    version = server.get(f"{CONFIG_MAPS}/m")["metadata"]["resourceVersion"]
    assert "unchanged" in hands.apply("shoal", same)
    assert server.get(f"{CONFIG_MAPS}/m")["metadata"]["resourceVersion"] == version


def test_containers_others_put_in_stay(server: ApiServer, hands: Hands):
    web = deployment()
    hands.apply("kubectl", web)
    extra = {"spec": {"template": {"spec": {"containers": [{"name": "extra", "image": "mlserver:1"}]}}}}
    server.kubectl("patch", "deployment", "web", "--type", "strategic", "-p", json.dumps(extra))
    web["spec"]["template"]["spec"]["containers"][0].pop("env")
    hands.apply("shoal", web)
    found = server.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/web")["spec"]["template"]["spec"]
    assert {container["name"]: container.get("env") for container in found["containers"]} == {
        "main": None,
        "extra": None,
    }


def test_what_kubectl_applies_on_the_server_is_remembered_for_the_client(server: ApiServer, hands: Hands):
    hands.apply("kubectl", config_map("m", a="1", b="1"))
    hands.apply("kubectl --server-side", config_map("m", a="1", b="1", c="1"))
    hands.apply("kubectl", config_map("m", a="1"))
    assert server.get(f"{CONFIG_MAPS}/m")["data"] == {"a": "1"}


def test_a_refused_manifest_leaves_who_manages_what(server: ApiServer, hands: Hands):
    hands.apply("kubectl", config_map("m", a="1"))
    before = server.get(f"{CONFIG_MAPS}/m")
    wrong = config_map("m", a="2")
    wrong["date"] = {}
    with pytest.raises(Exception, match="unknown field"):
        hands.apply("shoal", wrong)
    assert server.get(f"{CONFIG_MAPS}/m") == before


@pytest.mark.parametrize("first", ["shoal", "kubectl"])
def test_fields_that_exclude_each_other_are_replaced_in_one_go(server: ApiServer, hands: Hands, first: str):
    """What the manifest takes away must be away before it is judged: the one has no effect beside the other."""
    wanted = isvc()
    wanted["spec"]["rollout"] = {"strategy": "shadow", "shadow": {"percent": 50}}
    hands.apply(first, wanted)
    wanted["spec"]["rollout"] = {"strategy": "blueGreen"}
    hands.apply("shoal", wanted)
    assert server.get(f"{SERVICES}/sklearn-mnist")["spec"]["rollout"] == {"strategy": "blueGreen"}


def test_a_manifest_that_is_invalid_whatever_goes_leaves_who_manages_what(server: ApiServer, hands: Hands):
    hands.apply("shoal", isvc())
    before = server.get(f"{SERVICES}/sklearn-mnist")
    wrong = isvc()
    wrong["spec"]["rollout"] = {"strategy": "blueGreen", "shadow": {"percent": 50}}
    with pytest.raises(Exception, match="has no effect with strategy blueGreen"):
        hands.apply("shoal", wrong)
    after = server.get(f"{SERVICES}/sklearn-mnist")
    for found in (before, after):
        del found["metadata"]["resourceVersion"]
    assert after == before
