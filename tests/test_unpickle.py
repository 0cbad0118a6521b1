"""Restricted unpickling: numbers come through; all else is refused before it does anything."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError
from offline import unpickle as module
from offline.unpickle import read_pickle, unpickle

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
EMPTY = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"  # an array that waits for its state
F8 = b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
ORDER = b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


class Calls:
    """Pickles as a call of `function` with `args`."""

    def __init__(self, function: Callable[..., Any], *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def system(command: str) -> bytes:
    return b"cos\nsystem\n(U" + bytes([len(command)]) + command.encode() + b"tR"


def array(
    shape: bytes, dtype: bytes = F8 + ORDER, raw: bytes = b"U\x00", order: bytes = b"\x89"
) -> bytes:
    return EMPTY + b"(K\x01" + shape + dtype + order + raw + b"tb"


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def objects(what: object) -> Any:
    made = np.empty(2, object)
    made[:] = [1, what]
    return made


TOUCH = "touch /dev/null/executed"  # would fail loudly, were it run
LAUGHS = (
    b"\x80\x02"
    + b"]q\x00"
    + b"".join(b"]q" + bytes([k + 1]) + b"(" + (b"h" + bytes([k])) * 200 + b"e" for k in range(5))
)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a call of os.system": (pickle.dumps(Calls(__import__("os").system, TOUCH)), "system"),
    "os.system at protocol 0": (b"cos\nsystem\n(S'" + TOUCH.encode() + b"'\ntR.", "os.system"),
    "builtins.eval": (pickle.dumps(Calls(eval, "1 / 0"), 2), "eval"),
    "eval as python 2 has it": (b"c__builtin__\neval\n(U\x051 / 0tR.", "__builtin__.eval"),
    "subprocess": (b"csubprocess\nPopen\n(U\x05falsetR.", "subprocess.Popen"),
    "in an object array": (pickle.dumps(objects(Calls(eval, "1 / 0")), 2), "'O8'|eval"),
    "an object array of numbers": (pickle.dumps(objects(3), 2), "dtype 'O8'"),
    "in a dict's value": (b"\x80\x02}U\x04data" + system(TOUCH) + b"s.", "os.system"),
    "a name behind a popped one": (b"\x80\x02" + system(TOUCH) + b"0N.", "os.system"),
    "copyreg": (b"ccopyreg\n_reconstructor\n(c__builtin__\nobject\nNNtR.", "copyreg"),
    "an attribute of an allowed module": (b"cnumpy\nload\n(U\x01xtR.", "numpy.load"),
    "a dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0dcore.os.popen\x93.", "core.os.popen"),
    "STACK_GLOBAL of no text": (b"\x80\x04K\x01K\x02\x93.", "damaged"),
    "STACK_GLOBAL from the memo": (
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.",
        "os.system",
    ),
    "a memo place never put": (b"\x80\x02h\x07.", "damaged"),
    "a huge memo place": (b"\x80\x02Nr\xff\xff\xff\x7f.", "place 2147483647 of its memo"),
    "a negative memo place": (b"Np-5\n.", "memo"),
    "numpy's scalar": (pickle.dumps(np.float64(3), 2), "multiarray.scalar"),
    "numpy's _frombuffer": (b"cnumpy._core.numeric\n_frombuffer\n(tR.", "_frombuffer"),
    "protocol 5": (pickle.dumps(np.arange(3.0), 5), "protocol 5|_frombuffer"),
    "a subclass of ndarray": (pickle.dumps(np.ma.zeros(2), 2), "numpy.ma"),
    "an oversized shape": (
        b"\x80\x02" + array(b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft") + b".",
        "bytes for it",
    ),
    "an oversized _reconstruct": (
        RECONSTRUCT + b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R.",
        "a call of array",
    ),
    "a negative shape": (b"\x80\x02" + array(b"(J\xff\xff\xff\xfft") + b".", "shape"),
    "five axes": (b"\x80\x02" + array(b"(" + b"K\x01" * 5 + b"t") + b".", "shape"),
    "a state that is no array's": (b"\x80\x02" + EMPTY + b"}U\x04dataK\x01sb.", "odd state"),
    "content that is a number": (
        b"\x80\x02" + array(b"(K\x01t", raw=b"K\x08") + b".",
        "content is a int",
    ),
    "a structured dtype": (
        b"\x80\x02" + array(b"(K\x01t", F8 + b"(K\x03U\x01|NU\x01a\x85}K\x08K\x01K\x10tb") + b".",
        "fields or an odd state",
    ),
    "text as dtype": (pickle.dumps(np.array(["a"]), 2), "dtype 'U1'"),
    "a change of an allowed name": (
        b"\x80\x02cnumpy\ndtype\n}U\x08__call__Nsb.",
        "a change of dtype",
    ),
    "slots of an allowed name": (
        b"\x80\x02cnumpy\ndtype\nN}U\x0c__defaults__Ns\x86b.",
        "a change of dtype",
    ),
    "an allowed name as the value": (b"cnumpy\nndarray\n.", "a name or a dtype"),
    "a call of an array": (b"\x80\x02" + EMPTY + b"(tR.", "damaged"),
    "encode into code": (b"c_codecs\nencode\n(U\x01xU\x05rot13tR.", "a call of encode"),
    "a persistent id": (b"Pspam\n.", "PERSID"),
    "a persistent id from the stack": (b"\x80\x02U\x04spamQ.", "BINPERSID"),
    "an extension code": (b"\x80\x02\x82\x01.", "EXT1"),
    "a long extension code": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
    "INST": (b"(S'true'\nios\nsystem\n.", "INST"),
    "OBJ": (b"(cos\nsystem\nS'true'\no.", "OBJ"),
    "NEWOBJ": (b"\x80\x02cdecimal\nDecimal\n)\x81.", "NEWOBJ"),
    "an out-of-band buffer": (b"\x80\x05\x97.", "protocol 5|NEXT_BUFFER"),
    "deep nesting": (pickle.dumps(nested(50), 2), "nested more than"),
    "very deep nesting": (b"\x80\x02" + b"]" * 15000 + b"a" * 14999 + b".", "instructions"),
    "a value in itself": (b"\x80\x02]q\x00h\x00a.", "nested more than"),
    "a billion laughs": (LAUGHS + b".", "values"),
    "one text as many arrays": (
        b"\x80\x02]("
        + b"T" + struct.pack("<i", 1 << 20) + b"\0" * (1 << 20) + b"q\x000"
        + array(b"(J\x00\x00\x02\x00t", raw=b"h\x00") * 50
        + b"e.",
        "more bytes than it has",
    ),
    "millions of instructions": (b"\x80\x02" + b"N0" * 10**6 + b"N.", "instructions"),
    "a number of a million digits": (b"I" + b"9" * 10**6 + b"\n.", "damaged|digits"),
    "a number of a hundred digits": (b"L" + b"9" * 100 + b"L\n.", "digits"),
    "a LONG4": (b"\x80\x02\x8b\xff\xff\xff\x7f.", "damaged|LONG4"),
    "text longer than the file": (b"\x80\x02T\xff\xff\xff\x7fabc.", "damaged"),
    "text of 2^62 bytes": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.", "damaged"),
    "a frame of 2^62 bytes": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.", "damaged"),
    "bytes that are no key": (b"\x80\x02}]Ns.", "damaged"),
    "a set": (pickle.dumps({1, 2}, 4), "EMPTY_SET"),
    "nothing": (b"", "damaged"),
    "a text": (b"hello, world\n", "no pickle|OBJ"),
    "a zip archive": (b"PK\x03\x04" + bytes(100), "PERSID|no pickle"),
    "an end in the middle": (pickle.dumps(np.arange(99.0), 2)[:300], "damaged"),
    "no STOP": (b"\x80\x02N", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_plain_value_is_refused_and_not_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def executed(*args: object) -> None:
        raise AssertionError(f"executed with {args}")

    for target in ("os.system", "os.popen", "subprocess.Popen", "builtins.eval"):
        monkeypatch.setattr(target, executed)
    data, message = HOSTILE[name]
    path = tmp_path / "s01.dat"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"s01\.dat: a? ?.*({message})"):
            read_pickle(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(data) + (8 << 20)


def test_the_corpus_would_do_harm_to_an_ordinary_unpickler(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr("os.system", ran.append)
    pickle.loads(HOSTILE["os.system at protocol 0"][0])
    assert ran == [TOUCH]


VALUES: dict[Any, Any] = {
    "data": np.random.default_rng(0).standard_normal((3, 4, 5)),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "big endian": np.arange(5, dtype=">i2"),
    "float32": np.arange(5, dtype=np.float32)[::2],
    "no axes": np.array(7.0),
    "bytes": np.arange(256, dtype=np.uint8),
    44: [1, -(2**40), 2.5, None, True, False, "é", b"\x00\xff", (1, (2,)), {"a": 1}],
}


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("spelling", [b"numpy.core", b"numpy._core"])
def test_values_and_arrays_come_through_every_protocol(protocol: int, spelling: bytes) -> None:
    data = pickle.dumps(VALUES, protocol)
    if protocol < 4:  # with 4 the name has its length in front
        data = data.replace(b"cnumpy._core.", b"c" + spelling + b".")
    found = unpickle(data, "x")
    assert list(found) == list(VALUES)
    assert found[44] == VALUES[44]
    for key, x in VALUES.items():
        if isinstance(x, np.ndarray):
            assert (found[key].dtype, found[key].shape) == (x.dtype, x.shape)
            assert np.array_equal(found[key], x)


def test_what_python_2_wrote_is_read_as_latin_1() -> None:
    raw = np.array([1.5, -2.0]).tobytes()
    data = b"\x80\x02}U\x04data" + array(b"(K\x02t", raw=b"U\x10" + raw) + b"s."
    assert unpickle(data, "x")["data"].tolist() == [1.5, -2.0]


def test_a_file_that_is_too_large_is_not_even_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    path = tmp_path / "s01.dat"
    path.write_bytes(pickle.dumps(np.arange(99.0), 2))
    with pytest.raises(DataError, match=r"s01\.dat: .* a pickle of up to"):
        read_pickle(path)
    with pytest.raises(DataError, match="the limit is"):
        unpickle(path.read_bytes(), "x")
