import base64
import json

import pytest

from shoal.resources.problems import InvalidManifest
from shoal.resources.storage import (
    GCSStorage,
    HTTPStorage,
    LocalStorage,
    PVCStorage,
    S3Storage,
    claims_in,
    entries_of,
    parse_entry,
)

S3 = {"type": "s3", "access_key_id": "a", "secret_access_key": "hidden", "endpoint_url": "http://h", "region": "r"}


def test_each_type_is_read():
    assert isinstance(parse_entry("k", json.dumps(S3)), S3Storage)
    assert isinstance(parse_entry("k", '{"type":"gcs"}'), GCSStorage)
    assert isinstance(parse_entry("k", '{"type":"local","path":"/models"}'), LocalStorage)
    http = parse_entry("k", '{"type":"http","url":"https://h","headers":{"A":["b","c"]}}')
    assert isinstance(http, HTTPStorage)
    assert http.headers == {"A": ["b", "c"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "k: is not JSON (line 1, column 2"),
        ("[]", "k: must be a JSON object"),
        ("{}", "k.type: is missing or not known; use s3, gcs, azure, http, pvc, local"),
        ('{"type":"s3","access_key_id":"a"}', "k.secret_access_key: is missing; access_key_id and secret_access_key"),
        ('{"type":"s3","bukcet":"b"}', "k.bukcet: unknown field; did you mean 'bucket'?"),
    ],
)
def test_a_wrong_entry_is_explained(text, said):
    with pytest.raises(InvalidManifest) as caught:
        parse_entry("k", text)
    assert said in str(caught.value)


def test_every_wrong_field_is_named():
    with pytest.raises(InvalidManifest) as caught:
        parse_entry("k", '{"type":"s3","bukcet":"b","region":1,"access_key_id":"a"}')
    assert sorted(problem.path for problem in caught.value.problems) == ["k.bukcet", "k.region", "k.secret_access_key"]


def test_secrets_are_neither_in_errors_nor_in_representations():
    with pytest.raises(InvalidManifest) as caught:
        parse_entry("k", json.dumps(S3 | {"secret_access_key": 12345}))
    assert "12345" not in str(caught.value)
    assert "hidden" not in repr(parse_entry("k", json.dumps(S3)))


def test_one_wrong_entry_leaves_the_others_usable():
    secret = {
        "data": {"good": base64.b64encode(b'{"type":"pvc","name":"c"}').decode(), "bad": "%%%"},
        "stringData": {"ugly": "{"},
    }
    entries, problems = entries_of(secret)
    assert entries == {"good": PVCStorage(type="pvc", name="c")}
    assert [problem.path for problem in problems] == ["data.bad", "ugly"]
    assert claims_in(entries) == ("c",)
