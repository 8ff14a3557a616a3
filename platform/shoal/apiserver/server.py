"""Run the embedded API server: open the state directory, listen, and stop without losing anything."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import uuid
from pathlib import Path
from types import FrameType

import uvicorn

from shoal.apiserver import auth, clock, core, kubeconfig, tls
from shoal.apiserver.history import MAX_CHANGES
from shoal.apiserver.http import Application
from shoal.apiserver.kinds import Kinds, served_kinds
from shoal.apiserver.lifecycle import NAMESPACES, Deletion, now_stamp
from shoal.apiserver.objects import for_create
from shoal.apiserver.state import Key, StateDraft
from shoal.apiserver.store import ObjectStore

NAMESPACES_AT_START = ("default", "kube-system", "kube-public", kubeconfig.DEFAULT_NAMESPACE)
_STOP_SECONDS = 5

_log = logging.getLogger(__name__)


def prepare(draft: StateDraft, kinds: Kinds) -> None:
    """Make the namespaces every instance has, and collect what a crash left without owners."""
    kind = kinds.by_resource(NAMESPACES)
    at = clock.stamp(clock.now())
    for name in NAMESPACES_AT_START:
        key = Key(NAMESPACES, "", name)
        if draft.get(key) is None:
            document = for_create(kind, {"metadata": {"name": name}}, "", uid=str(uuid.uuid4()), at=at, suffix="")
            core.default_namespace(document)
            draft.put(key, document)
    deletion = Deletion(draft, kinds, now_stamp())
    for record in draft.with_owners():
        deletion.collect(record.key)


class _Server(uvicorn.Server):
    """Ends the watches before uvicorn waits for open connections."""

    application: Application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.application.hub.close()
        super().handle_exit(sig, frame)


async def serve(state_dir: Path, host: str, port: int, *, history: int = MAX_CHANGES) -> None:
    """Serve until SIGTERM or SIGINT. Port 0 takes a free one; the kubeconfig written says which.

    `history` is how many changes are kept for watches to resume from.

    Raises:
        StoreError: the state directory is in use by another server.
        OSError: the address cannot be listened on.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificates = tls.ensure(state_dir / "tls", host)
    token = auth.ensure_token(state_dir / "token")
    kinds = served_kinds()
    store = ObjectStore(state_dir / "apiserver.db", max_changes=history)
    try:
        await store.write(lambda draft: prepare(draft, kinds))
        application = Application(store, kinds, token, state_dir / "pods")
        listener = _listen(host, port)
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        text = kubeconfig.kubeconfig(f"https://{shown}:{bound}", certificates.ca.read_bytes(), token)
        kubeconfig.write(state_dir / "kubeconfig", text)
        _log.info("serving the Kubernetes API on https://%s:%d, state in %s", shown, bound, state_dir)
        server = _Server(
            uvicorn.Config(
                application,
                loop="asyncio",
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                ssl_certfile=str(certificates.certificate),
                ssl_keyfile=str(certificates.key),
                timeout_graceful_shutdown=_STOP_SECONDS,
                timeout_keep_alive=75,
                backlog=512,
            )
        )
        server.application = application
        # uvicorn raises the signal that ended it once more when it is done; ending by it is no failure.
        signal.signal(signal.SIGTERM, lambda *_: None)
        await server.serve(sockets=[listener])
        await application.proxy.close()
    finally:
        await asyncio.to_thread(store.close)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm (40 ms a request) off for such sockets only.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
