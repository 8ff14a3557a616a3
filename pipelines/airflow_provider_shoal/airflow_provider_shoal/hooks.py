"""`ShoalHook`: a client of the cluster that a connection names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airflow.sdk import BaseHook
from asgiref.sync import sync_to_async

from shoal.client import ShoalClient, ShoalError

T = TypeVar("T")
_EXTRA = ("kubeconfig", "context", "state_dir", "namespace", "gateway")


class ShoalHook(BaseHook):
    """Connects to a Shoal cluster.

    The extra of the connection may hold `kubeconfig` and `context`, or `state_dir` for an embedded cluster; `namespace`
    of the InferenceServices; `gateway`, the base URL for requests.
    """

    conn_name_attr = "shoal_conn_id"
    default_conn_name = "shoal_default"
    conn_type = "shoal"
    hook_name = "Shoal"

    def __init__(self, shoal_conn_id: str = default_conn_name) -> None:
        """`shoal_conn_id`: which connection."""
        super().__init__()
        self.shoal_conn_id = shoal_conn_id

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """What the form of a connection shows: only the extra."""
        return {
            "hidden_fields": ["host", "schema", "login", "password", "port"],
            "relabeling": {},
            "placeholders": {"extra": '{"kubeconfig": "/path/to/kubeconfig", "namespace": "modelmesh-serving"}'},
        }

    def get_conn(self) -> ShoalClient:
        """A client; close it, or use it as a context manager.

        Raises:
            ShoalError: the cluster cannot be connected to.
            ValueError: the extra has a field that is none.
        """
        return client_of(self.get_connection(self.shoal_conn_id).extra_dejson)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the mesh answers, for the button in the UI."""
        try:
            with self.get_conn() as client:
                return True, f"{len(client.rollouts())} rollouts in namespace {client.namespace}"
        except (ShoalError, ValueError) as error:
            return False, str(error)

    async def acall(self, call: Callable[[ShoalClient], T]) -> T:
        """The answer of a call, in a thread beside the triggerer's event loop. Raises what the call raises."""
        connection = await self.aget_connection(self.shoal_conn_id)
        extra = connection.extra_dejson

        def ask() -> T:
            with client_of(extra) as client:
                return call(client)

        return await sync_to_async(ask, thread_sensitive=False)()


def client_of(extra: Mapping[str, Any]) -> ShoalClient:
    """A client of the cluster that the extra of a connection describes.

    Raises:
        ShoalError: it cannot be connected to.
        ValueError: the extra has a field that is none.
    """
    if unknown := set(extra) - set(_EXTRA):
        raise ValueError(f"extra.{sorted(unknown)[0]}: is no field of a Shoal connection; use {', '.join(_EXTRA)}")
    known = {name: str(value) for name, value in extra.items() if value}
    namespace = {"namespace": known["namespace"]} if "namespace" in known else {}
    if "state_dir" in known:
        return ShoalClient.from_state_dir(known["state_dir"], **namespace)
    return ShoalClient.from_kubeconfig(
        known.get("kubeconfig"), known.get("context"), gateway=known.get("gateway", ""), **namespace
    )
