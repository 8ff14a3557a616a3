from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shoal_runtime.storage import ArtifactStore, StorageSettings
from speeds import starts_server
from support.runtime_storage import FaultyServer, s3_server


@pytest.fixture
def settings(tmp_path):
    return StorageSettings(
        root_dir=tmp_path / "models",
        config_dir=tmp_path / "storage-config",
        pvc_dir=tmp_path / "pvcs",
        attempts=3,
        retry_seconds=0.01,
        connect_seconds=2,
        read_seconds=5,
    )


@pytest.fixture
def make_store(settings):
    """A store with some settings changed."""

    def make(**changes):
        return ArtifactStore(dataclasses.replace(settings, **changes))

    return make


@pytest.fixture
def store(make_store):
    return make_store()


@pytest.fixture
def web():
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
@starts_server
def s3(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """An authority with a certificate for 127.0.0.1, also usable by clients: PEM files `ca`, `crt`, `key`."""
    folder = tmp_path_factory.mktemp("pki")
    now = dt.datetime.now(dt.UTC)

    def certificate(name, key, issuer, issuer_key, authority):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca").write_bytes(certificate("test ca", ca_key, "test ca", ca_key, True))
    (folder / "crt").write_bytes(certificate("127.0.0.1", key, "test ca", ca_key, False))
    (folder / "key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder
