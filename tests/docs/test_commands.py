"""Every command in the documentation exists with the options it is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from shoal.cli.main import app
from support.docs import ROOT, Page, pages

_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_SEPARATORS = {"&&", "||", "|", ";"}


def commands(block: str) -> Iterator[list[str]]:
    """The simple commands of a block of shell lines."""
    for line in block.replace("\\\n", " ").splitlines():
        words: list[str] = []
        line = re.sub(r"\s[0-9]?>\s*\S+", "", line)
        for word in [*shlex.split(line, comments=True), ";"]:
            if word in _SEPARATORS:
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def problem(words: list[str], *, whole: bool = True) -> str | None:
    """What is wrong with a command; `whole`: all it needs is there."""
    said = " ".join(words)
    if words[0] == "make":
        wrong = [word for word in words[1:] if "=" not in word and word not in _TARGETS]
        return f"{said}: no target {wrong}" if wrong else None
    if words[0] == "python" and words[1].endswith(".py"):
        return None if (ROOT / words[1]).is_file() else f"{said}: no such file"
    if words[0] == "kubectl" and "-f" in words:
        file = words[words.index("-f") + 1]
        return None if (ROOT / file).is_file() else f"{said}: no such file {file}"
    return _shoal_problem(words, said, whole=whole) if words[0] == "shoal" else None


def _shoal_problem(words: list[str], said: str, *, whole: bool) -> str | None:
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while rest and hasattr(command, "commands"):
        if rest[0] not in command.commands:
            return f"{said}: there is no verb {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    if hasattr(command, "commands"):
        return f"{said}: a verb is missing" if whole else None
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    wrong = [word for word in rest if word.startswith("-") and len(word) > 1 and word.split("=")[0] not in known]
    if wrong:
        return f"{said}: no option {', '.join(wrong)}"
    return _counts(command, rest, said) if whole else None


def _counts(command: Any, rest: list[str], said: str) -> str | None:
    takes_value = {
        option for p in command.params if p.param_type_name == "option" and not p.is_flag for option in p.opts
    }
    values = {index + 1 for index, word in enumerate(rest) if word in takes_value}
    plain = [word for index, word in enumerate(rest) if index not in values and (word == "-" or word[0] != "-")]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    least = sum(p.required for p in arguments)
    most = 1000 if any(p.nargs == -1 for p in arguments) else len(arguments)
    if values and max(values) >= len(rest):
        return f"{said}: the last option lacks its value"
    return None if least <= len(plain) <= most else f"{said}: has {len(plain)} arguments, takes {least} to {most}"


@pytest.mark.parametrize("page", pages(), ids=str)
def test_shell_blocks(page: Page) -> None:
    found = [problem(words) for block in page.blocks("console", "bash", "sh") for words in commands(block)]
    assert [wrong for wrong in found if wrong] == []


@pytest.mark.parametrize("page", pages(), ids=str)
def test_commands_in_the_text(page: Page) -> None:
    named = [text for text in page.inline() if re.match(r"(shoal|make) [a-z]", text) and "..." not in text]
    found = [problem(words, whole=False) for text in named for words in commands(text)]
    assert [wrong for wrong in found if wrong] == []


@pytest.mark.parametrize(
    "line",
    ["shoal serve", "shoal get", "shoal up --pods 3", "shoal wait isvc x --for", "shoal down now", "make everything",
     "python docs/nothing.py", "make demo && shoal pvc remove x"],
)  # fmt: skip
def test_wrong_commands_are_noticed(line: str) -> None:
    assert any(problem(words) for words in commands(line))
