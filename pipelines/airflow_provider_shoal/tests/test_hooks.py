"""The hook and what Airflow knows of the provider."""

from __future__ import annotations

import asyncio
import json

import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
from airflow_provider_shoal.hooks import ShoalHook

from airflow_provider_shoal import __version__
from shoal.client import ShoalClient


def test_airflow_discovers_the_provider():
    assert ProvidersManager().providers["airflow-provider-shoal"].version == __version__
    assert ProvidersManagerTaskRuntime().hooks["shoal"].hook_class_name == "airflow_provider_shoal.hooks.ShoalHook"


def test_connection_works():
    fine, message = ShoalHook().test_connection()
    assert fine, message
    assert "namespace modelmesh-serving" in message


def test_calls_from_the_triggerer_do_not_block_it():
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        await ShoalHook().acall(ShoalClient.rollouts)
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 1


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"state_dri": "/x"}, "extra.state_dri: is no field"),
        ({"state_dir": "/nowhere"}, "shoal up"),
        ({"kubeconfig": "/nowhere/config"}, "name a kubeconfig that exists"),
    ],
)
def test_wrong_connection_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, extra: dict[str, str], says: str):
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps({"conn_type": "shoal", "extra": extra}))
    fine, message = ShoalHook("wrong").test_connection()
    assert not fine
    assert says in message
