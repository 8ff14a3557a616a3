"""Small rules: selectors, names, ages, columns, paths, and that the generated schemas are current."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shoal.apiserver import clock, paths, schemagen, selectors, tables
from shoal.apiserver.errors import ApiError
from shoal.apiserver.kinds import served_kinds

KINDS = served_kinds()
DOCUMENT = {"metadata": {"name": "x", "labels": {"app": "web", "tier": "a"}}, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    ("labels", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier!=b", True),
        ("app!=web", False),
        ("absent!=x", True),
        ("tier in (a, b), app", True),
        ("tier notin (a)", False),
        ("!absent", True),
        ("!app", False),
        ("app in ()", False),
    ],
)
def test_label_selectors(labels: str, matches: bool) -> None:
    assert selectors.parse(labels, "", frozenset()).matches(DOCUMENT) is matches


@pytest.mark.parametrize("labels", ["=x", "a=b=c", "a in", "a in (b", "-bad-=x", "a,,b", "a=!"])
def test_wrong_label_selectors(labels: str) -> None:
    with pytest.raises(ApiError) as refused:
        selectors.parse(labels, "", frozenset())
    assert refused.value.code == 400


def test_field_selectors() -> None:
    known = frozenset({"status.phase", "metadata.name"})
    assert selectors.parse("", "status.phase=Running,metadata.name!=y", known).matches(DOCUMENT)
    assert not selectors.parse("", "status.phase==Failed", known).matches(DOCUMENT)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(5, "5s"), (119, "119s"), (150, "2m30s"), (3600, "60m"), (14_460, "4h1m"), (259_200, "3d"), (69_120_000, "2y70d")],
)
def test_ages_as_kubectl_shows_them(seconds: int, shown: str) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    assert clock.age(clock.stamp(now - timedelta(seconds=seconds)), now) == shown


def test_json_paths_of_columns() -> None:
    document = {"status": {"conditions": [{"type": "A", "status": "no"}, {"type": "Ready", "status": "True"}]}}
    assert tables.json_path(".status.conditions[?(@.type=='Ready')].status")(document) == ["True"]
    assert tables.json_path(".status.conditions[*].type")(document) == ["A", "Ready"]
    assert tables.json_path(".status.conditions[0].type")(document) == ["A"]
    with pytest.raises(ValueError, match="not understood"):
        tables.json_path(".a[?(@.b>1)]")


def test_paths() -> None:
    target = paths.parse("/apis/apps/v1/namespaces/ns/deployments/web/scale", KINDS)
    assert (target.kind.kind, target.namespace, target.name, target.subresource) == ("Deployment", "ns", "web", "scale")
    namespace = paths.parse("/api/v1/namespaces/ns/status", KINDS)
    assert (namespace.kind.kind, namespace.name, namespace.subresource) == ("Namespace", "ns", "status")
    proxied = paths.parse("/api/v1/namespaces/ns/services/mesh:admin/proxy/why/a", KINDS)
    assert (proxied.name, proxied.rest) == ("mesh:admin", "why/a")


@pytest.mark.parametrize("path", ["/", "/api/v1", "/api/v1/x", "/apis/apps/v1/deployments/web", "/api/v1/pods/a/b/c/d"])
def test_paths_that_name_nothing(path: str) -> None:
    with pytest.raises(ApiError) as refused:
        paths.parse(path, KINDS)
    assert refused.value.code == 404


def test_core_schemas_are_current() -> None:
    assert schemagen.TARGET.read_text() == schemagen.render(), "run: python -m shoal.apiserver.schemagen"
