"""Whatever a file of a package holds, reading it ends in a package's error and in nothing else."""

from __future__ import annotations

import contextlib
import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.package import dsse
from shoal.package.errors import PackageError
from shoal.package.evidence import read_evidence
from shoal.package.keys import TrustedKeys, read_trusted
from shoal.package.manifest import read_manifest
from shoal.package.names import file_path, model_name
from shoal.package.pickles import UnreadablePickle, walk
from shoal.package.samples import parse_samples
from shoal.package.signing import covers
from speed import times

NOBODY = TrustedKeys({})
WORDS = (
    *("digest", "content", "about", "checksum", "seal", "files", "inputs", "data", "samples", "request", "payload"),
    *("payloadType", "signatures", "keyid", "sig", "subject", "predicate", "dsseEnvelope", "verificationMaterial"),
)
texts = st.sampled_from(WORDS) | st.text(max_size=8)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=6),
    max_leaves=20,
)
files = st.binary(max_size=200) | documents.map(lambda document: json.dumps(document).encode("utf-8", "surrogatepass"))


def refused(call, *arguments) -> None:
    with contextlib.suppress(PackageError):
        call(*arguments)


@settings(max_examples=times(400), deadline=None)
@given(files)
def test_files_of_packages(data):
    refused(read_manifest, data)
    refused(parse_samples, data, "x")
    refused(dsse.parse, data, "x")
    refused(read_evidence, data, "x", NOBODY)
    refused(covers, data, {}, NOBODY)


@settings(max_examples=times(200), deadline=None)
@given(documents)
def test_signed_texts(document):
    payload = json.dumps(document).encode("utf-8", "surrogatepass")
    refused(read_evidence, dsse.Envelope(dsse.IN_TOTO, payload, "k", b"s").to_bytes(), "x", NOBODY)


@settings(max_examples=times(400), deadline=None)
@given(st.binary(max_size=100))
def test_pickles(data):
    for start in (b"", b"\x80\x04", b"\x80\x04NN("):
        with contextlib.suppress(UnreadablePickle):
            walk(io.BytesIO(start + data + b"."))


@settings(max_examples=times(200), deadline=None)
@given(st.text(max_size=300))
def test_names(name):
    refused(model_name, name)
    refused(file_path, name)
    trusted, wrong = read_trusted({name: name})
    assert len(trusted) == 0
    assert len(wrong) == 1
