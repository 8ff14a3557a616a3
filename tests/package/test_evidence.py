from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from shoal.package import dsse
from shoal.package.errors import InvalidPackage, PackageNotFound
from shoal.package.evidence import Statement, add_evidence, now, put_evidence, read_evidence, sign
from shoal.package.keys import TrustedKeys
from shoal.package.manifest import canonical
from shoal.package.names import folder_of
from shoal.package.package import published
from shoal.package.publish import publish
from support.package import attested, make_package, statement, trust


def test_evidence_says_who_signed_it(package, key, stranger, trusted):
    envelope = sign(statement(package, summary="fine", metrics={"n": 3}, run="run-1", model="digits"), key)
    found = read_evidence(envelope.to_bytes(), "here", trusted)
    assert found.signer == "tester"
    assert (found.statement.summary, found.statement.metrics, found.statement.model) == ("fine", {"n": 3.0}, "digits")
    strange = sign(statement(package), stranger)
    assert read_evidence(strange.to_bytes(), "here", trusted).signer is None
    assert read_evidence(envelope.to_bytes(), "here", TrustedKeys({})).signer is None


def test_a_signature_of_one_text_is_none_of_another(package, key, trusted):
    first, second = sign(statement(package), key), sign(statement(package, passed=False), key)
    mixed = dsse.Envelope(first.type, first.payload, first.keyid, second.signature)
    assert read_evidence(mixed.to_bytes(), "here", trusted).signer is None


def test_evidence_is_added_to_a_published_package_and_replaced_by_newer(store, directory, package, key, trusted):
    publish(directory, store, "digits", key=key)
    early, late = now() - timedelta(hours=1), now()
    for at, summary in ((early, "first"), (late, "second"), (early, "late to the party")):
        add_evidence(store, "digits", package.digest, sign(statement(package, at=at, summary=summary), key))
    found, wrong = published(store, "digits", package.digest).evidence(trusted)
    assert wrong == []
    assert found["approval"].statement.summary == "second"


def test_evidence_needs_its_package(store, package, key):
    with pytest.raises(PackageNotFound, match="publish it first"):
        add_evidence(store, "digits", package.digest, sign(statement(package), key))


def test_evidence_of_another_package_or_model_is_not_added(local, directory, package, key, tmp_path):
    publish(directory, local, "digits")
    other = make_package(tmp_path / "other", {"model.joblib": b"other"})
    with pytest.raises(InvalidPackage, match="about package"):
        add_evidence(local, "digits", package.digest, sign(statement(other), key))
    with pytest.raises(InvalidPackage, match="about model 'other'"):
        add_evidence(local, "digits", package.digest, sign(statement(package, model="other"), key))
    with pytest.raises(InvalidPackage, match="about package"):
        package.add(sign(statement(other), key))


def test_there_is_a_limit_to_evidence(package, key):
    for number in range(64):
        attested(package, key, f"check-{number}")
    with pytest.raises(InvalidPackage, match="64 pieces"):
        attested(package, key, "one-more")
    attested(package, key, "check-0", summary="again")


def test_the_signature_is_no_statement(package, key):
    with pytest.raises(InvalidPackage, match="the model's signature itself"):
        sign(statement(package, "signature"), key)


@pytest.mark.parametrize("name", ["", "Scan", "a/b", "..", "a b", "x" * 64])
def test_names_of_evidence_are_checked(package, name):
    with pytest.raises(ValueError, match="no name for evidence"):
        statement(package, name)


@pytest.mark.parametrize(
    "fields",
    [{"at": datetime(2026, 1, 1)}, {"metrics": {"x": float("nan")}}, {"digest": "abc"}, {"summary": "x" * 5000}],
)
def test_fields_of_statements_are_checked(package, fields):
    with pytest.raises(ValueError):
        statement(package, **fields)


def other_statement(package, **changes):
    document = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "*", "digest": {"sha256": package.digest}}],
        "predicateType": "https://shoal.dev/evidence/v1",
        "predicate": {"name": "scan", "passed": True, "at": "2026-01-01T00:00:00Z"},
    }
    return canonical(document | changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"_type": "x"}, "another kind"),
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "another kind"),
        ({"subject": []}, "not an in-toto statement about one package"),
        (
            {"predicate": {"name": "scan", "passed": "yes", "at": "2026-01-01T00:00:00Z"}},
            "passed: must be true or false",
        ),
        ({"predicate": {"name": "scan", "passed": True}}, "at: is required"),
        ({"predicate": None}, "not an in-toto statement"),
    ],
)
def test_signed_texts_that_are_no_evidence_are_refused(package, key, trusted, changes, problem):
    envelope = dsse.sign(dsse.IN_TOTO, other_statement(package, **changes), key)
    with pytest.raises(InvalidPackage, match=problem):
        read_evidence(envelope.to_bytes(), "here", trusted)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"payload": 1}', b"\xff", b"[" * 100_000])
def test_files_that_are_no_envelopes_are_refused(trusted, data):
    with pytest.raises(InvalidPackage, match="is not"):
        read_evidence(data, "here", trusted)


def test_evidence_of_another_tool_with_a_proper_envelope_is_refused(package, key, trusted):
    envelope = dsse.sign("text/plain", b"hello", key)
    with pytest.raises(InvalidPackage, match="text/plain"):
        read_evidence(envelope.to_bytes(), "here", trusted)


def test_moments_are_kept_in_utc(package):
    at = datetime.fromisoformat("2026-01-01T10:00:00.5+02:00")
    assert statement(package, at=at).at == datetime(2026, 1, 1, 8, 0, 0, 500_000, tzinfo=UTC)


def test_what_is_signed_can_be_read_again(package, key):
    given = statement(package, details=["a", "b"], run="https://dagster/runs/1")
    found = read_evidence(sign(given, key).to_bytes(), "here", trust(key)).statement
    assert found == given
    assert isinstance(found, Statement)


def test_a_statement_names_its_package_and_model_once(package, key):
    document = json.loads(sign(statement(package, model="digits"), key).payload)
    assert document["subject"] == [{"name": "digits", "digest": {"sha256": package.digest}}]
    assert document["predicate"].keys().isdisjoint({"digest", "model"})


def test_evidence_that_is_too_long_is_not_signed(package, key):
    with pytest.raises(InvalidPackage, match=r"evidence 'approval' is larger than \d+ bytes; shorten it"):
        sign(statement(package, details=["x" * 4000] * 200), key)


def test_evidence_is_written_unless_newer_is_there(local, directory, package, key):
    publish(directory, local, "digits")
    folder = folder_of("digits", package.digest)
    first, older = sign(statement(package), key), sign(statement(package, at=now() - timedelta(hours=1)), key)
    assert [put_evidence(local, folder, envelope) for envelope in (first, older, first)] == [True, False, False]


def test_a_statement_with_numbers_that_json_has_not_is_no_evidence(package, key, trusted):
    document = json.loads(sign(statement(package), key).payload)
    document["predicate"]["metrics"] = {"x": float("nan")}
    envelope = dsse.sign(dsse.IN_TOTO, json.dumps(document).encode(), key)
    with pytest.raises(InvalidPackage, match="here is not evidence: "):
        read_evidence(envelope.to_bytes(), "here", trusted)


def test_of_evidence_made_at_one_moment_the_one_that_came_last_is_kept(local, directory, package, key, trusted):
    publish(directory, local, "digits")
    folder, at = folder_of("digits", package.digest), now()
    for summary in ("first", "second"):
        assert put_evidence(local, folder, sign(statement(package, at=at, summary=summary), key))
    found, _ = published(local, "digits", package.digest).evidence(trusted)
    assert found["approval"].statement.summary == "second"


def test_evidence_takes_the_place_of_what_cannot_be_read(local, directory, package, key):
    publish(directory, local, "digits")
    folder = folder_of("digits", package.digest)
    local.write(f"{folder}/evidence/approval.json", b"{}")
    assert put_evidence(local, folder, sign(statement(package), key))


def test_evidence_says_what_is_wrong_with_it_and_where(package, key, trusted):
    predicate = {"name": "scan", "passed": "yes", "at": "2026-01-01T00:00:00Z"}
    envelope = dsse.sign(dsse.IN_TOTO, other_statement(package, predicate=predicate), key)
    with pytest.raises(InvalidPackage, match=r"^scan\.json is not evidence: passed: must be true or false"):
        read_evidence(envelope.to_bytes(), "scan.json", trusted)
    strange = dsse.sign(dsse.IN_TOTO, other_statement(package, predicateType="x"), key)
    with pytest.raises(InvalidPackage, match=r"^scan\.json is a statement of another kind: 'x'"):
        read_evidence(strange.to_bytes(), "scan.json", trusted)


def test_evidence_of_a_model_is_about_no_other(package, key, trusted):
    envelope = dsse.sign(dsse.IN_TOTO, other_statement(package), key)
    assert read_evidence(envelope.to_bytes(), "here", trusted).statement.model == ""
    subject = [{"name": "digits", "digest": {"sha256": package.digest}}]
    named = dsse.sign(dsse.IN_TOTO, other_statement(package, subject=subject), key)
    assert read_evidence(named.to_bytes(), "here", trusted).statement.model == "digits"


def test_a_field_of_evidence_that_is_misspelt_is_named_with_the_one_that_was_meant(package, key, trusted):
    predicate = {"name": "scan", "passed": True, "at": "2026-01-01T00:00:00Z", "sumary": "fine"}
    envelope = dsse.sign(dsse.IN_TOTO, other_statement(package, predicate=predicate), key)
    with pytest.raises(InvalidPackage, match=r"sumary.*summary"):
        read_evidence(envelope.to_bytes(), "here", trusted)
