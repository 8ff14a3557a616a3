"""The Lua scripts, packed so that Envoy needs no files: each with the modules it requires."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"
_REQUIRE = re.compile(r'require\("shoal\.(\w+)"\)')


@cache
def script(name: str) -> str:
    """The source of `lua/NAME.lua`, preceded by the modules it requires."""
    source = (_FOLDER / f"{name}.lua").read_text()
    modules: dict[str, str] = {}
    _collect(source, modules)
    preloads = (f'package.preload["shoal.{module}"] = function()\n{text}end\n' for module, text in modules.items())
    return "".join(preloads) + source


def _collect(source: str, modules: dict[str, str]) -> None:
    for module in _REQUIRE.findall(source):
        if module not in modules:
            modules[module] = (_FOLDER / f"{module}.lua").read_text()
            _collect(modules[module], modules)
