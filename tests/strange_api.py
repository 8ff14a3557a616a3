"""An API server that knows nothing of what it is asked, as one on which Shoal's kinds are not installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

NO_SUCH_PATH = "404 page not found\n"


class _Handler(BaseHTTPRequestHandler):
    body = ""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def strange_api(folder: Path, body: str = NO_SUCH_PATH) -> Iterator[Path]:
    """The kubeconfig of a server that answers 404 with this body to everything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"body": body})) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield kubeconfig(folder, f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join(timeout=10)


def kubeconfig(folder: Path, url: str) -> Path:
    """A file that leads to a server without any secrets."""
    parts = {
        "clusters": [{"name": "x", "cluster": {"server": url}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(parts))
    return file
