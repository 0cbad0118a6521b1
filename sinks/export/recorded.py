"""A recording as exports see it: whose, when, which streams, what was said; under its own names
or under pseudonyms."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine import wire
from engine.account import Stage
from engine.config import config_from
from engine.errors import ConfigError
from engine.log import LogHeader, LogReader
from engine.timeline import GapPolicy, Run, Timeline
from engine.types import Chunk, Event, Marker, Prediction, StreamInfo
from sinks.export.pseudonyms import Pseudonyms

__all__ = ["Recorded"]

Said = Prediction | Event | Marker
_TOLD = ("prediction", "event", "marker")
_OF_A_PERSON = ("face", "voice")  # a pseudonym hides neither


@dataclass(slots=True)
class Recorded:
    """One recording. `warnings` fill while it is read: they name what is left out, and why."""

    path: Path
    name: str  # of the files that are written
    header: LogHeader
    hidden: Pseudonyms | None = None
    warnings: dict[str, None] = field(default_factory=dict)
    now_s: float = -math.inf  # what the session had been told of the time, where the reading is

    @classmethod
    def open(cls, path: str | Path, hidden: Pseudonyms | None = None) -> Recorded:
        """The recording at `path`, under the pseudonyms of `hidden` if given."""
        path = Path(path)
        header = LogReader(path).header
        if hidden is None:
            return cls(path, path.stem, header)
        session = hidden.name(header.session)
        wall_s, shift_s = header.wall_offset_s, hidden.shift_s(header.session)
        disguised = replace(
            header,
            session=session,
            run=hidden.stand_in(header.run),
            wall_offset_s=None if wall_s is None else wall_s + shift_s,
        )
        return cls(path, f"{session}-{hidden.stand_in(path.stem)}", disguised, hidden)

    def warn(self, text: str) -> None:
        """Say once what is left out."""
        self.warnings[text] = None

    def said(self) -> Iterator[Said]:
        """Predictions, events and markers, in their order."""
        for record in LogReader(self.path):
            if record.kind in _TOLD:
                yield self._told(record.kind, record.payload)

    def labels(self) -> tuple[str, ...]:
        """The labels of all predictions, in the order in which they appear."""
        found: dict[str, None] = {}
        for message in self.said():
            if isinstance(message, Prediction):
                found |= dict.fromkeys(message.probabilities or ())
        return tuple(found)

    def items(self) -> Iterator[tuple[StreamInfo, Chunk] | Said]:
        """Chunks with their stream's info, and what was said, in the order of the log."""
        infos = dict(self.header.streams)
        reader = LogReader(self.path)
        for record in reader:
            if record.kind == "advance":
                self.now_s = record.payload
            elif record.kind == "command" and record.payload.verb == "connect":
                infos[record.payload.args["stream"]] = record.payload.args["info"]
            elif record.kind in _TOLD:
                yield self._told(record.kind, record.payload)
            elif record.kind == "chunk" and isinstance(chunk := record.payload, Chunk):
                info = infos[chunk.stream]
                if len(chunk) and chunk.data.shape[1:] == info.shape and self._shown(info):
                    yield replace(info, name=chunk.stream), chunk
        if reader.torn_at is not None:
            self.warn("the recording has no clean end: what was whole in it is exported")
        if not self.header.raw:
            self.warn("the recording holds no raw signals, so there are none to export")

    def runs(self) -> Iterator[tuple[StreamInfo, Run] | tuple[StreamInfo, Chunk] | Said]:
        """As `items`, the signals with a rate put in order and in time as the engine did it.

        Lost and broken items are there, invalid; stamps are on the engine's clock.
        """
        lines: dict[str, Timeline] = {}
        found: list[Run] = []
        infos: dict[str, StreamInfo] = {}
        for item in self.items():
            if not isinstance(item, tuple):
                yield item
                continue
            info, chunk = item
            if info.rate_hz is None or info.kind == "face":
                yield info, chunk
                continue
            if info.name not in lines:
                lines[info.name] = self._timeline(info)
                infos[info.name] = info
            lines[info.name].push(chunk, found.append)
            yield from ((info, run) for run in found)
            found.clear()
        for name, line in lines.items():
            line.end(found.append)
            yield from ((infos[name], run) for run in found)
            found.clear()

    def _timeline(self, info: StreamInfo) -> Timeline:
        gaps = GapPolicy()
        try:
            config = config_from(json.loads(self.header.config), str(self.path))
            told = config.streams[info.name].gaps
            gaps = GapPolicy(told.policy, told.max_gap_s, told.reorder_s)
        except (ConfigError, KeyError, ValueError):
            self.warn(f"{info.name}: how its gaps were to be filled is not told; up to 0.1 s")
        return Timeline(info, gaps, Stage(lambda: 0), lambda *_: None, lambda: self.now_s)

    def _shown(self, info: StreamInfo) -> bool:
        if self.hidden is None or info.kind not in _OF_A_PERSON:
            return True
        self.warn(f"{info.name}: a {info.kind} tells who it is, under any name; it is left out")
        return False

    def _told(self, kind: str, body: bytes) -> Said:
        message: Any = wire.decode(kind, body)
        if self.hidden is None:
            return message  # type: ignore[no-any-return]
        header = self.header
        wall_s = None if header.wall_offset_s is None else message.t + header.wall_offset_s
        changed: dict[str, Any] = {"session": header.session, "run": header.run, "t_wall": wall_s}
        if isinstance(message, Event):
            changed["detail"] = {}  # it may name devices, hosts and files
        if isinstance(message, Marker):
            self.warn("markers are told word for word: look whether they name somebody")
        return replace(message, **changed)  # type: ignore[no-any-return]
