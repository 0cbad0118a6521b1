"""Pickles of numbers, read without running what they say: plain values and arrays, nothing else.

DEAP and SEED-V come as pickles, which are programs. Here the program is read first: only the
instructions that build plain values are let through, few of them, and what it may name are four
things, none of which is ever called. Arrays are built afterwards, out of what was checked.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from engine.errors import DataError
from engine.types import Array

__all__ = ["read_pickle", "unpickle"]

MAX_BYTES = 512 << 20  # five times a subject of DEAP
_MAX_OPCODES = 20_000  # 45 arrays take 2000
_MAX_DEPTH = 6
_MAX_AXES = 4
_MAX_DIGITS = 20  # of a number in text
_OPCODES = frozenset(
    {"PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE"}
    | {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
    | {"EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"}
    | {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"}
    | {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
)
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_TEXT_NUMBERS = frozenset({"INT", "LONG", "FLOAT", "PUT", "GET"})
_DTYPE = re.compile(r"[fiu][1248]")  # the numbers that data sets are made of
# All that the interpreter of pickles was seen to raise on damaged ones.
_DAMAGED = (
    *(pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, AttributeError),
    *(TypeError, OverflowError, MemoryError, RecursionError),
)


class _Refused(Exception):
    """What the pickle asks for and does not get."""


class _ArrayState:
    """Stands where the pickle makes an array, and keeps what it should hold."""

    __slots__ = ("state",)

    def __setstate__(self, state: object) -> None:
        self.state = state


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Bytes as Python 3 writes them for Python 2: text, one character a byte. Not copied here."""

    text: str


class _DtypeState:
    """Stands where the pickle makes a dtype: its code, and the byte order that comes later."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), str() as order, None, None, None, *_) if order in ("<", ">", "|", "="):
                self.order = order
            case _:
                raise _Refused(f"a dtype {self.code!r} with fields or an odd state")


class _Name:
    """One of the four things that a pickle may name; calling it notes down, and does no more."""

    __slots__ = ("text",)
    KNOWN: ClassVar[dict[tuple[str, str], str]] = {
        ("numpy.core.multiarray", "_reconstruct"): "array",
        ("numpy._core.multiarray", "_reconstruct"): "array",
        ("numpy", "ndarray"): "ndarray",
        ("numpy", "dtype"): "dtype",
        ("_codecs", "encode"): "encode",
    }

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, *args: object) -> object:
        match (self.text, *args):
            case ("array", _Name(text="ndarray"), (0,), b"b" | "b" | _Encoded("b")):
                return _ArrayState()
            case ("dtype", str() as code, False | 0, True | False | 0 | 1):
                if not _DTYPE.fullmatch(code):
                    raise _Refused(f"an array of dtype {code!r}; only numbers are read")
                return _DtypeState(code)
            case ("encode", str() as text, "latin1" | "latin-1"):
                return _Encoded(text)
        raise _Refused(f"a call of {self.text} with arguments that no array of numbers needs")

    def __setstate__(self, state: object) -> None:
        raise _Refused(f"a change of {self.text}")


class _Reader(pickle.Unpickler):
    """An unpickler to which nothing but the four names exists."""

    def find_class(self, module: str, name: str) -> _Name:
        """The stand-in for a name; raises _Refused for any other."""
        known = _Name.KNOWN.get((module, name))
        if known is None:
            raise _Refused(f"the name {module[:80]}.{name[:80]}")
        return _Name(known)

    def persistent_load(self, pid: object) -> None:
        """There is nothing outside the pickle."""
        raise _Refused("an object from outside")


def read_pickle(path: Path) -> Any:
    """The plain values and arrays of a pickle file; see `unpickle`."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path}: {size >> 20} MiB; a pickle of up to {MAX_BYTES >> 20} is read")
    return unpickle(path.read_bytes(), str(path))


def unpickle(data: bytes, where: str) -> Any:
    """What a pickle of protocol 0 to 4 holds: dict, list, tuple, str, bytes, numbers and arrays.

    Text of Python 2 is taken as Latin-1. Arrays are of real numbers and read-only. Nothing that
    the pickle names is called, and no more memory is taken than a small multiple of its own
    length. Raises DataError, with `where` and what was refused, for anything else.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{where}: a pickle of {len(data) >> 20} MiB; the limit is "
                        f"{MAX_BYTES >> 20}")  # fmt: skip
    try:
        _check_opcodes(data)
        noted = _Reader(io.BytesIO(data), encoding="latin-1").load()
        return _Builder(len(data)).plain(noted)
    except _Refused as refused:
        raise DataError(f"{where}: a pickle that asks for {refused}; it was not run") from None
    except _DAMAGED as error:
        raise DataError(f"{where}: no pickle, or a damaged one: {error}") from error


def _check_opcodes(data: bytes) -> None:
    """Go through the program without running it: which instructions, how many, how large."""
    for n, (opcode, operand, _) in enumerate(pickletools.genops(data), 1):
        name, arg = opcode.name, cast(Any, operand)
        if name not in _OPCODES:
            raise _Refused(f"the instruction {name}")
        if n > _MAX_OPCODES:
            raise _Refused(f"more than {_MAX_OPCODES} instructions")
        if name == "PROTO" and arg > 4:
            raise _Refused(f"protocol {arg}; protocols 0 to 4 are read")
        if name in _PUT and not 0 <= arg < _MAX_OPCODES:
            raise _Refused(f"place {arg} of its memo")
        if name in _TEXT_NUMBERS and len(str(arg)) > _MAX_DIGITS:
            raise _Refused(f"a number of more than {_MAX_DIGITS} digits")


class _Builder:
    """Makes values out of what was noted down, as much as the pickle itself could hold.

    What it refers to again and again is made again and again: the values and the bytes are counted.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_values, self._n_bytes = _MAX_OPCODES, n_bytes

    def plain(self, value: Any, depth: int = _MAX_DEPTH) -> Any:
        """`value` with arrays where their stand-ins are; nothing else may be left of those."""
        self._n_values -= 1
        if depth == 0:
            raise _Refused(f"values nested more than {_MAX_DEPTH} deep")
        if self._n_values < 0:
            raise _Refused(f"more than {_MAX_OPCODES} values")
        match value:
            case _ArrayState():
                return self._array(value)
            case _Encoded():
                return self._content(value)
            case dict():
                parts = value.items()
                return {self.plain(k, depth - 1): self.plain(v, depth - 1) for k, v in parts}
            case list() | tuple():
                return type(value)(self.plain(item, depth - 1) for item in value)
            case None | bool() | int() | float() | str() | bytes():
                return value
        raise _Refused("a name or a dtype where a value belongs")

    def _array(self, stand_in: _ArrayState) -> Array:
        """The array that a state (version, shape, dtype, Fortran order, bytes) describes."""
        match getattr(stand_in, "state", None):
            case (1, tuple() as shape, _DtypeState() as kind, bool() | 0 | 1 as fortran, raw):
                pass
            case _:
                raise _Refused("an array with an odd state")
        if len(shape) > _MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
            raise _Refused(f"an array of shape {str(shape)[:80]}")
        content = self._content(raw)
        dtype = np.dtype(kind.order + kind.code)
        if math.prod(shape) * dtype.itemsize != len(content):
            told = f"{str(shape)[:80]} of {dtype.name}, with {len(content)} bytes for it"
            raise _Refused(f"an array {told}")
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")

    def _content(self, raw: Any) -> bytes:
        """The bytes that an array is made of, in any of the three ways of writing them."""
        match raw:
            case bytes():
                content = raw
            case str(text) | _Encoded(text=text):
                self._n_bytes -= len(text)
                if self._n_bytes < 0:
                    raise _Refused("more bytes than it has")
                content = text.encode("latin-1")
            case _:
                raise _Refused(f"an array whose content is a {type(raw).__name__}")
        return content
