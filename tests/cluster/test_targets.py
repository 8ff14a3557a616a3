"""What Prometheus is told to scrape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shoal.cluster.options import MetricsOptions
from shoal.cluster.targets import targets, write_targets

HOST = "127.64.7.1"


def pod(name: str, address: str | None = "127.64.7.10", **annotations: str) -> dict[str, Any]:
    told = {f"prometheus.io/{key}": value for key, value in annotations.items()}
    return {"metadata": {"name": name, "namespace": "ns", "annotations": told}, "status": {"podIP": address}}


def test_the_mesh_is_where_its_settings_say() -> None:
    [entry] = targets(HOST, "ns", MetricsOptions(9112, https=True, service="mm"), [])
    labels = {"__scheme__": "https", "namespace": "ns", "pod": "mm-mesh"}
    assert entry == {"targets": ["127.64.7.1:9112"], "labels": labels}
    assert targets(HOST, "ns", MetricsOptions(None), []) == []


def test_pods_are_scraped_that_ask_for_it() -> None:
    pods = [
        pod("plain", scrape="true", port="8082"),
        pod("odd", "127.64.7.11", scrape="true", port="1", path="/m", scheme="https"),
        pod("silent"),
        pod("off", scrape="false", port="8082"),
        pod("portless", scrape="true"),
        pod("starting", None, scrape="true", port="8082"),
        {"metadata": {"name": "bare", "namespace": "ns"}},
    ]
    plain = {"__scheme__": "http", "__metrics_path__": "/metrics", "namespace": "ns", "pod": "plain"}
    odd = {"__scheme__": "https", "__metrics_path__": "/m", "namespace": "ns", "pod": "odd"}
    assert targets(HOST, "ns", MetricsOptions(None), pods) == [
        {"targets": ["127.64.7.10:8082"], "labels": plain},
        {"targets": ["127.64.7.11:1"], "labels": odd},
    ]


def test_the_file_is_replaced_only_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    entries = targets(HOST, "ns", MetricsOptions(), [])
    write_targets(path, entries)
    before = path.stat().st_ino
    write_targets(path, entries)
    assert path.stat().st_ino == before
    write_targets(path, [])
    assert json.loads(path.read_text()) == []
    assert list(tmp_path.iterdir()) == [path]
