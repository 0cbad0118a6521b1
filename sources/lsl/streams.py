"""What LSL says of a stream: which one is meant, and what it is in the engine's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigError, SourceLost
from engine.plugins import nearest
from engine.types import StreamInfo

__all__ = [
    "KINDS",
    "MATCHES",
    "UNITS",
    "USUAL_UNIT",
    "Found",
    "check_size",
    "choose",
    "condition",
    "found",
    "signature",
]

MATCHES = ("name", "type", "source_id", "host")
_PROPERTY = {"host": "hostname"}
_MAX_CHANNELS = 4096
_MAX_RATE_HZ = 1_000_000.0
_MAX_XML = 1 << 20  # characters of metadata
KINDS = {
    "eeg": "eeg",
    "audio": "voice",
    "markers": "marker",
    "marker": "marker",
    "video": "face",
}
UNITS = {
    "microvolts": "uV",
    "microvolt": "uV",
    "uv": "uV",
    "µv": "uV",
    "μv": "uV",
    "millivolts": "mV",
    "millivolt": "mV",
    "mv": "mV",
    "volts": "V",
    "volt": "V",
    "v": "V",
    "microsiemens": "uS",
    "us": "uS",
    "µs": "uS",
    "celsius": "degC",
    "degc": "degC",
    "g": "g",
    "normalized": "fs",
    "fs": "fs",
}
USUAL_UNIT = {"eeg": "uV", "voice": "fs"}  # where the metadata names none


@dataclass(frozen=True, slots=True)
class Found:
    """A stream on the network as its short description tells it."""

    name: str
    type: str
    source_id: str
    host: str
    uid: str
    n_channels: int
    rate_hz: float

    def __str__(self) -> str:
        return f"'{self.name}' (type={self.type}, source_id={self.source_id or 'none'})"

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells one device from another; the uid is that of one start of its outlet."""
        return (self.name, self.type, self.source_id)


def found(info: Any) -> Found:
    """A resolved `pylsl.StreamInfo` in plain values."""
    return Found(
        info.name(), info.type(), info.source_id(), info.hostname(), info.uid(),
        info.channel_count(), info.nominal_srate(),
    )  # fmt: skip


def condition(match: Mapping[str, str], given: str | None) -> str:
    """The XPath condition that liblsl resolves by; raises ConfigError for an unknown key."""
    if given is not None:
        if match:
            raise ConfigError("lsl: give either match or predicate, not both")
        return given
    if not match:
        raise ConfigError(
            f"lsl: which stream? give match with any of {', '.join(MATCHES)}, "
            "such as {type: EEG, name: Muse}"
        )
    parts = []
    for key, value in match.items():
        if key not in MATCHES:
            hint = nearest(key, MATCHES) or f"; expected {', '.join(MATCHES)}"
            raise ConfigError(f"match.{key}: no such property{hint}")
        if not isinstance(value, str) or "'" in value:
            raise ConfigError(f"match.{key}: {value!r} must be text without a quote (')")
        parts.append(f"{_PROPERTY.get(key, key)}='{value}'")
    return " and ".join(parts)


def choose(streams: Sequence[Found], wanted: str) -> Found:
    """The only stream there is; raises SourceLost that names all where there are several.

    Two outlets of one identity cannot be told apart, so neither is read.
    """
    if len(streams) == 1:
        return streams[0]
    if len({stream.identity for stream in streams}) == 1:
        twins = ", ".join(f"{s.host} (uid {s.uid})" for s in streams)
        raise SourceLost(
            f"two outlets call themselves {streams[0]}: {twins}; close one of them, or give "
            "them different source_ids"
        )
    names = ", ".join(str(stream) for stream in streams)
    raise SourceLost(f"several LSL streams fit {wanted}: {names}; narrow it down under match")


def check_size(stream: Found) -> None:
    """Refuse what nobody streams, before anything is allocated for it; raises SourceLost."""
    if not 1 <= stream.n_channels <= _MAX_CHANNELS:
        raise SourceLost(
            f"{stream} declares {stream.n_channels} channels; at most {_MAX_CHANNELS} are taken"
        )
    if not 0 <= stream.rate_hz <= _MAX_RATE_HZ:
        raise SourceLost(
            f"{stream} declares {stream.rate_hz:g} Hz; 0 to {_MAX_RATE_HZ:g} are taken"
        )


def signature(stream: str, info: Any, kind: str | None, unit: str | None) -> StreamInfo:
    """A full `pylsl.StreamInfo` as the engine's StreamInfo of the stream called `stream`.

    `kind` and `unit` stand for what the metadata leave open or say wrongly. Raises SourceLost
    for metadata beyond all measure.
    """
    about = found(info)
    check_size(about)
    if len(info.as_xml()) > _MAX_XML:
        raise SourceLost(f"{about} has metadata of over {_MAX_XML >> 20} MB; it is not read")
    kind = kind or KINDS.get(about.type.lower(), "physio")
    if kind == "marker":
        return StreamInfo(stream, kind, None, ("marker",), "", (1,))
    labels = [label or "" for label in info.get_channel_labels() or ()]
    if len(labels) != about.n_channels or not all(labels):
        labels = [f"{i + 1}" for i in range(about.n_channels)]
        if kind == "voice" and len(labels) == 1:
            labels = ["mono"]
    units = {str(u or "").strip().lower() for u in info.get_channel_units() or ()} - {""}
    if unit is None and len(units) > 1:
        raise SourceLost(
            f"{about} has channels in different units ({', '.join(sorted(units))}); give its unit "
            "in the source, or let the device send one stream per unit"
        )
    told = next(iter(units), "")
    unit = unit or UNITS.get(told, told) or USUAL_UNIT.get(kind, "")
    rate_hz = about.rate_hz or None
    return StreamInfo(stream, kind, rate_hz, tuple(labels), unit, (len(labels),))
