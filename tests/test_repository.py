"""The repository as a whole: its layout, what it may not contain, and that a wheel of it is complete."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("platform/shoal", "runtime/shoal_runtime", "protos/shoal_protos")
SOURCES = ("platform", "runtime", "pipelines")
MOST_LINES = 400
MOST_FILES = 15
NINE = ("dagster", "etcd3", "grpcio", "kubernetes", "minio", "mlserver", "numpy", "protobuf", "pydantic")
# Put together here, so that this file does not contain them.
HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("maven", "org"),
        ("deb", "debian", "org"),
        ("dl", "k8s", "io"),
    )
)
HOME_PATHS = tuple(f"/{first}/" for first in ("work", "root", "home", "Users"))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_platform_is_the_standard_librarys_from_the_root_of_the_repository():
    where = Path(run(sys.executable, "-c", "import platform; platform.system(); print(platform.__file__)"))
    assert not where.is_relative_to(ROOT / "platform")
    assert where.parent == Path(os.__file__).parent


def test_platform_is_a_source_root_and_no_package():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert [path.name for path in (ROOT / "platform").iterdir() if path.suffix == ".py"] == []


@pytest.mark.parametrize("name", NINE)
def test_all_packages_are_installed_together(name):
    assert importlib.metadata.version(name)
    if name not in ("etcd3", "grpcio", "protobuf"):  # etcd3 needs stubs of ours; the others have other module names
        importlib.import_module(name)


def test_no_installed_packages_overwrite_each_others_files():
    """Which of two wheels wins a file is chance, so the same commands would make different environments."""
    owners: dict[str, set[str]] = {}
    for name in closure("shoal"):
        for file in importlib.metadata.distribution(name).files or ():
            if file.suffix == ".py":
                owners.setdefault(str(file), set()).add(name)
    shared = {path: sorted(names) for path, names in owners.items() if len(names) > 1}
    assert shared == {}


def closure(name: str, extras: tuple[str, ...] = ("mlserver", "demo")) -> set[str]:
    """A distribution and all that it needs, with these extras of it."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    todo = [(name, frozenset(extras))]
    while todo:
        current, wanted = todo.pop()
        if current in found:
            continue
        try:
            distribution = importlib.metadata.distribution(current)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(current)
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in (*wanted, "")):
                todo.append((requirement.name.lower().replace("_", "-"), frozenset(requirement.extras)))
    return found


def test_generated_code_is_current():
    run(sys.executable, "protos/generate.py", "--check")


def test_no_file_names_a_package_registry_or_a_directory_of_a_machine():
    found = []
    wanted = re.compile("|".join(map(re.escape, HOSTS)) + "|" + "|".join(rf"(?<![\w.$}}/-]){p}\w" for p in HOME_PATHS))
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in wanted.finditer(text)]
    assert found == []


def test_the_changelog_knows_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)
    assert version in headings or headings[:1] == ["Unreleased"]
    assert importlib.metadata.version("shoal") == version


def test_a_wheel_holds_every_file_of_the_packages(tmp_path):
    uv = Path(sys.executable).with_name("uv")
    run(str(uv), "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = []
    for package in PACKAGES:
        base = (ROOT / package).parent
        committed = [path for path in tracked() if path.is_relative_to(ROOT / package)]
        missing += [str(p.relative_to(base)) for p in committed if p.relative_to(base).as_posix() not in names]
        assert any(path.suffix != ".py" for path in committed)
    assert missing == []


def sources() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.parts[len(ROOT.parts)] in SOURCES]


def test_no_file_is_long_and_the_folders_of_mesh_and_command_line_are_small():
    long = {str(path.relative_to(ROOT)) for path in sources() if len(path.read_text().splitlines()) > MOST_LINES}
    assert long == set()
    rooms = Counter(path.parent for path in sources() if path.name != "__init__.py")
    parts = (ROOT / "platform/shoal/mesh", ROOT / "platform/shoal/cli")
    full = {room for room, files in rooms.items() if files > MOST_FILES and any(map(room.is_relative_to, parts))}
    assert full == set()


def test_no_two_classes_have_the_same_name():
    """Who reads a name, or searches for it, finds one thing. Private ones are known in their file only."""
    places = defaultdict(list)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
