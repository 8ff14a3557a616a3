"""Which globals a pickle would import and call, found by following its opcodes without running any.

Scanners that search for known evil names are bypassed by the next name. So everything a pickle refers to is listed and
held against what model files are known to need (`policy`), and what cannot be followed to its end is refused. Followed
means: strings, tuples and the memo are tracked, so that a name put together on the stack is seen; arrays that joblib
writes between opcodes are skipped by their exact length; pickles within pickles are followed as well.
"""

from __future__ import annotations

import pickletools
import re
import tempfile
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, cast

MAX_OPCODES: Final = 20_000_000
MAX_GLOBALS: Final = 10_000
_JOBLIB_ARRAY: Final = ("joblib.numpy_pickle", "NumpyArrayWrapper")
_REFUSED: Final = frozenset({"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"})
_STRINGS: Final = frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_CONSTANTS: Final = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_MOST_ARRAY_BYTES: Final = 64 * 1024**3
_IN_MEMORY: Final = 32 * 1024 * 1024
_ARRAY_FIELDS: Final = frozenset({"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"})
_DTYPE: Final = re.compile(r"[<>|=]?([biufSUVMmO])([0-9]{1,12})|[<>|=]?(c)(8|16|32)")
_HAS_OBJECTS: Final = 1
"""NumPy's flag of dtypes whose items are references."""
_OTHER_KEYS: Final = "\0"
"""Stands in a followed dictionary for keys that are no plain text."""


class UnreadablePickle(Exception):
    """The opcodes cannot be followed; whatever it is, it is not a model to be trusted."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that is imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(slots=True)
class _Made:
    """An object that would be made by calling something."""

    by: Any
    arguments: Any = None
    state: Any = None


class _Mark:
    pass


_MARK: Final = _Mark()
_UNKNOWN: Final = object()
"""A value whose content does not matter."""


@dataclass(slots=True)
class Walk:
    """What was found."""

    globals: set[Global] = field(default_factory=set)
    opcodes: int = 0
    persistent: bool = False
    """It refers to objects outside of itself, as the pickles in PyTorch's archives do."""
    called: set[Global] = field(default_factory=set)
    """Names that are called with arguments."""
    programs: list[BinaryIO] = field(default_factory=list)
    """The opcodes of each pickle without the arrays between them: what other scanners can read."""


def walk(file: BinaryIO, found: Walk | None = None, *, joblib: bool = False) -> Walk:
    """Follow one pickle from where the file stands to behind its end.

    Args:
        joblib: joblib will read it, so arrays may stand between opcodes. Whoever reads it otherwise would take an
            array's bytes for opcodes, so without this such arrays are refused.

    Raises:
        UnreadablePickle: it cannot be followed.
    """
    found = found or Walk()
    try:
        _Follower(file, found, joblib=joblib).run()
    except UnreadablePickle:
        raise
    except Exception as error:  # Opcodes on garbage fail in as many ways as there are opcodes.
        raise UnreadablePickle(
            f"it cannot be followed as a pickle ({type(error).__name__}), so it is damaged or none"
        ) from None
    return found


class _Follower:
    def __init__(self, file: BinaryIO, found: Walk, *, joblib: bool) -> None:
        self._file = file
        self._found = found
        self._joblib = joblib
        self._program: BinaryIO = cast(BinaryIO, tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 - handed on
        found.programs.append(self._program)
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> None:
        start = self._file.tell()
        for opcode, argument, _ in pickletools.genops(self._file):
            self._found.opcodes += 1
            if self._found.opcodes > MAX_OPCODES:
                raise UnreadablePickle(f"it has more than {MAX_OPCODES} opcodes")
            if opcode.name == "STOP":
                self._keep(start, self._file.tell())
                if len(self._stack) != 1:
                    raise UnreadablePickle("it ends with more or less than one object")
                return
            self._step(opcode, argument)
            if opcode.name == "BUILD" and _is_joblib_array(self._stack[-1]):
                self._keep(start, self._file.tell())
                self._skip_array(self._stack.pop())
                self._stack.append(_UNKNOWN)
                start = self._file.tell()
        raise UnreadablePickle("it has no end")

    def _keep(self, start: int, end: int) -> None:
        self._file.seek(start)
        while (left := end - self._file.tell()) > 0:
            self._program.write(self._file.read(min(left, _IN_MEMORY)))

    def _step(self, opcode: Any, argument: Any) -> None:
        name = opcode.name
        if name in _REFUSED:
            raise UnreadablePickle(f"it uses {name}, which no model file needs")
        if name in _STRINGS or name in _CONSTANTS:
            self._stack.append(argument)
        elif handler := getattr(self, f"_on_{name.lower()}", None):
            handler(argument)
        else:
            self._generic(opcode)

    def _generic(self, opcode: Any) -> None:
        """By what the opcode is documented to take from the stack and to put there."""
        taken = opcode.stack_before
        if pickletools.markobject in taken:
            self._to_mark()
            taken = taken[: taken.index(pickletools.markobject)]
        for _ in taken:
            self._pop()
        self._stack.extend(_UNKNOWN for _ in opcode.stack_after)

    # --- the stack and the memo --------------------------------------------------------------------------------------

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise UnreadablePickle("it takes a mark for an object")
        return value

    def _to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def _on_mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _on_pop(self, _: Any) -> None:
        self._stack.pop()  # A mark as well.

    def _on_pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _on_dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _on_put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _on_binput = _on_long_binput = _on_put

    def _on_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _on_get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _on_binget = _on_long_binget = _on_get

    def _on_proto(self, version: int) -> None:
        if version > 5:
            raise UnreadablePickle(f"it is of protocol {version}")

    def _on_frame(self, _: Any) -> None:
        """Only says how many bytes to read at once."""

    # --- values that array lengths and names are made of ------------------------------------------------------------

    def _on_none(self, _: Any) -> None:
        self._stack.append(None)

    def _on_newtrue(self, _: Any) -> None:
        self._stack.append(True)

    def _on_newfalse(self, _: Any) -> None:
        self._stack.append(False)

    def _on_empty_tuple(self, _: Any) -> None:
        self._stack.append(())

    def _on_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _on_tuple1(self, _: Any) -> None:
        self._tuple(1)

    def _on_tuple2(self, _: Any) -> None:
        self._tuple(2)

    def _on_tuple3(self, _: Any) -> None:
        self._tuple(3)

    def _tuple(self, size: int) -> None:
        self._stack.append(tuple(self._pop() for _ in range(size))[::-1])

    def _on_empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _on_dict(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append(_pairs(items))

    def _on_setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _on_setitems(self, _: Any) -> None:
        self._update(self._to_mark())

    def _update(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], dict):
            self._stack[-1].update(_pairs(items))

    def _on_append(self, _: Any) -> None:
        self._pop()

    def _on_appends(self, _: Any) -> None:
        self._to_mark()

    _on_additems = _on_appends

    # --- imports and calls ------------------------------------------------------------------------------------------

    def _on_global(self, argument: str) -> None:
        self._stack.append(self._import(*argument.split(" ", 1)))

    def _on_stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise UnreadablePickle("it puts the name of an import together while it is read")
        self._stack.append(self._import(module, name))

    def _on_inst(self, argument: str) -> None:
        arguments = tuple(self._to_mark())
        self._call(self._import(*argument.split(" ", 1)), arguments)

    def _on_obj(self, _: Any) -> None:
        made_by, *arguments = self._to_mark()
        self._call(made_by, tuple(arguments))

    def _on_reduce(self, _: Any) -> None:
        arguments, made_by = self._pop(), self._pop()
        self._call(made_by, arguments)

    _on_newobj = _on_reduce

    def _on_newobj_ex(self, _: Any) -> None:
        _, arguments, made_by = self._pop(), self._pop(), self._pop()
        self._call(made_by, arguments)

    def _call(self, made_by: Any, arguments: Any) -> None:
        # What a call returns may be called in turn; only names are judged, so that must not hide one.
        if not isinstance(made_by, Global):
            raise UnreadablePickle("it calls what is not an imported name")
        if arguments != ():
            self._found.called.add(made_by)
        self._stack.append(_Made(made_by, arguments))

    def _on_build(self, _: Any) -> None:
        state = self._pop()
        built = self._stack[-1]
        if isinstance(built, Global):
            raise UnreadablePickle(f"it changes {built} itself")
        if isinstance(built, _Made):
            if built.state is not None and (_is_joblib_array(built) or _is_dtype(built)):
                raise UnreadablePickle("it describes an array twice")
            built.state = state

    def _on_persid(self, _: Any) -> None:
        self._found.persistent = True
        self._stack.append(_UNKNOWN)

    def _on_binpersid(self, _: Any) -> None:
        self._pop()
        self._on_persid(None)

    def _import(self, module: str, name: str) -> Global:
        found = Global(module, name)
        if " " in name:
            raise UnreadablePickle(f"it imports {name!r}")
        if (module, name) == _JOBLIB_ARRAY and not self._joblib:
            raise UnreadablePickle("it holds joblib's arrays, but joblib does not read it")
        self._found.globals.add(found)
        if len(self._found.globals) > MAX_GLOBALS:
            raise UnreadablePickle(f"it imports more than {MAX_GLOBALS} names")
        return found

    # --- arrays that joblib writes between opcodes -------------------------------------------------------------------

    def _skip_array(self, wrapper: _Made) -> None:
        state = wrapper.state
        if wrapper.arguments != () or not isinstance(state, dict) or not state.keys() <= _ARRAY_FIELDS:
            raise UnreadablePickle("an array is not described as joblib does")
        shape = state.get("shape")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise UnreadablePickle("an array has no proper shape")
        kind, length = _item(state.get("dtype"))
        if kind == "O":
            # Not by joblib: an array within these objects is refused, so pickles nest no deeper.
            walk(self._file, self._found)
            return
        for size in shape:
            length *= size
        if length > _MOST_ARRAY_BYTES:
            raise UnreadablePickle("an array is larger than a model can be")
        alignment = state.get("numpy_array_alignment_bytes")
        if alignment is not None:
            padding = self._file.read(1)
            if len(padding) != 1 or type(alignment) is not int:
                raise UnreadablePickle("an array is cut off")
            length += padding[0]
        self._require(length)

    def _require(self, length: int) -> None:
        here = self._file.tell()
        end = self._file.seek(0, 2)
        if here + length > end:
            raise UnreadablePickle("an array is cut off")
        self._file.seek(here + length)


def _is_joblib_array(value: Any) -> bool:
    return isinstance(value, _Made) and value.by == Global(*_JOBLIB_ARRAY)


def _is_dtype(value: Any) -> bool:
    return isinstance(value, _Made) and value.by == Global("numpy", "dtype")


def _pairs(items: list[Any]) -> dict[str, Any]:
    keys, values = items[::2], items[1::2]
    return {key if isinstance(key, str) else _OTHER_KEYS: value for key, value in zip(keys, values, strict=True)}


def _item(dtype: Any) -> tuple[str, int]:
    """Kind (`O`: references) and bytes of the items of a `numpy.dtype('f8', False, True)` that is being made.

    What its state says about size and references is what NumPy goes by, so it must agree with the name.
    """
    arguments = dtype.arguments if _is_dtype(dtype) else None
    name = arguments[0] if isinstance(arguments, tuple) and arguments else None
    known = _DTYPE.fullmatch(name) if isinstance(name, str) else None
    if known is None:
        raise UnreadablePickle(f"an array is of an unknown dtype {name!r:.40}")
    kind, size = known[1] or known[3], int(known[2] or known[4])
    length = size * (4 if kind == "U" else 1)
    state = dtype.state
    if state is None:
        return kind, length
    if not isinstance(state, tuple) or len(state) < 8 or type(state[5]) is not int or type(state[7]) is not int:
        raise UnreadablePickle("the dtype of an array is not described as NumPy does")
    objects = bool(state[7] & _HAS_OBJECTS)
    if state[5] not in (-1, length) or (objects and kind not in "OV") or (kind == "O" and not objects):
        raise UnreadablePickle("the dtype of an array contradicts itself")
    return ("O" if objects else kind), length
