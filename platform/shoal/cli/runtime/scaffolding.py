"""Writing the files a custom runtime starts from."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from shoal.cli.errors import UsageProblem

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
_SUFFIX = ".tmpl"


def scaffold(folder: Path, name: str) -> list[Path]:
    """Write a working runtime called `name` into `folder`: the files written. Nothing that exists is touched.

    Raises:
        UsageProblem: the name is no Kubernetes name, or a file is there already.
    """
    if not _NAME.fullmatch(name):
        raise UsageProblem(f"--name {name!r} must be lower-case letters, digits and '-', at most 53 characters")
    words = {
        "name": name,
        "module": name.replace("-", "_") + "_runtime",
        "class": "".join(part.capitalize() for part in name.split("-")) + "Runtime",
    }
    if words["module"][0].isdigit():
        raise UsageProblem(f"--name {name!r} must start with a letter: it becomes the name of a Python module")
    wanted = {}
    for place, template in _templates(files("shoal.cli.runtime.scaffold"), Path()):
        if place == Path("runtime.py"):
            place = Path(f"{words['module']}.py")
        wanted[folder / place] = _fill(template.read_text(), words)
    there = [path for path in wanted if path.exists()]
    if there:
        raise UsageProblem(f"{there[0]} exists already; choose an empty folder")
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sorted(wanted)


def _templates(folder: Traversable, below: Path) -> list[tuple[Path, Traversable]]:
    found: list[tuple[Path, Traversable]] = []
    for entry in folder.iterdir():
        if entry.name.endswith(_SUFFIX):
            found.append((below / entry.name.removesuffix(_SUFFIX), entry))
        elif entry.is_dir():
            found += _templates(entry, below / entry.name)
    return found


def _fill(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace("{{" + word + "}}", value)
    return text
