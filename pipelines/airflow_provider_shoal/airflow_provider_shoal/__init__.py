"""Shoal for Airflow 3. Nothing of Airflow is imported here: its provider manager reads `get_provider_info` often."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow's provider manager asks for by the entry point `apache_airflow_provider`."""
    return {
        "package-name": "airflow-provider-shoal",
        "name": "Shoal",
        "description": "Rolls models out to Shoal, step by step.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": "shoal",
                "hook-class-name": "airflow_provider_shoal.hooks.ShoalHook",
                "hook-name": "Shoal",
            }
        ],
    }
