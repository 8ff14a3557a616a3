"""Refusals over HTTP: each is a Status that says what is wrong, and none is a crash."""

from __future__ import annotations

import http.server
import json
import stat
import threading
from collections.abc import Iterator

import httpx
import pytest

from support.apiserver import CONFIG_MAPS, NAMESPACE, SERVICES, ApiServer, config_map, isvc

pytestmark = pytest.mark.server
JSON = {"content-type": "application/json"}


def refused(answer: httpx.Response, code: int, reason: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["kind"], body["code"], body["reason"]) == (code, "Status", code, reason), body
    return body["message"]


def test_a_token_is_needed(server: ApiServer) -> None:
    for header in ({"authorization": "Bearer wrong"}, {"authorization": ""}, {"authorization": "Basic eDp5"}):
        assert "shoal kubeconfig" in refused(server.http.get(CONFIG_MAPS, headers=header), 401, "Unauthorized")
    assert server.http.get("/readyz", headers={"authorization": ""}).status_code == 200
    for name in ("token", "kubeconfig", "tls/ca.key", "tls/server.key"):
        assert stat.S_IMODE((server.state_dir / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"{", "application/json"),
        (b"[1]", "application/json"),
        (b"null", "application/json"),
        (b'{"a": NaN}', "application/json"),
        (b'{"a": 1e999}', "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"a":' * 50_000, "application/json"),
        (b"1" * 10_000, "application/json"),
        (b"a: b: c", "application/yaml"),
        (b"[" * 50_000, "application/yaml"),
        (b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % ((n + 1,) * 2 + (n,) * 9) for n in range(97, 110)), "application/yaml"),  # noqa: E501
        (b"a: !!python/object/apply:os.system ['true']", "application/yaml"),
        (b"a: .nan", "application/yaml"),
        (b"k8s\x00\xff\xff\xff", "application/vnd.kubernetes.protobuf"),
        (b"", "application/json"),
        (b'{"metadata": "x"}', "application/json"),
        (b'{"kind": "Secret"}', "application/json"),
    ],
)  # fmt: skip
def test_bad_bodies_are_bad_requests(server: ApiServer, body: bytes, media_type: str) -> None:
    answer = server.http.post(CONFIG_MAPS, content=body, headers={"content-type": media_type})
    assert refused(answer, 400, "BadRequest")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"metadata": {"name": "A_b"}}, "metadata.name"),
        ({"metadata": {"name": "../x"}}, "metadata.name"),
        ({"metadata": {}}, "metadata.name"),
        ({"metadata": {"name": "x", "labels": {"a b": "c"}}}, "metadata.labels"),
        ({"metadata": {"name": "x", "labels": ["a"]}}, "metadata.labels"),
        ({"metadata": {"name": "x", "annotations": {"a": 1}}}, "metadata.annotations.a"),
        ({"metadata": {"name": "x"}, "data": "text"}, "data"),
        ({"metadata": {"name": "x"}, "data": {"a": 1}}, "data.a"),
        ({"metadata": {"name": "x"}, "data": {"a/b": "c"}}, "data[a/b]"),
        ({"metadata": {"name": "x", "ownerReferences": [{"name": "y"}]}}, "metadata.ownerReferences[0].uid"),
    ],
)
def test_invalid_objects_name_the_field(server: ApiServer, document: dict, field: str) -> None:
    answer = server.http.post(CONFIG_MAPS, json=document)
    refused(answer, 422, "Invalid")
    assert field in {cause["field"] for cause in answer.json()["details"]["causes"]}


def test_sizes_and_media_types(server: ApiServer) -> None:
    large = server.http.post(CONFIG_MAPS, content=b" " * (3 * 1024 * 1024 + 1), headers=JSON)
    assert "limit is 3145728 bytes" in refused(large, 413, "RequestEntityTooLarge")
    strange = server.http.post(CONFIG_MAPS, content=b"x", headers={"content-type": "text/plain"})
    refused(strange, 415, "UnsupportedMediaType")
    patch = server.http.patch(f"{CONFIG_MAPS}/x", content=b"{}", headers=JSON)
    refused(patch, 415, "UnsupportedMediaType")
    protobuf = server.http.get(CONFIG_MAPS, headers={"accept": "application/vnd.kubernetes.protobuf"})
    refused(protobuf, 406, "NotAcceptable")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/nothing", 404),
        ("/apis/serving.kserve.io/v9/inferenceservices", 404),
        ("/api/v1/namespaces/x/namespaces", 404),
        ("/apis", 200),
        (f"{CONFIG_MAPS}/absent", 404),
        (f"{CONFIG_MAPS}/..%2f..%2fetc", 404),
        (f"{CONFIG_MAPS}?limit=x", 400),
        (f"{CONFIG_MAPS}?limit=-1", 400),
        (f"{CONFIG_MAPS}?continue=nonsense", 400),
        (f"{CONFIG_MAPS}?resourceVersion=abc", 400),
        (f"{CONFIG_MAPS}?resourceVersionMatch=Exact", 400),
        (f"{CONFIG_MAPS}?labelSelector=a%20in", 400),
        (f"{CONFIG_MAPS}?labelSelector=((", 400),
        (f"{CONFIG_MAPS}?fieldSelector=metadata.name", 400),
        (f"{CONFIG_MAPS}?watch=1&resourceVersion=x", 400),
    ],
)
def test_bad_addresses(server: ApiServer, path: str, code: int) -> None:
    answer = server.http.get(path)
    assert answer.status_code == code
    assert code == 200 or answer.json()["kind"] == "Status"


@pytest.mark.parametrize("query", ["dryRun=Some", "fieldValidation=Maybe", "fieldManager=" + "x" * 200])
def test_bad_write_options(server: ApiServer, query: str) -> None:
    refused(server.http.post(f"{CONFIG_MAPS}?{query}", json=config_map("x")), 400, "BadRequest")


def test_identity_and_preconditions(server: ApiServer) -> None:
    created = server.http.post(CONFIG_MAPS, json=config_map("x")).json()
    refused(server.http.post(CONFIG_MAPS, json=config_map("x")), 409, "AlreadyExists")
    refused(server.http.put(f"{CONFIG_MAPS}/x", json=config_map("y")), 400, "BadRequest")
    elsewhere = config_map("z") | {"metadata": {"name": "z", "namespace": "default"}}
    refused(server.http.post(CONFIG_MAPS, json=elsewhere), 400, "BadRequest")
    wrong = {"preconditions": {"uid": "other"}}
    answer = server.http.request("DELETE", f"{CONFIG_MAPS}/x", json=wrong)
    assert "Precondition failed: UID" in refused(answer, 409, "Conflict")
    right = {"preconditions": {"uid": created["metadata"]["uid"]}}
    assert server.http.request("DELETE", f"{CONFIG_MAPS}/x", json=right).json()["status"] == "Success"
    missing = server.http.put(f"{SERVICES}/sklearn-mnist", json=isvc())
    assert missing.status_code in (404, 422)


def test_an_unchanged_write_makes_no_new_version(server: ApiServer) -> None:
    created = server.http.post(CONFIG_MAPS, json=config_map("x", a="b")).json()
    again = server.http.put(f"{CONFIG_MAPS}/x", json=config_map("x", a="b")).json()
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


class _Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer({"path": self.path})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"])).decode()
        self.answer({"path": self.path, "sent": sent, "type": self.headers["content-type"]})

    def answer(self, document: dict[str, str | None]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_service_proxy(server: ApiServer, echo: str) -> None:
    services = f"/api/v1/namespaces/{NAMESPACE}/services"
    service = {"metadata": {"name": "shoal-mesh"}, "spec": {"ports": [{"name": "admin", "port": 18080}]}}
    server.http.post(services, json=service)
    refused(server.http.get(f"{services}/shoal-mesh:admin/proxy/copies"), 503, "ServiceUnavailable")
    server.kubectl("annotate", "service", "shoal-mesh", f"shoal.dev/address={echo}")
    answer = server.get(f"{services}/shoal-mesh:admin/proxy/why/a__isvc-1?full=1")
    assert answer == {"path": "/why/a__isvc-1?full=1"}
    sent = server.http.post(f"{services}/shoal-mesh:admin/proxy/endpoints/a/load", json={"a": 1})
    assert sent.json() == {"path": "/endpoints/a/load", "sent": '{"a":1}', "type": "application/json"}
    assert server.http.post(f"{services}/shoal-mesh:admin/proxy/x").json() == {"path": "/x", "sent": "", "type": None}
    refused(server.http.put(f"{services}/shoal-mesh:admin/proxy/x"), 405, "MethodNotAllowed")
    assert server.get(f"{services}/shoal-mesh:18080/proxy/x/../y%20z")["path"].startswith("/")
    refused(server.http.get(f"{services}/shoal-mesh:other/proxy/x"), 400, "BadRequest")
    refused(server.http.get(f"{services}/absent:admin/proxy/x"), 404, "NotFound")
    server.kubectl("annotate", "service", "shoal-mesh", "--overwrite", "shoal.dev/address=http://127.0.0.1:1")
    refused(server.http.get(f"{services}/shoal-mesh:admin/proxy/x"), 503, "ServiceUnavailable")
