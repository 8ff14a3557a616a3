"""What a command talks to: the embedded cluster of a state directory, or the cluster of a kubeconfig."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shoal import statedir
from shoal.cli.errors import CliError
from shoal.cluster import lock
from shoal.cluster.errors import ApiRequestError, ApiUnreachableError, ClusterError
from shoal.cluster.kube_client import ApiResource, Credentials, KubeClient, Object, read_kubeconfig
from shoal.cluster.layout import Layout
from shoal.cluster.report import ClusterReport, read_report

T = TypeVar("T")
MESH_SERVICE = "shoal-mesh:admin"


@dataclass(frozen=True, slots=True)
class SessionTarget:
    """Which cluster and namespace a command is about."""

    state_dir: Path
    namespace: str
    kubeconfig: Path | None = None
    context: str | None = None

    @property
    def embedded(self) -> bool:
        """Whether it is the embedded cluster of the state directory."""
        return self.kubeconfig is None and self.context is None

    @property
    def layout(self) -> Layout:
        """Files of the embedded cluster."""
        return Layout(self.state_dir)

    def report(self) -> ClusterReport:
        """What the embedded cluster's supervisor says.

        Raises:
            CliError: it does not run.
        """
        # One that was killed leaves its report.
        running = self.embedded and lock.holder(self.layout.lock) is not None
        report = read_report(self.layout.status) if running else None
        if report is None:
            raise CliError(f"no cluster runs on {self.state_dir}; start it with `shoal up`")
        return report

    def credentials(self) -> Credentials:
        """How to reach the API.

        Raises:
            CliError: there is no usable kubeconfig.
        """
        if not self.embedded:
            return foreign_credentials(self.kubeconfig, self.context)
        if not self.layout.kubeconfig.is_file():
            raise CliError(
                f"no cluster was started on {self.state_dir}; start it with `shoal up` or name another with --state-dir"
            )
        return read_kubeconfig(self.layout.kubeconfig)


def target(
    state_dir: Path | None, namespace: str, kubeconfig: Path | None = None, context: str | None = None
) -> SessionTarget:
    """The target that options of a command name."""
    return SessionTarget(statedir.state_dir(state_dir), namespace, kubeconfig, context)


def foreign_credentials(kubeconfig: Path | None, context: str | None) -> Credentials:
    """Credentials for a real cluster, read by the official client, which knows every kind of login.

    Raises:
        CliError: it cannot make sense of the kubeconfig.
    """
    # Half a second of imports, spent only here.
    from kubernetes import client, config

    loaded = client.Configuration()
    try:
        config.load_kube_config(str(kubeconfig) if kubeconfig else None, context, loaded)
        # The name of the key changed between releases of the client.
        keys = (loaded.get_api_key_with_prefix(name) for name in ("BearerToken", "authorization"))
        token = next((key for key in keys if key), None)
    except (config.ConfigException, OSError, TypeError) as error:
        which = f"the kubeconfig {kubeconfig}" if kubeconfig else "the kubeconfig"
        raise CliError(f"{which} cannot be used: {error}") from None
    verify: ssl.SSLContext | bool = False
    if loaded.verify_ssl:
        verify = ssl.create_default_context(cafile=loaded.ssl_ca_cert)
        if loaded.cert_file:
            verify.load_cert_chain(loaded.cert_file, loaded.key_file)
    headers = {"Authorization": token} if token else {}
    return Credentials(loaded.host.rstrip("/"), verify, headers)


def run(target: SessionTarget, work: Callable[[KubeClient], Awaitable[T]]) -> T:
    """Do something with a client of the target's API, turning its errors into the command's.

    Raises:
        CliError: with one line that says what is wrong.
    """

    async def main() -> T:
        async with KubeClient(target.credentials()) as client:
            return await work(client)

    try:
        return asyncio.run(main())
    except ApiUnreachableError as error:
        hint = f"; is it running? `shoal status --state-dir {target.state_dir}`" if target.embedded else ""
        raise CliError(f"{error}{hint}") from None
    except ApiRequestError as error:
        raise CliError(explain(error)) from None
    except ClusterError as error:
        raise CliError(str(error)) from None


def explain(error: ApiRequestError) -> str:
    """An API error for people: the message, and one line a wrong field."""
    if not error.causes:
        return str(error)
    head = str(error).split(": [", 1)[0] if len(error.causes) > 1 else ""
    fields = [f"{field}: {message}" if field else message for field, message in error.causes]
    if not head:
        known = all(message in str(error) for _, message in error.causes)
        return str(error) if known else "\n  ".join([str(error), *fields])
    return "\n  ".join([head, *fields])


async def mesh_json(client: KubeClient, namespace: str, path: str, method: str = "GET") -> Object:
    """What the mesh's admin interface answers, through the API server's service proxy.

    Raises:
        CliError: no mesh answers.
        ApiError: it refused.
    """
    services = ApiResource("", "v1", "services", "Service")
    try:
        found: Object = await client.json(method, services.path(namespace, MESH_SERVICE, "proxy") + path)
    except ApiRequestError as error:
        if error.code in (502, 503, 504) or (error.code == 404 and "shoal-mesh" in str(error)):
            raise CliError(f"the mesh of namespace {namespace} does not answer: {error}") from None
        raise
    return found
