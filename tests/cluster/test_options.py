"""What the settings say that parts are started with."""

from typing import Any

import pytest

from shoal.cluster.options import MetricsOptions, ServingOptions, serving_options


def options(user: str, factory: str = "", before: ServingOptions | None = None) -> ServingOptions:
    texts = {"model-serving-config": user, "model-serving-config-defaults": factory}

    def config_map(name: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "data": {"config.yaml": texts[name]}}

    return serving_options(config_map, before or ServingOptions())


def test_what_is_not_there_is_the_default() -> None:
    assert serving_options(lambda _: None, ServingOptions(1024, True)) == ServingOptions(16777216, False)


def test_the_users_settings_win() -> None:
    assert options("grpcMaxMessageSizeBytes: 4096", "grpcMaxMessageSizeBytes: 2048\nenableAccessLogging: true") == (
        ServingOptions(4096, True)
    )


@pytest.mark.parametrize("wrong", ["grpcMaxMessageSizeBytes: 7", "grpcMaxMessageSizeBytes: 2147483648", "x: [", "a: 1"])
def test_wrong_settings_change_nothing(wrong: str) -> None:
    before = ServingOptions(4096, True)
    assert options(wrong, before=before) == before


def test_metrics_are_told_to_those_they_concern() -> None:
    default = ServingOptions()
    moved = options("metrics: {port: 9112, scheme: https}")
    assert moved.metrics == MetricsOptions(9112, https=True)
    assert (moved.of_mesh != default.of_mesh, moved.of_gateway != default.of_gateway) == (True, False)
    own = options("metrics: {perModel: true}")
    assert (own.of_mesh != default.of_mesh, own.of_gateway != default.of_gateway) == (True, True)
    assert options("metrics: {enabled: false}").metrics.port is None
    assert options("metrics: {scheme: ftp}", before=moved) is moved
