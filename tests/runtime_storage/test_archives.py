"""Archives made by friends and by enemies."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal_runtime.storage import InvalidStorageError
from shoal_runtime.storage.archives import Unpacker, stem
from support.runtime_storage import tree

TYPES = {
    "link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "folder": tarfile.DIRTYPE,
    "fifo": tarfile.FIFOTYPE,
    "device": tarfile.CHRTYPE,
}


def tar(path, members, mode="w"):
    """`members`: (name, content or type, target of a link)."""
    with tarfile.open(path, mode) as archive:
        for name, what, *target in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
            else:
                info.type = TYPES[what]
                info.linkname = target[0] if target else ""
                archive.addfile(info)
    return path


def unpack(tmp_path, archive, max_files=100, max_bytes=10_000_000, spend=lambda size: None):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "outside").mkdir(exist_ok=True)
    unpacker = Unpacker(archive.name, target, max_files, max_bytes, spend)
    unpacker.unpack(archive)
    return unpacker, tree(target)


@pytest.mark.parametrize(("name", "mode"), [("m.tar", "w"), ("m.tar.gz", "w:gz"), ("m.tgz", "w:gz")])
def test_tar(tmp_path, name, mode):
    members = [("./d", "folder"), ("d/f", b"1"), ("e", b""), ("d/hard", "hard link", "d/f")]
    spent = []
    unpacker, found = unpack(tmp_path, tar(tmp_path / name, members, mode), spend=spent.append)
    assert found == {"d/f": b"1", "e": b"", "d/hard": b"1"}
    assert unpacker.bytes == sum(spent) == 1


def test_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("d/f", b"1" * 5000)
        archive.writestr("e/", b"")
    _, found = unpack(tmp_path, tmp_path / "m.zip")
    assert found == {"d/f": b"1" * 5000}
    assert (tmp_path / "target" / "e").is_dir()


def test_a_lone_folder_named_like_the_archive_is_left_out_another_is_not(tmp_path):
    _, found = unpack(tmp_path, tar(tmp_path / "m.tar", [("m/f", b"1")]))
    assert found == {"f": b"1"}
    (tmp_path / "two").mkdir()
    _, found = unpack(tmp_path / "two", tar(tmp_path / "m.tar", [("1/f", b"1")]))
    assert found == {"1/f": b"1"}


def test_links_inside_are_kept(tmp_path):
    members = [("blobs/x", b"1"), ("snapshot/model", "link", "../blobs/x"), ("d", "link", "snapshot")]
    _, found = unpack(tmp_path, tar(tmp_path / "m.tar", members))
    assert found["snapshot/model"] == b"1"
    assert (tmp_path / "target" / "d" / "model").read_bytes() == b"1"


@pytest.mark.parametrize(
    "members",
    [
        [("/abs", b"x")],
        [("../escape", b"x")],
        [("a/../../escape", b"x")],
        [("..\\escape", b"x")],
        [("l", "link", "../outside")],
        [("l", "link", "/etc/passwd")],
        [("l", "link", "absent")],
        [("l", "link", "l")],
        [("l", "link", "../outside"), ("l/f", b"x")],
        [("l", "link", "../outside"), ("l/inner", "link", "x")],
        [("d/e/f", b"x"), ("a", "link", "d/e"), ("b", "link", "a/../../..")],
        [("h", "hard link", "../outside/f")],
        [("h", "hard link", "/etc/passwd")],
        [("h", "hard link", "later"), ("later", b"x")],
        [("f", b"x"), ("f", b"y")],
        [("f", b"x"), ("f/g", b"y")],
        [("f/g", b"y"), ("f", b"x")],
        [("fifo", "fifo")],
        [("device", "device")],
        [("", b"x")],
        [(f"f{n}", b"") for n in range(101)],
        [("big", bytes(6_000_000)), ("more", bytes(6_000_000))],
    ],
)
def test_enemies_are_refused_and_nothing_lands_outside(tmp_path, members):
    archive = tar(tmp_path / "m.tar", members)
    with pytest.raises(InvalidStorageError, match=r"m\.tar"):
        unpack(tmp_path, archive)
    assert list((tmp_path / "outside").iterdir()) == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"m.tar", "outside", "target"}


@pytest.mark.parametrize("name", ["../escape", "/abs", "a\\..\\b"])
def test_zip_enemies_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, b"x")
    with pytest.raises(InvalidStorageError):
        unpack(tmp_path, tmp_path / "m.zip")
    assert {entry.name for entry in tmp_path.iterdir()} == {"m.zip", "outside", "target"}


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        info = zipfile.ZipInfo("l")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InvalidStorageError, match="neither a file nor a folder"):
        unpack(tmp_path, tmp_path / "m.zip")


def test_a_zip_bomb_is_stopped_early(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(50_000_000))
    spent = []
    with pytest.raises(InvalidStorageError, match="over 10000000 bytes unpacked"):
        unpack(tmp_path, tmp_path / "m.zip", spend=spent.append)
    assert sum(spent) == 0


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f", bytes(1_000_000))
    content = bytearray((tmp_path / "m.zip").read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    (tmp_path / "m.zip").write_bytes(content)
    with pytest.raises(InvalidStorageError):
        unpack(tmp_path, tmp_path / "m.zip")
    assert sum(len(found) for found in tree(tmp_path / "target").values()) <= 10


def test_a_forged_tar_header_may_not_take_the_memory(tmp_path):
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    info.size = 4 * 1024**3
    (tmp_path / "m.tar").write_bytes(info.tobuf() + bytes(10_240))
    with pytest.raises(InvalidStorageError, match="header of"):
        unpack(tmp_path, tmp_path / "m.tar")


@pytest.mark.parametrize("name", ["m.tar", "m.tar.gz", "m.zip"])
def test_what_is_no_archive_at_all(tmp_path, name):
    (tmp_path / name).write_bytes(os.urandom(2000))
    with pytest.raises(InvalidStorageError, match="damaged"):
        unpack(tmp_path, tmp_path / name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_is_refused_or_harmless(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("damage")
    name, mode = data.draw(st.sampled_from([("m.tar", "w"), ("m.tar.gz", "w:gz"), ("m.zip", "zip")]))
    if mode == "zip":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("d/f", b"1" * 500)
            archive.writestr("g", b"2" * 500)
    else:
        tar(tmp_path / name, [("d/f", b"1" * 500), ("g", b"2" * 500), ("l", "link", "g")], mode)
    content = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        unpack(tmp_path, tmp_path / name)
    except InvalidStorageError:
        pass
    assert {entry.name for entry in tmp_path.iterdir()} == {name, "outside", "target"}
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("m.tar", "m"),
        ("m.TAR.GZ", "m"),
        ("a.b.tgz", "a.b"),
        ("m.zip", "m"),
        ("m.mar", None),
        (".zip", None),
        ("..zip", None),
        ("...tar", None),
        ("m", None),
    ],
)
def test_which_names_are_archives(name, folder):
    assert stem(name) == folder
