"""Feeds a recording back: the same inputs in the same order give the same predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import wire
from engine.bundle import Bundle
from engine.config import config_from
from engine.errors import DataError
from engine.log import Command, LogHeader, LogReader, LogReport, check_log
from engine.player import Player
from engine.prepare import plan
from engine.types import Chunk, Event, Marker, Prediction

__all__ = ["Proof", "rerun", "verify"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a recording was found to hold, and what its predictions were compared with."""

    report: LogReport
    n_compared: int  # predictions made again and found equal; 0 where raw signals are missing
    reason: str | None = None  # why none was compared


def rerun(
    path: str | Path,
    *,
    load: Callable[[str, str], Bundle] = Bundle.load,
    cut: Callable[[Chunk], Iterator[Chunk]] | None = None,
) -> Iterator[Prediction | Event | Marker]:
    """The messages of the recorded session, made again from its inputs.

    `cut` may cut chunks into smaller ones, which changes nothing. Raises DataError where the
    recording holds no raw signals or was made with another bundle.
    """
    reader = LogReader(path)
    player = Player(_plan(path, reader.header, load), shed=frozenset(reader.shed_ticks()))
    for record in reader:
        payload = record.payload
        if record.kind == "chunk" and isinstance(payload, Chunk):
            for chunk in cut(payload) if cut is not None else (payload,):
                yield from player.push(chunk)
        elif record.kind == "advance":
            yield from player.advance(payload)
        elif record.kind == "command" and isinstance(payload, Command):
            yield from player.command(payload.verb, **payload.args)
    player.check()


def verify(path: str | Path, load: Callable[[str, str], Bundle] = Bundle.load) -> Proof:
    """Prove a recording: whole records, a balanced account, and the same predictions again.

    Raises DataError that names the first broken law. An unclean end is no broken law.
    """
    report = check_log(path)
    reader = LogReader(path)
    if not reader.header.raw:
        return Proof(report, 0, "the recording holds no raw signals (raw: false)")
    logged = [
        wire.decode("prediction", record.payload)
        for record in LogReader(path)
        if record.kind == "prediction"
    ]
    again = (m for m in rerun(path, load=load) if isinstance(m, Prediction))
    n = 0
    for was, now in zip(logged, again, strict=False):
        assert isinstance(was, Prediction)
        if replace(was, latency_ms={}) != now:
            raise DataError(
                f"{path}: prediction {was.seq} (tick {was.tick}, t {was.t:.3f} s) comes out "
                f"otherwise from the recorded inputs: {_differs(was, now)}"
            )
        n += 1
    if n < len(logged):
        raise DataError(f"{path}: {len(logged)} predictions are recorded, but the inputs give {n}")
    return Proof(report, n)


def _plan(path: str | Path, header: LogHeader, load: Callable[[str, str], Bundle]) -> Any:
    if not header.raw:
        raise DataError(
            f"{path}: holds no raw signals, so it cannot be replayed; record with raw: true"
        )
    config = config_from(json.loads(header.config), str(path))
    made = plan(config, header.run, header.origin_s, header.wall_offset_s, load)
    for stream, part in made.streams.items():
        was = header.bundles.get(stream)
        if part.bundle is not None and part.bundle.sha256 != was:
            raise DataError(
                f"{path}: stream '{stream}' was recorded with another build of bundle "
                f"{part.bundle.id} ({was}); the one at hand is {part.bundle.sha256}"
            )
    return made


def _differs(was: Prediction, now: Prediction) -> str:
    for name in ("tick", "t", "label", "probabilities", "modalities", "missing", "truth"):
        if getattr(was, name) != getattr(now, name):
            return f"{name} was {getattr(was, name)}, is {getattr(now, name)}"
    return f"seq was {was.seq}, is {now.seq}"
