"""The log's reader: whole records or none, whatever happened to the file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import Writer

from engine.clock import SettableClock
from engine.errors import DataError
from engine.log import LogWriter
from engine.log.check import check_log
from engine.log.reader import LogReader
from tests.logs import HEADER, fill, messages, record, same, spans, unclosed


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return record(tmp_path_factory.mktemp("log") / "small.mcap").read_bytes()


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    """Bytes as a file."""

    def write(raw: bytes) -> Path:
        path = tmp_path / "put.mcap"
        path.write_bytes(raw)
        return path

    return write


def test_a_log_torn_at_any_byte_gives_exactly_its_whole_records(
    small: bytes, put: Callable[[bytes], Path]
) -> None:
    ends = [end for _, end in messages(small)]
    whole = list(LogReader(put(small)))
    closing_at = ends[-1]
    for cut in range(len(small)):
        path = put(small[:cut])
        n = sum(end <= cut for end in ends)
        if n == 0:
            with pytest.raises(DataError, match="ends before its header"):
                LogReader(path)
            continue
        reader = LogReader(path)
        found = list(reader)
        assert all(same(a, b) for a, b in zip(found, whole[: n - 1], strict=True))
        assert reader.kept == n
        assert reader.torn_at is not None
        assert ends[n - 1] <= reader.torn_at <= cut
        if cut <= closing_at and cut in ends:
            assert reader.torn_at == cut
        report = check_log(path)
        assert not report.clean
        assert (report.account is None) == (n < len(ends))
    assert check_log(put(small)).clean


def test_a_tail_of_zeros_as_a_power_cut_leaves_it_is_a_tear(
    small: bytes, put: Callable[[bytes], Path]
) -> None:
    ends = [end for _, end in messages(small)]
    for cut in range(ends[0], ends[-1], 3):
        path = put(small[:cut].ljust(4096, b"\0"))
        reader = LogReader(path)
        n = len(list(reader)) + 1
        whole = sum(end <= cut for end in ends)
        assert n == whole or small[cut : ends[n - 1]].strip(b"\0") == b""
        assert not check_log(path).clean


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF, 0x0A])
def test_every_changed_byte_of_a_closed_log_is_found(
    flip: int, small: bytes, put: Callable[[bytes], Path]
) -> None:
    missed = []
    for at in range(len(small)):
        changed = bytearray(small)
        changed[at] ^= flip
        try:
            check_log(put(bytes(changed)))
        except DataError:
            continue
        missed.append(at)
    assert missed == []


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF, 0x0A])
def test_every_changed_byte_of_an_unclosed_log_is_found(
    flip: int, small: bytes, put: Callable[[bytes], Path]
) -> None:
    raw = unclosed(small)
    missed = []
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= flip
        try:
            check_log(put(bytes(changed)))
        except DataError:
            continue
        missed.append(at)
    assert missed == []


def test_a_changed_byte_in_the_torn_record_itself_takes_no_whole_record_along(
    small: bytes, put: Callable[[bytes], Path]
) -> None:
    spans_of_chunks = messages(small)
    (start, end), n = spans_of_chunks[6], 6
    raw = small[: (start + end) // 2]
    for at in range(start, len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 0xFF
        reader = LogReader(put(bytes(changed)))
        with suppress(DataError):
            list(reader)
        assert reader.kept == n


def test_a_changed_byte_is_named_with_its_record_and_place(
    small: bytes, put: Callable[[bytes], Path]
) -> None:
    start, end = messages(small)[6]
    changed = bytearray(small)
    changed[end - 3] ^= 0x10
    with pytest.raises(DataError, match=f"record 6, at byte {start}, is damaged.*checksum"):
        check_log(put(bytes(changed)))


@pytest.mark.parametrize("closed", [True, False])
def test_every_removed_record_is_missed_by_its_number(
    closed: bool, small: bytes, put: Callable[[bytes], Path]
) -> None:
    raw = small if closed else unclosed(small)
    found = messages(raw)
    last = len(found) - 1
    for n, (start, end) in enumerate(found):
        path = put(raw[:start] + raw[end:])
        if n == last and not closed:
            assert not check_log(path).clean, "what was never written is not missed"
            continue
        why = f"missing: {n} is; record {n + 1} follows {n - 1}"
        if n in (0, last):
            why = "is damaged"
        with pytest.raises(DataError, match=why):
            check_log(path)


def test_several_removed_records_are_missed_by_their_numbers(
    small: bytes, put: Callable[[bytes], Path]
) -> None:
    raw = unclosed(small)
    (start, _), (after, _) = messages(raw)[6], messages(raw)[9]
    keep = [(a, b) for opcode, a, b in spans(small) if opcode == 4 and start <= a < after]
    channels = b"".join(raw[a:b] for a, b in keep)
    with pytest.raises(DataError, match="missing: 6 to 8 are; record 9 follows 5"):
        check_log(put(raw[:start] + channels + raw[after:]))


@pytest.mark.parametrize("closed", [True, False])
def test_every_doubled_record_is_found(
    closed: bool, small: bytes, put: Callable[[bytes], Path]
) -> None:
    raw = small if closed else unclosed(small)
    for n, (start, end) in enumerate(messages(raw)):
        with pytest.raises(DataError, match=f"record {n} stands again|damaged"):
            check_log(put(raw[:end] + raw[start:end] + raw[end:]))


def test_a_record_of_another_log_is_no_substitute(
    small: bytes, tmp_path: Path, put: Callable[[bytes], Path]
) -> None:
    log = LogWriter(tmp_path / "o.mcap", replace(HEADER, run="r2"), clock=SettableClock(11.0))
    fill(log)
    log.close({})
    other = log.path.read_bytes()
    (start, end), (start_2, end_2) = messages(small)[6], messages(other)[6]
    assert end - start == end_2 - start_2
    with pytest.raises(DataError, match=r"record 6.*checksum"):
        check_log(put(small[:start] + other[start_2:end_2] + small[end:]))


def test_what_is_no_log_is_refused_by_name(tmp_path: Path, put: Callable[[bytes], Path]) -> None:
    with pytest.raises(DataError, match="ends before its header"):
        LogReader(put(b""))
    with pytest.raises(DataError, match="is not an MCAP file"):
        LogReader(put(b"RIFF....WAVEfmt and so on"))
    with pytest.raises(DataError, match=r"cannot read .*: No such file"):
        LogReader(tmp_path / "none.mcap")
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
        LogReader(tmp_path)
    foreign = tmp_path / "foreign.mcap"
    with foreign.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2")
        writer.finish()
    with pytest.raises(DataError, match="no log of vagus: its profile is b'ros2'"):
        LogReader(foreign)


@pytest.mark.parametrize("number", [b"2", b"9", b"12"])
def test_a_newer_format_is_refused_with_both_numbers(
    number: bytes, small: bytes, put: Callable[[bytes], Path]
) -> None:
    newer = small.replace(b"\x07\0\0\0vagus/1", bytes([6 + len(number)]) + b"\0\0\0vagus/" + number)
    assert newer != small
    with pytest.raises(DataError, match=rf"newer vagus, in format {number.decode()}; .* up to 1"):
        LogReader(put(newer))


@given(junk=st.binary(max_size=200), keep=st.integers(0, 3000))
@settings(max_examples=150)
def test_random_bytes_behind_a_log_never_raise_anything_but_data_errors(
    junk: bytes, keep: int, small: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mcap"
        path.write_bytes(small[:keep] + junk)
        try:
            report = check_log(path)
        except DataError:
            return
    assert report.n_records <= len(messages(small))
