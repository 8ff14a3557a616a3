from __future__ import annotations

import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from shoal.package.errors import InvalidPackage
from shoal.package.keys import (
    ensure_keys,
    generate_keys,
    load_public,
    load_signing,
    read_trusted,
    trusted_keys_manifest,
)


def test_a_state_directory_gets_one_pair_for_good(tmp_path):
    first = ensure_keys(tmp_path)
    before = first.private.read_bytes()
    assert ensure_keys(tmp_path) == first
    assert first.private.read_bytes() == before
    assert stat.S_IMODE(first.private.stat().st_mode) == 0o600
    assert load_signing(first.private).public.id == load_public(first.public).id


def test_a_lost_or_wrong_public_half_is_made_from_the_private_one(tmp_path):
    pair = ensure_keys(tmp_path)
    text = pair.public.read_bytes()
    pair.public.unlink()
    ensure_keys(tmp_path)
    assert pair.public.read_bytes() == text
    pair.public.write_bytes(generate_keys(tmp_path / "other").public.read_bytes())
    ensure_keys(tmp_path)
    assert pair.public.read_bytes() == text
    pair.private.unlink()
    ensure_keys(tmp_path)
    assert load_signing(pair.private).public.id == load_public(pair.public).id
    assert pair.public.read_bytes() != text


def test_keys_are_not_overwritten(tmp_path):
    generate_keys(tmp_path)
    with pytest.raises(InvalidPackage, match="has keys already"):
        generate_keys(tmp_path)


def test_a_private_key_that_others_may_read_is_refused(tmp_path):
    pair = generate_keys(tmp_path)
    os.chmod(pair.private, 0o640)  # noqa: PTH101
    with pytest.raises(InvalidPackage, match="chmod 600"):
        load_signing(pair.private)


def private_pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no unencrypted private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no unencrypted private key"),
        (private_pem(ed25519.Ed25519PrivateKey.generate()), "no elliptic-curve key"),
        (private_pem(ec.generate_private_key(ec.SECP256K1())), "on no curve"),
    ],
)
def test_files_that_hold_no_usable_key_are_refused(tmp_path, data, problem):
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(InvalidPackage, match=problem):
        load_signing(path)


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_keys_on_every_curve_of_model_signatures_sign(tmp_path, curve):
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(ec.generate_private_key(curve())))
    path.chmod(0o600)
    key = load_signing(path)
    assert key.public.verifies(key.sign(b"text"), b"text")
    assert not key.public.verifies(key.sign(b"text"), b"texT")
    assert str(path) not in repr(key)


def test_a_wrong_entry_among_trusted_keys_harms_no_other(tmp_path):
    good = generate_keys(tmp_path).public.read_text()
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    trusted, wrong = read_trusted({"ada": good, "bob": "nonsense", "cyd": pem})
    assert trusted.names == ("ada",)
    assert [problem.split(" is ")[0] for problem in wrong] == ["key 'bob'", "key 'cyd'"]


def test_the_manifest_that_trusts_a_key(tmp_path):
    pair = ensure_keys(tmp_path)
    manifest = trusted_keys_manifest(pair.public, "models")
    assert manifest["metadata"] == {"name": "shoal-trusted-keys", "namespace": "models"}
    assert read_trusted(manifest["data"])[0].names == ("shoal-up",)
