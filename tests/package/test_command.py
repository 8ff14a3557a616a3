from __future__ import annotations

import json
import pickle

import pytest
import yaml

from shoal.cli import main
from shoal.package.keys import ensure_keys
from shoal.package.publish import publish
from shoal.package.stores import LocalStore
from support.package import SAMPLES


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command, in this process, on a state directory with keys and no cluster."""
    ensure_keys(tmp_path / "state")
    for name, value in {"SHOAL_STATE_DIR": str(tmp_path / "state"), "COLUMNS": "200", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments, code=0):
        capsys.readouterr()
        ended = main.run(["package", *map(str, arguments)])
        captured = capsys.readouterr()
        assert ended == code, captured.out + captured.err
        return captured

    return run


@pytest.fixture
def built(run, tmp_path):
    (tmp_path / "digits.joblib").write_bytes(pickle.dumps({"weights": [1]}))
    (tmp_path / "samples.json").write_text(json.dumps(SAMPLES))
    options = ("--metric", "accuracy=0.97", "--owner", "Ada", "--run", "run-1", "--code-version", "abc")
    run("build", tmp_path / "digits.joblib", tmp_path / "built", "--samples", tmp_path / "samples.json", *options)
    return tmp_path / "built"


def test_a_package_goes_from_file_to_store(run, built, tmp_path):
    done = json.loads(run("publish", built, "-m", "digits", "--to", tmp_path / "store", "-o", "json").out)
    place = tmp_path / "store" / "digits" / done["digest"][:12]
    assert done["uri"] == (place / "model").as_uri()
    shown = json.loads(run("inspect", place, "-o", "json").out)
    assert shown["about"]["metrics"] == {"accuracy": 0.97}
    assert shown["about"]["lineage"] == {"dagsterRun": "run-1", "codeVersion": "abc"}
    assert shown["evidence"]["scan"]["passed"] is True
    assert shown["evidence"]["scan"]["signer"].endswith("signing.pub")
    assert "signed by" in run("verify", place).out
    again = run("publish", built, "-m", "digits", "--to", tmp_path / "store")
    assert "was published before, its content stays" in again.err


def test_the_card_shows_what_people_ask_for(run, built):
    card = run("inspect", built).out
    for text in ("sklearn", "accuracy=0.97", "Ada", "model.joblib", "FP32", "[-1, 2]", "the model is not signed"):
        assert text in card


def test_what_a_model_was_trained_with_is_kept(run, tmp_path):
    (tmp_path / "digits.joblib").write_bytes(pickle.dumps({"weights": [1]}))
    (tmp_path / "frozen.txt").write_text("scikit-learn==1.6.1\n# by hand\nnumpy==2.1\n-e .\n")
    run("build", tmp_path / "digits.joblib", tmp_path / "built", "--requirements", tmp_path / "frozen.txt")
    shown = json.loads(run("inspect", tmp_path / "built", "-o", "json").out)
    assert shown["about"]["environment"] == {"scikit-learn": "1.6.1", "numpy": "2.1"}
    assert "cannot be read" in run("build", tmp_path / "digits.joblib", "x", "--requirements", "none", code=1).err


def test_what_is_published_is_named_beside_what_is_not(run, built, tmp_path):
    (tmp_path / "state" / "pvcs" / "packages").mkdir(parents=True)
    digest = json.loads(run("inspect", built, "-o", "json").out)["digest"][:12]
    publish(built, LocalStore(tmp_path / "state" / "pvcs" / "packages"), "digits")
    said = run("inspect", "pvc://packages/digits/0a1b2c3d4e5f", code=1).err
    assert "there is no package at digits/0a1b2c3d4e5f" in said
    assert f"published of digits: {digest}" in said
    assert "published of other: nothing" in run("verify", "pvc://packages/other/0a1b2c3d4e5f", code=1).err


def test_what_others_wrote_is_no_command_to_the_terminal(run, tmp_path):
    (tmp_path / "digits.joblib").write_bytes(pickle.dumps({"weights": [1]}))
    run("build", tmp_path / "digits.joblib", tmp_path / "built", "--owner", "Ada\x1b[2J")
    run("attest", tmp_path / "built", "approval", "--summary", "\x1b]0;title\x07")
    card = run("inspect", tmp_path / "built").out
    assert "\x1b" not in card
    assert "Ada\\x1b[2J" in card


def test_the_card_shows_the_whole_digest(run, built, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    digest = json.loads(run("inspect", built, "-o", "json").out)["digest"]
    lines = [line.strip("│ ") for line in run("inspect", built).out.splitlines()]
    assert digest in "".join(lines).replace("digest", "").replace(" ", "")


def test_a_wrong_name_or_place_is_told_before_anything_is_scanned(run, built, tmp_path):
    assert "is no name for a model" in run("publish", built, "-m", "No.Name", "--to", tmp_path / "store", code=1).err
    assert "no place for packages" in run("publish", built, "-m", "digits", "--to", "gs://bucket", code=2).err
    assert not (built / "evidence").exists()
    assert not (tmp_path / "store").exists()


def test_a_changed_package_is_told(run, built, tmp_path):
    run("publish", built, "-m", "digits", "--to", tmp_path / "store")
    (place,) = (tmp_path / "store" / "digits").iterdir()
    (place / "model" / "model.joblib").write_bytes(b"x" * 10)
    done = run("verify", place, code=1)
    assert "model.joblib" in done.out
    assert "not what was published" in done.err


def test_what_would_run_code_is_not_published_unless_it_is_vouched_for(run, tmp_path):
    (tmp_path / "evil.pkl").write_bytes(b"cmy_module\nModel\n(tR.")
    run("build", tmp_path / "evil.pkl", tmp_path / "evil")
    to = ("-m", "evil", "--to", tmp_path / "store")
    done = run("publish", tmp_path / "evil", *to, code=1)
    assert "not published" in done.err
    assert "--allow my_module:Model" in done.err
    assert LocalStore(tmp_path / "store").folders("") == []
    run("publish", tmp_path / "evil", *to, "--allow", "my_module:Model")


def test_evidence_is_added_by_hand(run, built, tmp_path):
    assert "require" not in run("attest", built, "approval", "--summary", "reviewed by Ada", "--metric", "votes=3").err
    assert "no rollout can require 'aproval'" in run("attest", built, "aproval").err
    run("attest", built, "scan")
    run("attest", built, "signature")
    run("attest", built, "budget", "--failed", "--summary", "too slow")
    shown = json.loads(run("inspect", built, "-o", "json").out)["evidence"]
    assert (shown["approval"]["summary"], shown["approval"]["metrics"]) == ("reviewed by Ada", {"votes": 3.0})
    assert shown["scan"]["passed"] is True
    assert shown["budget"]["passed"] is False
    verified = run("verify", built).out
    assert "signed by" in verified
    assert "approval: passed" in verified


def test_keys_are_made_once(run, tmp_path):
    made = run("keygen", tmp_path / "keys")
    assert str(tmp_path / "keys" / "signing.pub") in made.out
    assert (tmp_path / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert "has keys already" in run("keygen", tmp_path / "keys", code=1).err


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("inspect", "nowhere"), 1, "nowhere: it does not exist; `shoal package build` makes one"),
        (("inspect", "."), 1, "it has no shoal-package.json; `shoal package build` makes one"),
        (("inspect", "ftp://x/y/z"), 2, "no place for packages"),
        (("inspect", "s3://bucket/model"), 2, "names no package"),
        (("inspect", "pvc://claim/m/0a1b2c3d4e5f"), 1, "start it with `shoal up`"),
        (("verify", "nowhere", "--trust", "nokey"), 1, "there is no package"),
        (("build", "nowhere", "out"), 1, "does not exist"),
        (("publish", "nowhere", "-m", "m", "--to", "x"), 1, "there is no package"),
        (("publish", "built", "-m", "m", "--to", ""), 2, "no place for packages; name a directory"),
        (
            ("publish", "pvc://claim/m/0a1b2c3d4e5f", "-m", "m"),
            2,
            "published already; name the directory that was built",
        ),
        (("publish", "nowhere", "-m", "m", "--key", "nokey"), 1, "nokey cannot be read"),
    ],
)
@pytest.mark.usefixtures("built")
def test_mistakes_are_explained(run, tmp_path, monkeypatch, arguments, code, problem):
    monkeypatch.chdir(tmp_path)
    assert problem in run(*arguments, code=code).err


def test_what_is_found_out_cannot_be_said(run, built):
    for name in ("scan", "signature"):
        said = run("attest", built, name, "--failed", "--summary", "no", "--metric", "a=1", "--model", "m", code=2).err
        assert f"{name} is found out, not said: leave out --failed, --summary, --metric, --model" in said
    assert not (built / "evidence").exists()
    assert not (built / "model.sig").exists()


def test_numbers_are_checked(run, built, tmp_path):
    assert "must be NAME=NUMBER" in run("attest", built, "approval", "--metric", "votes", code=2).err
    assert "finite" in run("attest", built, "approval", "--metric", "votes=nan", code=2).err


@pytest.mark.server
def test_a_bucket_is_reached_by_the_usual_variables(run, built, s3, s3_options, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    to = f"s3://models/{s3_options['prefix']}"
    done = yaml.safe_load(run("publish", built, "-m", "digits", "--to", to, "-o", "yaml").out)
    assert "pods cannot reach it yet" in run("publish", built, "-m", "digits", "--to", to).err
    assert done["uri"].startswith(f"{to}/digits/")
    assert "signed by" in run("verify", done["uri"]).out
    run("attest", done["uri"], "approval", "--model", "digits")
    assert "approval" in json.loads(run("inspect", done["uri"], "-o", "json").out)["evidence"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 does not answer; check its address" in run("verify", done["uri"], code=1).err
