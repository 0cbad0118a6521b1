"""The log's layout: how a record lies in an MCAP file, and what its body holds.

A log is an MCAP file without MCAP chunks: Header, then Channel and Message records, then the
closing (DataEnd, summary, Footer). Every message body is one msgpack array
`[checksum, size, content]`. The checksum is a CRC-32 over the header record of the log, the
channel's topic, the message's own fields and the content, so a record proves by itself, even in
a torn file, that it is whole and belongs to this log; the contiguous sequence numbers prove order
and absence. All other bytes follow from these, and readers demand exactly them.
"""

from __future__ import annotations

import platform
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import numpy as np
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Channel, DataEnd, Footer, Header, McapRecord, Statistics
from mcap.writer import MCAP0_MAGIC

from engine.errors import DataError
from engine.types import Chunk, StreamInfo

__all__ = [
    "FORMAT",
    "FRAME",
    "HEAD",
    "MAGIC",
    "MESSAGE",
    "OUTPUTS",
    "ChunkRange",
    "Command",
    "Layout",
    "LogHeader",
    "SourceEvent",
    "decode",
    "encode",
    "encode_chunk",
    "installed_versions",
    "opening",
]

FORMAT = 1
MAGIC: bytes = MCAP0_MAGIC
MESSAGE = int(Opcode.MESSAGE)
OUTPUTS = frozenset(("prediction", "event", "marker", "health"))
HEAD = struct.Struct("<BQHIQQ")  # opcode, length, channel, sequence, log time, publish time
FRAME = struct.Struct(">BBIBI")  # an array of three: uint32 checksum, uint32 size, the content


def installed_versions() -> dict[str, str]:
    """What the bits of a prediction depend on beside the log itself."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("vagus", "numpy", "scipy", "onnxruntime"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    return versions


@dataclass(frozen=True, slots=True)
class LogHeader:
    """Record 0: what has to be the same for the log to give the same predictions.

    Streams that connect later than the log begins are in its `connect` commands.
    """

    run: str
    session: str
    config: str  # resolved, as JSON
    origin_s: float
    wall_offset_s: float | None  # Unix seconds minus engine seconds
    bundles: Mapping[str, str]  # name: sha256
    streams: Mapping[str, StreamInfo] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    raw: bool = True  # chunk records hold their data
    middle: bool = False  # begins in the middle of its session: the first commands lead there, but
    # what its filters, clocks and averages had seen before is not in it

    @property
    def started_wall(self) -> float | None:
        """Unix seconds at `origin_s`."""
        return None if self.wall_offset_s is None else self.origin_s + self.wall_offset_s


@dataclass(frozen=True, slots=True)
class ChunkRange:
    """A chunk without its data: `shape` (time, *item) and `dtype` tell what there was."""

    stream: str
    segment: int
    first_index: int
    stamps: tuple[tuple[int, float], ...]
    truth: tuple[tuple[int, str | None], ...]
    dtype: str
    shape: tuple[int, ...]
    offset_s: float = 0.0

    def __len__(self) -> int:
        return self.shape[0]


@dataclass(frozen=True, slots=True)
class Command:
    """A command as the session took it; an argument `info` is a StreamInfo."""

    verb: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """What a source told beside its chunks."""

    stream: str
    code: str
    detail: dict[str, Any]
    t: float


class _ChunkBody(msgspec.Struct, omit_defaults=True):
    segment: int
    first_index: int
    stamps: tuple[tuple[int, float], ...]
    truth: tuple[tuple[int, str | None], ...]
    dtype: str
    shape: tuple[int, ...]
    data: bytes | list[Any] | None = None
    offset_s: float = 0.0


class _Advance(msgspec.Struct):
    now_s: float


class _Shed(msgspec.Struct):
    tick: int


class _End(msgspec.Struct):
    account: dict[str, Any]


class Layout:
    """The channels of one log, in order, and the bytes that follow from them."""

    def __init__(self) -> None:
        self.topics: list[str] = []  # of the channels 1, 2, ...
        self._ids: dict[str, int] = {}
        self._seeds: list[int] = []
        self._counts: list[int] = []
        self._identity = 0  # the header record's checksum
        self.first_ns = 0
        self.last_ns = 0

    def channel(self, topic: str) -> tuple[int, bytes]:
        """The id of a topic's channel, and the record that opens it (empty if it is open)."""
        known = self._ids.get(topic)
        if known is not None:
            return known, b""
        self.topics.append(topic)
        self._seeds.append(zlib.crc32(topic.encode(), self._identity))
        self._counts.append(0)
        number = self._ids[topic] = len(self.topics)
        return number, _packed(Channel(number, topic, "msgpack", {}, schema_id=0))

    def checksum(self, channel: int, head: bytes, content: bytes) -> int:
        """The checksum of a message from its packed HEAD and its content."""
        return zlib.crc32(content, zlib.crc32(head, self._seeds[channel - 1]))

    def count(self, channel: int, log_ns: int, checksum: int) -> None:
        """A message is in the file; the very first one gives the log its identity."""
        if not self._identity:
            self._identity = checksum or 1
            self.first_ns = log_ns
        self._counts[channel - 1] += 1
        self.last_ns = log_ns

    def closing(self, at: int, data_crc: int) -> bytes:
        """All bytes after the last message, where `data_crc` covers the `at` bytes before."""
        end = _packed(DataEnd(data_crc))
        channels = [
            Channel(number, topic, "msgpack", {}, schema_id=0)
            for number, topic in enumerate(self.topics, 1)
        ]
        statistics = Statistics(
            attachment_count=0, channel_count=len(self.topics),
            channel_message_counts=dict(enumerate(self._counts, 1)), chunk_count=0,
            message_count=sum(self._counts), message_end_time=self.last_ns,
            message_start_time=self.first_ns, metadata_count=0, schema_count=0,
        )  # fmt: skip
        summary = b"".join(map(_packed, channels)) + _packed(statistics)
        footer = _packed(Footer(at + len(end), 0, 0))[:-4]
        crc = zlib.crc32(summary + footer)
        return end + summary + footer + struct.pack("<I", crc) + MAGIC


def opening() -> bytes:
    """The first bytes of every log of this format."""
    return MAGIC + _packed(Header(f"vagus/{FORMAT}", "vagus"))


def encode_chunk(chunk: Chunk, raw: bool) -> bytes:
    """A chunk as the content of a record, without its data unless `raw`."""
    data = np.asarray(chunk.data)
    if data.dtype.byteorder == ">":
        data = data.astype(data.dtype.newbyteorder("<"))
    content: bytes | list[Any] | None = None
    if raw:
        content = data.tolist() if data.dtype == object else data.tobytes()
    body = _ChunkBody(
        chunk.segment, chunk.first_index, chunk.stamps, chunk.truth,
        data.dtype.str, data.shape, content, chunk.offset_s,
    )  # fmt: skip
    return _ENCODER.encode(body)


def encode(kind: str, *values: Any) -> bytes:
    """The content of a record of any other kind, from the fields of its type in their order."""
    return _ENCODER.encode(_TYPES[kind](*values))


def decode(topic: str, content: bytes) -> Any:
    """What the content of a record on `topic` stands for; see LogReader for the types."""
    kind, _, stream = topic.partition("/")
    if kind in OUTPUTS:
        return content
    try:
        if kind == "chunk":
            return _chunk(stream, _CHUNKS.decode(content))
        value = _DECODERS[kind].decode(content)
        if kind == "command" and "info" in value.args:
            value.args["info"] = msgspec.convert(value.args["info"], StreamInfo)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"a '{topic}' record that this version cannot read: {error}") from error
    plain = {"advance": "now_s", "shed": "tick", "end": "account"}
    return getattr(value, plain[kind]) if kind in plain else value


def _chunk(stream: str, body: _ChunkBody) -> Chunk | ChunkRange:
    if body.data is None:
        return ChunkRange(
            stream, body.segment, body.first_index, body.stamps, body.truth,
            body.dtype, body.shape, body.offset_s,
        )  # fmt: skip
    if isinstance(body.data, list):
        data = np.empty(body.shape, object)
        data[...] = np.array(body.data, object).reshape(body.shape)
    else:
        dtype = np.dtype(body.dtype)
        if dtype.hasobject or len(body.data) != dtype.itemsize * int(np.prod(body.shape)):
            raise ValueError(f"{len(body.data)} bytes are no {body.shape} of {body.dtype}")
        data = np.ndarray(body.shape, dtype, body.data)
    return Chunk(
        stream, body.segment, body.first_index, body.stamps, data, body.truth, body.offset_s
    )


def _packed(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    packed: bytes = builder.end()  # type: ignore[no-untyped-call]
    return packed


def _plain(value: Any) -> Any:
    """numpy's scalars, which sources are free to use in what they tell."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a log cannot hold a {type(value).__name__}")


_TYPES: dict[str, Any] = {
    "header": LogHeader,
    "advance": _Advance,
    "command": Command,
    "source": SourceEvent,
    "shed": _Shed,
    "end": _End,
}
_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)
_DECODERS = {kind: msgspec.msgpack.Decoder(shape) for kind, shape in _TYPES.items()}
_CHUNKS = msgspec.msgpack.Decoder(_ChunkBody)
