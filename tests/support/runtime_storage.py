"""Servers the storage tests pull from: a web server that misbehaves on demand, and a real S3 server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from needs import need
from shoal_runtime.storage import ModelKey, PullRequest


@dataclass
class File:
    """What the web server serves at one path, and how it misbehaves. Counted faults happen that often, then no more."""

    content: bytes
    etag: str | None = "auto"
    ranges: bool = True
    cut_after: int | None = None
    """Close the connection after so many bytes of each answer to a download."""
    cuts: int = 0
    fail_status: int = 500
    failures: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    length: bool = True
    hold: threading.Event | None = None
    """Wait for it after the first half."""
    redirect: str | None = None
    corrupt: int = 0

    def tag(self) -> str | None:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"' if self.etag == "auto" else self.etag


class FaultyServer:
    """An HTTP/1.1 server on a free loopback port; `requests` are (path, headers, bytes sent)."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, File] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        handler = type("Handler", (_Handler,), {"owner": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        for file in self.files.values():
            if file.hold:
                file.hold.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def downloads(self, path: str) -> list[dict[str, str]]:
        """Requests for content, without those that ask for the first byte only."""
        return [headers for where, headers in self.requests if where == path and headers.get("range") != "bytes=0-0"]


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle()

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.requests.append((self.path, headers))
        file = self.owner.files.get(self.path)
        if file is None:
            return self._plain(404)
        if file.redirect:
            return self._plain(302, {"Location": file.redirect})
        probe = headers.get("range") == "bytes=0-0"
        if file.failures and not probe:
            file.failures -= 1
            return self._plain(file.fail_status)
        start, end, status = self._range(file, headers)
        if status == 416:
            return self._plain(416, {"Content-Range": f"bytes */{len(file.content)}"})
        body = file.content[start:end]
        if file.corrupt and not probe:
            file.corrupt -= 1
            body = bytes(byte ^ 1 for byte in body)
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(file.content)}")
        if file.tag():
            self.send_header("ETag", file.tag())
        for name, value in file.headers.items():
            self.send_header(name, value)
        if file.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif file.length or probe:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        return self._body(file, body, probe)

    def _range(self, file: File, headers: dict[str, str]) -> tuple[int, int, int]:
        wanted = headers.get("range")
        valid = headers.get("if-range") in (None, file.tag())
        if not (wanted and file.ranges and valid):
            return 0, len(file.content), 200
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1 if last else len(file.content), len(file.content))
        return (start, end, 206) if start < len(file.content) else (0, 0, 416)

    def _body(self, file: File, body: bytes, probe: bool) -> None:
        if file.hold and not probe:
            self._write(file, body[: len(body) // 2])
            self.wfile.flush()
            file.hold.wait(30)
            body = body[len(body) // 2 :]
        if file.cuts and not probe:
            file.cuts -= 1
            self._write(file, body[: file.cut_after])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._write(file, body)
        if file.chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = not file.length

    def _write(self, file: File, data: bytes) -> None:
        self.owner.sent += len(data)
        if file.chunked and data:
            data = f"{len(data):x}\r\n".encode() + data + b"\r\n"
        self.wfile.write(data)

    def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@dataclass(frozen=True)
class S3Server:
    """A running S3 server. `root` is the folder whose sub-folders are its buckets."""

    url: str
    root: Path
    access: str = "shoal-test-access"
    secret: str = "shoal-test-secret-4711"

    def entry(self, **more: str) -> dict[str, str]:
        """A storage-config entry for it."""
        return {
            "type": "s3",
            "endpoint_url": self.url,
            "region": "us-east-1",
            "access_key_id": self.access,
            "secret_access_key": self.secret,
            "bucket": "models",
            **more,
        }


@contextlib.contextmanager
def s3_server(folder: Path, certificate: Path | None = None, key: Path | None = None):
    """A real S3 server, ended by its process."""
    need("versitygw")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tls = ["--cert", str(certificate), "--key", str(key)] if certificate else []
    server = S3Server(f"http{'s' if tls else ''}://127.0.0.1:{port}", folder)
    keys = ["--access", server.access, "--secret", server.secret]
    command = ["versitygw", "--quiet", "--port", f"127.0.0.1:{port}", *keys, *tls, "posix", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, "the S3 server ended at once"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.02)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def ask(model_id: str, path: str, schema: str | None = None, key: str | None = None, **params: str) -> PullRequest:
    """A pull request by storage parameters, or by a storage key."""
    return PullRequest(model_id, path, ModelKey(storage_key=key, storage_params=params, schema_path=schema))


def put_entry(config_dir: Path, name: str, entry: dict) -> None:
    config_dir.mkdir(exist_ok=True)
    (config_dir / name).write_text(json.dumps(entry))


def tree(top: Path) -> dict[str, bytes]:
    """All files below a folder, by relative path."""
    return {str(file.relative_to(top)): file.read_bytes() for file in sorted(top.rglob("*")) if file.is_file()}


def md5_base64(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def sha256_base64(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
