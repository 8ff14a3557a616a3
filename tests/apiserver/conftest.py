from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from speeds import starts_server
from support.apiserver import NAMESPACE, ApiServer


@pytest.fixture(scope="session")
@starts_server
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    started = ApiServer(tmp_path_factory.mktemp("apiserver") / "state").start()
    yield started
    started.stop()


@pytest.fixture
def server(shared_server: ApiServer) -> Iterator[ApiServer]:
    """One running server for many tests; what a test leaves in the namespace is removed."""
    yield shared_server
    for path in (
        f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices",
        f"/apis/serving.kserve.io/v1alpha1/namespaces/{NAMESPACE}/servingruntimes",
        f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
        *(f"/api/v1/namespaces/{NAMESPACE}/{plural}" for plural in ("configmaps", "secrets", "services", "events")),
        f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims",
        f"/api/v1/namespaces/{NAMESPACE}/pods?gracePeriodSeconds=0",
    ):
        for item in shared_server.get(path.partition("?")[0])["items"]:
            if item["metadata"].get("finalizers"):
                shared_server.http.patch(
                    f"{path.partition('?')[0]}/{item['metadata']['name']}",
                    content='{"metadata":{"finalizers":null}}',
                    headers={"content-type": "application/merge-patch+json"},
                )
        shared_server.http.delete(path)


@pytest.fixture
@starts_server
def own_server(tmp_path: Path) -> Iterator[ApiServer]:
    """A server that a test may stop and start."""
    started = ApiServer(tmp_path / "state").start()
    yield started
    started.kill()
