"""A small recording of everything that a session may hold, and what went into it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engine import wire
from engine.clock import SettableClock
from engine.log import LogHeader, LogWriter
from engine.types import Array, Chunk, StreamInfo
from tests.messages import RUN, event, marker, prediction

ORIGIN_S = 50.0  # engine seconds at which it begins
WALL_S = 1.7e9  # Unix seconds minus engine seconds
OFFSET_S = 1000.25  # the headset's clock is so far behind
LOST = (250, 300)  # items of the EEG that never came
EEG = StreamInfo("eeg", "eeg", 250.0, ("Fz", "Cz", "Pz"), "uV", (3,))
SKIN = StreamInfo("skin", "physio", 4.0, ("EDA",), "uS", (1,))
VOICE = StreamInfo("voice", "voice", 1600.0, ("mono",), "fs", (1,))
FACE = StreamInfo("face", "face", None, ("blue", "green", "red"), "jpeg", ())
MARKS = StreamInfo("marks", "marker", None, ("value",), "", (1,))
CONFIG = {
    "session": "p01",
    "purpose": "research",
    "retention_days": 30,
    "streams": {
        info.name: {"source": {"type": "lsl", "match": {"name": info.name}}}
        for info in (EEG, SKIN, VOICE, FACE, MARKS)
    },
}


@dataclass(frozen=True, slots=True)
class Lab:
    """The recording at `path`, and what its devices gave: chunks by stream."""

    path: Path
    chunks: dict[str, list[Chunk]]

    def items(self, stream: str) -> Array:
        return np.concatenate([c.data for c in self.chunks[stream]])

    def own_stamps(self, stream: str) -> dict[int, float]:
        """{position among the items that came: stamp of the device's own clock}."""
        found, at = {}, 0
        for c in self.chunks[stream]:
            found |= {at + i - c.first_index: t - c.offset_s for i, t in c.stamps}
            at += len(c)
        return found


def record(
    path: Path, session: str = "p01", *, raw: bool = True, close: bool = True, **about: Any
) -> Lab:
    """Three seconds of five streams, with a gap, a reconnection, markers and predictions."""
    told = {"config": json.dumps({**CONFIG, "session": session}), "origin_s": ORIGIN_S,
            "wall_offset_s": WALL_S, "bundles": {"eeg": "00ff"}} | about  # fmt: skip
    clock = SettableClock(ORIGIN_S)
    log = LogWriter(path, LogHeader(run=RUN, session=session, **told), clock=clock, raw=raw)
    chunks = _chunks(np.random.default_rng(0))
    for info in (EEG, SKIN, VOICE, FACE, MARKS):
        log.command("connect", {"stream": info.name, "info": info})
    for one in sorted(
        (c for found in chunks.values() for c in found), key=lambda c: c.stamps[0][1]
    ):
        log.advance(one.stamps[0][1])
        log.chunk(one)
    ends = [ORIGIN_S + 0.5 * k for k in range(1, 7)]
    messages = [
        *(prediction(k, session, t=t, t_wall=t + WALL_S) for k, t in enumerate(ends)),
        replace(event(0, session), t=ORIGIN_S + 1.0),
        replace(marker(0, session, value="begin"), t=ORIGIN_S + 0.5),
        replace(marker(1, session, stream="marks", value="clap"), t=ORIGIN_S + 1.0),
    ]
    for message in messages:
        log.message(message.kind, wire.encode(message))
    if close:
        log.close({})
    return Lab(path, chunks)


def _chunks(rng: np.random.Generator) -> dict[str, list[Chunk]]:
    eeg = []
    for first in range(0, 500, 50):
        if first != LOST[0]:
            eeg.append(
                _chunk(EEG, 0, first, rng.normal(0, 20, (50, 3)), ORIGIN_S + first / 250, OFFSET_S)
            )
    for first in range(0, 200, 50):  # back after half a second
        at_s = ORIGIN_S + 2.5 + first / 250
        eeg.append(_chunk(EEG, 1, first, rng.normal(0, 20, (50, 3)), at_s, OFFSET_S + 0.5))
    skin = [_chunk(SKIN, 0, k, rng.normal(4, 1, (1, 1)), ORIGIN_S + k / 4) for k in range(12)]
    voice = [
        _chunk(VOICE, 0, k * 320, rng.uniform(-0.5, 0.5, (320, 1)), ORIGIN_S + k * 0.2)
        for k in range(15)
    ]
    face, marks = [], []
    for k in range(30):
        picture = np.empty(1, object)
        picture[0] = cv2.imencode(".jpg", rng.integers(0, 255, (24, 32, 3), np.uint8))[1].tobytes()
        face.append(Chunk("face", 0, k, ((k, ORIGIN_S + 0.1 * k),), picture))
    mark = np.empty((1, 1), object)
    mark[0, 0] = "clap"
    marks.append(Chunk("marks", 0, 0, ((0, ORIGIN_S + 1.0),), mark, (), OFFSET_S))
    return {"eeg": eeg, "skin": skin, "voice": voice, "face": face, "marks": marks}


def _chunk(
    info: StreamInfo, segment: int, first: int, data: Array, at_s: float, offset_s: float = 0.0
) -> Chunk:
    stamps = ((first, at_s),)
    return Chunk(info.name, segment, first, stamps, data.astype(np.float32), (), offset_s)
