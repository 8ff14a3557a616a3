from __future__ import annotations

import itertools

import pytest

from shoal.package.keys import generate_keys, load_signing
from shoal.package.stores import LocalStore
from shoal.package.stores.s3 import open_s3
from speeds import starts_server
from support.package import make_package, trust
from support.runtime_storage import s3_server


@pytest.fixture(scope="session")
def key(tmp_path_factory):
    return load_signing(generate_keys(tmp_path_factory.mktemp("keys")).private)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    """A key nobody trusts."""
    return load_signing(generate_keys(tmp_path_factory.mktemp("strange")).private)


@pytest.fixture
def trusted(key):
    return trust(key)


@pytest.fixture
def package(tmp_path):
    return make_package(tmp_path)


@pytest.fixture
def directory(package, tmp_path):
    """Where `package` is."""
    return tmp_path / "package"


@pytest.fixture
def local(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="session")
@starts_server
def s3(tmp_path_factory):
    root = tmp_path_factory.mktemp("s3")
    (root / "models").mkdir()
    with s3_server(root) as server:
        yield server


_numbers = itertools.count()


@pytest.fixture
def s3_options(s3):
    """How to open a part of the bucket that no other test uses."""
    return {
        "endpoint": s3.url,
        "bucket": "models",
        "access_key": s3.access,
        "secret_key": s3.secret,
        "region": "us-east-1",
        "prefix": f"test-{next(_numbers)}",
        "key": "tests",
    }


@pytest.fixture
def bucket(s3_options):
    return open_s3(**s3_options)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.server)])
def store(request):
    """Every kind of store."""
    return request.getfixturevalue("local" if request.param == "local" else "bucket")
