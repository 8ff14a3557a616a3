from __future__ import annotations

import random
from pathlib import Path

import pytest

from seeds import seed
from shoal.package.errors import PackageError
from shoal.package.keys import TrustedKeys
from shoal.package.package import open_directory, open_package
from shoal.package.publish import publish
from shoal.package.signing import verify_payload
from shoal.package.stores import LocalStore
from shoal.package.verify import verify
from speed import times
from support.package import attested, flip, make_package, trust


@pytest.fixture
def there(tmp_path, key):
    """The folder of a published package with everything a package can have."""
    package = make_package(tmp_path, {"model.joblib": b"weights" * 20, "extra/notes.txt": b"hello"})
    attested(package, key, "approval", summary="looks good", metrics={"score": 0.5})
    done = publish(tmp_path / "package", LocalStore(tmp_path / "store"), "digits", key=key)
    return tmp_path / "store" / done.folder


def problems(folder: Path, trusted: TrustedKeys) -> list[str]:
    try:
        return list(verify(open_directory(folder), trusted).problems)
    except PackageError as error:
        return [str(error)]


def test_an_untouched_package_is_sound(there, trusted):
    assert problems(there, trusted) == []


@pytest.mark.search
def test_bytes_all_over_every_file_count(there, trusted):
    chance = random.Random(seed(4711))
    files = sorted(path for path in there.rglob("*") if path.is_file())
    assert len(files) == 6
    for path in files:
        data = path.read_bytes()
        every = max(3, len(data) // times(2000))
        for index in range(chance.randrange(every), len(data), every):
            path.write_bytes(flip(data, index, chance.randrange(8)))
            found = problems(there, trusted)
            assert found, f"{path.name}: byte {index} of {len(data)} was changed and not found"
        path.write_bytes(data)
    assert problems(there, trusted) == []


def test_changes_by_accident_are_found_without_any_key(there):
    for name in ("shoal-package.json", "samples.json", "model/model.joblib"):
        data = (there / name).read_bytes()
        for index in range(0, len(data), 7):
            (there / name).write_bytes(flip(data, index, 0))
            seal = data.find(b'"seal"')
            if name != "shoal-package.json" or index < seal:  # The seal only says something to who has the key.
                assert problems(there, TrustedKeys({})), (name, index)
        (there / name).write_bytes(data)


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_files_that_are_cut_or_longer_are_found(there, trusted, cut):
    for path in sorted(path for path in there.rglob("*") if path.is_file()):
        data = path.read_bytes()
        path.write_bytes(data[:cut] if cut else data + b"\n")
        assert problems(there, trusted), path.name
        path.write_bytes(data)


@pytest.mark.parametrize(
    "name", ["model/model.joblib", "model/extra/notes.txt", "samples.json", "shoal-package.json", "model.sig"]
)
def test_files_that_are_missing_are_found(there, trusted, name):
    (there / name).unlink()
    assert any(name in problem for problem in problems(there, trusted))


@pytest.mark.parametrize("name", ["model/more.joblib", "more.json", "model/extra/deep/x"])
def test_files_that_were_added_are_found(there, trusted, name):
    (there / name).parent.mkdir(parents=True, exist_ok=True)
    (there / name).write_bytes(b"x")
    assert [problem for problem in problems(there, trusted) if name in problem]


@pytest.mark.parametrize("name", ["model/model.joblib", "shoal-package.json", "evidence/approval.json"])
def test_links_are_refused_wherever_they_lead(there, trusted, name, tmp_path):
    copy = tmp_path / "copy"
    copy.write_bytes((there / name).read_bytes())
    (there / name).unlink()
    (there / name).symlink_to(copy)
    assert any("link" in problem for problem in problems(there, trusted))


def test_a_folder_that_is_a_link_is_refused(there, trusted):
    (there / "model").rename(there.parent / "elsewhere")
    (there / "model").symlink_to(there.parent / "elsewhere")
    assert any("link" in problem for problem in problems(there, trusted))


def test_a_package_with_the_signature_and_seal_of_a_stranger_is_found(tmp_path, stranger, trusted):
    make_package(tmp_path)
    store = LocalStore(tmp_path / "store")
    done = publish(tmp_path / "package", store, "digits", key=stranger)
    found = verify(open_package(store, done.folder), trusted).problems
    assert len(found) == 2
    assert all("not trusted" in problem for problem in found)


def test_evidence_under_another_name_or_of_another_package_is_found(there, trusted, tmp_path, key):
    (there / "evidence" / "scan.json").write_bytes((there / "evidence" / "approval.json").read_bytes())
    assert any("kept under another name" in problem for problem in problems(there, trusted))
    (there / "evidence" / "scan.json").unlink()
    other = make_package(tmp_path / "other", {"model.joblib": b"other"})
    attested(other, key)
    evidence = tmp_path / "other" / "package" / "evidence" / "approval.json"
    (there / "evidence" / "approval.json").write_bytes(evidence.read_bytes())
    assert any("about package" in problem for problem in problems(there, trusted))


def test_the_signature_is_one_that_openssf_tools_verify(there, key, stranger, tmp_path):
    public = key.path.with_name("signing.pub")
    verify_payload(there / "model", there / "model.sig", public)
    with pytest.raises(PackageError, match="does not sign"):
        verify_payload(there / "model", there / "model.sig", stranger.path.with_name("signing.pub"))
    (there / "model" / "model.joblib").write_bytes(b"other")
    with pytest.raises(PackageError, match="does not sign"):
        verify_payload(there / "model", there / "model.sig", public)


def test_a_manifest_whose_about_was_changed_with_its_checksum_is_found_by_the_seal(there, trusted, key):
    from shoal.package.manifest import compose

    package = open_directory(there)
    about = package.about.model_copy(update={"owner": "Mallory"})
    forged = compose(package.content, about).model_copy(update={"seal": package.manifest.seal})
    (there / "shoal-package.json").write_bytes(forged.to_bytes())
    assert problems(there, trust(key)) == ["shoal-package.json is not what its seal was made for"]
