"""The log's writer: what goes in comes out, others read it too, and no disk breaks the engine."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.exceptions import EndOfFile
from mcap.reader import NonSeekingReader, make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader

from engine.log import LogWriter
from engine.log.check import check_log
from engine.log.format import ChunkRange, Command, SourceEvent
from engine.log.reader import LogReader, LogRecord
from engine.types import Chunk
from tests.logs import EEG, HEADER, STAGE, body, chunk, record, same, unclosed


def test_every_kind_of_record_comes_back_in_the_order_it_was_given(tmp_path: Path) -> None:
    reader = LogReader(record(tmp_path / "a.mcap"))
    assert reader.header == replace(HEADER, versions=reader.header.versions)
    assert set(reader.header.versions) >= {"vagus", "python", "numpy", "scipy", "onnxruntime"}
    assert reader.header.started_wall == 1.7e9 + 10.5
    found = list(reader)
    assert [r.sequence for r in found] == list(range(1, 14))
    expected = [
        ("command", None, Command("connect", {"stream": "eeg", "info": EEG})),
        ("chunk", "eeg", chunk(0)),
        ("source", None, SourceEvent("eeg", "source.frozen", {"n": 3}, 11.25)),
        ("advance", None, 11.5),
        ("shed", None, 1),
        ("chunk", "eeg", chunk(2)),
        ("prediction", None, body(0, tick=2)),
        ("chunk", "bvp", chunk(6, stream="bvp")),
        ("event", None, body(0, code="degraded")),
        ("prediction", None, body(1, tick=3)),
        ("marker", None, body(0, value="start")),
        ("health", None, body(0, counters={"eeg": {"steps": STAGE}})),
        ("end", None, {"eeg": {"steps": STAGE}}),
    ]
    for n, (record_found, wanted) in enumerate(zip(found, expected, strict=True), 1):
        assert same(record_found, LogRecord(n, *wanted))
    assert (reader.torn_at, reader.kept) == (None, 14)
    assert reader.shed_ticks() == {1}
    assert all(same(a, b) for a, b in zip(reader, found, strict=True)), "a second pass differs"


INDEX = st.integers(0, 2**62)
REAL = st.floats(allow_nan=False)
DTYPES = st.sampled_from(["<f4", "<f8", "|u1", "<i2", "<i8", "<u4", "|b1", "<U3", "|S5"])
SHAPES = st.sampled_from([(0, 2), (1, 1), (3, 2), (2, 2, 2, 3), (5,)])


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    shape, dtype = draw(SHAPES), np.dtype(draw(DTYPES))
    size = int(np.prod(shape)) * dtype.itemsize
    if dtype.kind in "fiu":
        raw = draw(st.binary(min_size=size, max_size=size))
        data = np.frombuffer(raw or bytearray(), dtype).reshape(shape)
    else:
        data = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    first = draw(INDEX)
    stamps = tuple((first + j, draw(REAL)) for j in range(draw(st.integers(0, 3))))
    truth = tuple(
        (first + j, draw(st.none() | st.text(max_size=5))) for j in range(draw(st.integers(0, 2)))
    )
    stream = draw(st.sampled_from(["eeg", "a/b", "Größe"]))
    return Chunk(stream, draw(st.integers(0, 2**40)), first, stamps, data, truth)


@given(
    given_chunks=st.lists(chunks(), max_size=6),
    times=st.lists(REAL, max_size=4),
    raw=st.booleans(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_chunk_and_any_time_come_back_bit_by_bit(
    given_chunks: list[Chunk], times: list[float], raw: bool
) -> None:
    def tell(log: LogWriter) -> None:
        for one in given_chunks:
            log.chunk(one)
        for t in times:
            log.advance(t)

    with tempfile.TemporaryDirectory() as folder:
        path = record(Path(folder) / "a.mcap", tell, raw=raw)
        found = list(LogReader(path))
        report = check_log(path)
    assert report.clean
    assert sum(s.n_items for s in report.streams.values()) == sum(map(len, given_chunks))
    got_chunks, got_times = found[: len(given_chunks)], found[len(given_chunks) : -1]
    assert [r.payload for r in got_times] == times
    for n, (one, got) in enumerate(zip(given_chunks, got_chunks, strict=True), 1):
        if raw:
            assert same(got, LogRecord(n, "chunk", one.stream, one))
        else:
            assert got.payload == ChunkRange(
                one.stream, one.segment, one.first_index, one.stamps, one.truth,
                one.data.dtype.str, one.data.shape,
            )  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | REAL | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(args=st.dictionaries(st.text(max_size=6).filter(lambda k: k != "info"), JSON, max_size=4))
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_any_arguments_of_a_command_come_back(args: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = record(Path(folder) / "a.mcap", lambda log: log.command("mark", args))
        assert next(iter(LogReader(path))).payload == Command("mark", args)


@pytest.mark.parametrize(
    "data",
    [
        np.arange(12, dtype=">i4").reshape(6, 2),
        np.asfortranarray(np.arange(12.0).reshape(6, 2)),
        np.arange(24, dtype=np.float32).reshape(12, 2)[::2],
        np.array([b"\xff\xd8jpeg", b"", b"more"], object),
        np.array(["start", "größe"], object),
    ],
    ids=["big endian", "Fortran order", "strided", "frames as bytes", "markers"],
)
def test_arrays_come_back_equal_however_they_lay_in_memory(data: Any, tmp_path: Path) -> None:
    one = Chunk("s", 0, 0, (), data)
    back = next(iter(LogReader(record(tmp_path / "a.mcap", lambda log: log.chunk(one))))).payload
    assert back.data.shape == data.shape
    assert back.data.tolist() == data.tolist()
    assert back.data.dtype.kind == data.dtype.kind


def test_numbers_may_be_numpys_own(tmp_path: Path) -> None:
    def tell(log: LogWriter) -> None:
        stamps = ((np.int64(2**33), np.float64(0.1)),)
        log.chunk(Chunk("s", 0, np.int64(2**33), stamps, np.zeros((1, 1))))
        log.source("s", "stream.rate", {"hz": np.float32(0.5), "n": np.uint8(3)}, np.float64(1))

    first, second, _ = LogReader(record(tmp_path / "a.mcap", tell))
    assert (first.payload.first_index, first.payload.stamps) == (2**33, ((2**33, 0.1),))
    assert second.payload == SourceEvent("s", "stream.rate", {"hz": 0.5, "n": 3}, 1.0)


def test_a_log_without_raw_data_holds_none_and_proves_the_same_account(tmp_path: Path) -> None:
    needle = chunk(0).data.tobytes()
    full, bare = record(tmp_path / "full.mcap"), record(tmp_path / "bare.mcap", raw=False)
    assert needle in full.read_bytes()
    assert needle not in bare.read_bytes()
    assert not LogReader(bare).header.raw
    assert check_log(bare).streams == check_log(full).streams


def test_the_public_reader_lists_channels_and_messages_of_a_closed_log(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap")
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "vagus/1"
        summary = reader.get_summary()
        assert summary is not None
        topics = {c.topic: n for n, c in summary.channels.items()}
        assert topics.keys() == {
            "header", "command", "chunk/eeg", "chunk/bvp", "source", "advance", "shed",
            "prediction", "event", "marker", "health", "end",
        }  # fmt: skip
        assert {c.message_encoding for c in summary.channels.values()} == {"msgpack"}
        assert summary.statistics is not None
        assert summary.statistics.message_count == 14
        assert summary.statistics.channel_message_counts[topics["prediction"]] == 2
        assert summary.statistics.message_start_time == 11_000_000_000
        assert summary.statistics.message_end_time == 12_000_000_000
        found = list(reader.iter_messages())
    assert [m.sequence for _, _, m in found] == list(range(14))
    content = msgpack.unpackb(found[2][2].data)[2]
    assert (found[2][1].topic, content["shape"]) == ("chunk/eeg", [2, 2])
    assert content["data"] == chunk(0).data.tobytes()
    with path.open("rb") as file:
        whole = NonSeekingReader(file, validate_crcs=True)
        assert len(list(whole.iter_messages(topics=["prediction"]))) == 2


def test_the_public_stream_reader_reads_an_unclosed_log(tmp_path: Path) -> None:
    found = []
    torn = io.BytesIO(unclosed(record(tmp_path / "a.mcap").read_bytes()))
    with suppress(EndOfFile):
        for one in StreamReader(torn).records:
            found += [one.sequence] if isinstance(one, Message) else []
    assert found == list(range(13))
