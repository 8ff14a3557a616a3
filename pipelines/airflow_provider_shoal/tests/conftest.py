"""A connection to the embedded cluster that the caller started: `SHOAL_TEST_STATE_DIR` says where.

`tests/airflow` of the repository starts one, with three models on the claim `models`, and runs these tests by the
Python that has Airflow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from shoal.client import ShoalClient

STATE_DIR = os.environ["SHOAL_TEST_STATE_DIR"]


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """`shoal_default`, as an administrator may set it."""
    extra = {"state_dir": STATE_DIR}
    monkeypatch.setenv("AIRFLOW_CONN_SHOAL_DEFAULT", json.dumps({"conn_type": "shoal", "extra": extra}))


@pytest.fixture
def client() -> Iterator[ShoalClient]:
    """A client of the cluster."""
    with ShoalClient.from_state_dir(STATE_DIR) as client:
        yield client
