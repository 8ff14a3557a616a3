"""Loads the gateway's Lua modules into LuaJIT; texts go in and come out as bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lupa.luajit21 as lupa

import shoal.gateway

FOLDER = Path(shoal.gateway.__file__).parent / "lua"


def runtime() -> Any:
    lua = lupa.LuaRuntime(encoding=None, unpack_returned_tuples=True)
    preload = lua.eval(b"function(name, source) package.preload[name] = assert(loadstring(source, name)) end")
    for file in FOLDER.glob("*.lua"):
        preload(b"shoal." + file.stem.encode(), file.read_bytes())
    return lua


def require(module: str, lua: Any = None) -> Any:
    return _Module((lua or runtime()).eval(f'require("shoal.{module}")'.encode()))


class _Module:
    def __init__(self, table: Any) -> None:
        self._table = table

    def __getattr__(self, name: str) -> Any:
        return self._table[name.encode()]
