"""The ports of an instance that nobody chose: where a program holds one on all addresses, another one is taken.

Instances keep out of each other's way by their addresses. Only a program that listens on all addresses is in the way of
every instance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields

from shoal.cluster.errors import ClusterError
from shoal.cluster.settings import (
    ACTIVATOR_GRPC_PORT,
    ACTIVATOR_HTTP_PORT,
    ADMIN_PORT,
    API_PORT,
    MANAGEMENT_PORT,
    XDS_PORT,
)
from shoal.listening import by, held_everywhere, port_owner

log = logging.getLogger(__name__)
_RESERVED = range(11881, 11900)
"""Reserved in runtime pods, upstream as well, so no container has one of them."""
_TRIES = 200


@dataclass(frozen=True, slots=True)
class ControlPorts:
    """On the address of the control plane."""

    api: int = API_PORT
    xds: int = XDS_PORT
    activator_grpc: int = ACTIVATOR_GRPC_PORT
    activator_http: int = ACTIVATOR_HTTP_PORT
    management: int = MANAGEMENT_PORT
    admin: int = ADMIN_PORT


@dataclass(frozen=True, slots=True)
class PodPorts:
    """In every runtime pod, named by no manifest."""

    prestop: int = 8090
    puller: int = 8086
    metrics: int = 8082


@dataclass(frozen=True, slots=True)
class BuiltInPorts:
    """In pods of the built-in runtimes, whose manifests Shoal writes itself."""

    adapter: int = 8085
    grpc: int = 8001
    http: int = 8002


@dataclass(frozen=True, slots=True)
class Ports:
    """All of them."""

    control: ControlPorts = ControlPorts()
    pods: PodPorts = PodPorts()
    built_in: BuiltInPorts = BuiltInPorts()


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where the parts of an instance find each other."""

    host: str
    ports: Ports = Ports()


def choose_ports(held: Callable[[int], bool] = held_everywhere) -> Ports:
    """The usual ports, each replaced if it is held on all addresses.

    Raises:
        ClusterError: there is none to replace it.
    """
    control = _free(astuple(ControlPorts()), held, (), lambda usual: range(usual + 1, usual + _TRIES))
    pods = _free(astuple(PodPorts()), held, (), lambda _: _RESERVED)
    built_in = _free(astuple(BuiltInPorts()), held, pods, lambda usual: range(usual + 1, usual + _TRIES))
    chosen = Ports(ControlPorts(*control), PodPorts(*pods), BuiltInPorts(*built_in))
    for usual, ports in (
        (ControlPorts(), chosen.control),
        (PodPorts(), chosen.pods),
        (BuiltInPorts(), chosen.built_in),
    ):
        for field in fields(usual):
            before, after = getattr(usual, field.name), getattr(ports, field.name)
            if before != after:
                owner = by(port_owner(before, ""))
                log.warning("port %d is held on all addresses%s; %d is taken instead", before, owner, after)
    return chosen


def _free(
    usual: tuple[int, ...], held: Callable[[int], bool], taken: Iterable[int], others: Callable[[int], range]
) -> tuple[int, ...]:
    """For each of `usual` itself or one of the `others`; each only once, and none of those `taken`."""
    chosen: list[int] = []
    for port in usual:
        avoided = {*usual, *chosen, *taken, *(astuple(PodPorts()))}
        found = next((each for each in (port, *(o for o in others(port) if o not in avoided)) if not held(each)), None)
        if found is None:
            raise ClusterError(f"port {port} is held on all addresses{by(port_owner(port, ''))}, and so are all others")
        chosen.append(found)
    return tuple(chosen)
