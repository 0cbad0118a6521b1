"""Feeds a recording back: the same inputs in the same order give the same predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine import wire
from engine.bundle import Bundle
from engine.config import Config, config_from
from engine.errors import BundleError, DataError
from engine.log import Command, LogHeader, LogReader, LogReport, check_log
from engine.plan import SessionPlan
from engine.player import Player
from engine.prepare import bundle_for, plan
from engine.swap import prepare
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
    config = config_from(json.loads(reader.header.config), str(path))
    planned = _plan(path, config, reader.header, load)
    player = Player(planned, shed=frozenset(reader.shed_ticks()))
    find = _Finder(path, config, load)
    for record in reader:
        payload = record.payload
        if record.kind == "chunk" and isinstance(payload, Chunk):
            for chunk in cut(payload) if cut is not None else (payload,):
                yield from player.push(chunk)
        elif record.kind == "advance":
            yield from player.advance(payload)
        elif record.kind == "command" and isinstance(payload, Command):
            args = payload.args
            if payload.verb == "swap":
                stream, bundle = args["stream"], find(**args)
                args = {"stream": stream, "swap": prepare(player.session, stream, bundle)}
            yield from player.command(payload.verb, **args)
    player.check()


def _predictions(path: str | Path) -> list[Prediction]:
    """Those that the recording holds."""
    bodies = (record.payload for record in LogReader(path) if record.kind == "prediction")
    found = (wire.decode("prediction", body) for body in bodies)
    return [message for message in found if isinstance(message, Prediction)]


def _compared(path: str | Path, load: Callable[[str, str], Bundle]) -> str:
    """How near the predictions of a recording without its session's beginning come to those made
    again: filters, clock fits and averages begin anew, so nothing can demand the same bits."""
    again = {m.tick: m for m in rerun(path, load=load) if isinstance(m, Prediction)}
    n = 0
    off: list[float] = []
    for was in _predictions(path):
        results = _results(was)
        n += len(results)
        fresh = _results(again[was.tick]) if was.tick in again else {}
        for key in results.keys() & fresh.keys():
            one, other = results[key], fresh[key]
            off.append(max(abs(p - other.get(label, 0.0)) for label, p in one.items()))
    return (
        "the recording begins in the middle of its session, and what filters, clocks and averages "
        f"had seen before is not in it. {len(off)} of {n} results of single modalities were made "
        f"again from as many items; no probability is off by more than {max(off, default=0.0):.2g}"
    )


def _results(made: Prediction) -> dict[tuple[str, int, float], dict[str, float]]:
    """{(modality, how many items its window spans, its filled share): probabilities}.

    Not which items: those of a grid that the engine made count from where it was begun.
    """
    used = {name: about for name, about in made.modalities.items() if about["used"]}
    return {
        (name, about["last"] - about["first"], about["filled"]): about["probabilities"]
        for name, about in used.items()
    }


class _Finder:
    """Finds the bundles again that a recorded session was swapped to."""

    def __init__(
        self, path: str | Path, config: Config, load: Callable[[str, str], Bundle]
    ) -> None:
        self._path, self._config, self._load = path, config, load
        self._found: dict[tuple[str, str], Bundle] = {}  # by stream and hash

    def __call__(self, stream: str, bundle: Mapping[str, str]) -> Bundle:
        """The bundle {id, sha256, where} as the stream's config wants it; raises DataError."""
        key = stream, bundle["sha256"]
        if key not in self._found:
            self._found[key] = self._find(stream, bundle)
        return self._found[key]

    def _find(self, stream: str, told: Mapping[str, str]) -> Bundle:
        swapped = (
            f"{self._path}: stream '{stream}' was swapped to the bundle {told['id']} of SHA-256 "
            f"{told['sha256']}, which was at {told['where']}"
        )
        try:
            found = bundle_for(self._config, stream, told["where"], self._load)
        except BundleError as error:
            raise DataError(f"{swapped}; put it back there: {error}") from error
        if found.sha256 != told["sha256"]:
            raise DataError(f"{swapped}; the one that is there now is {found.sha256}")
        return found


def verify(path: str | Path, load: Callable[[str, str], Bundle] = Bundle.load) -> Proof:
    """Prove a recording: whole records, a balanced account, and the same predictions again.

    Raises DataError that names the first broken law. An unclean end is no broken law.
    """
    report = check_log(path)
    reader = LogReader(path)
    if not reader.header.raw:
        return Proof(report, 0, "the recording holds no raw signals (raw: false)")
    if reader.header.middle:
        return Proof(report, 0, _compared(path, load))
    logged = _predictions(path)
    again = (m for m in rerun(path, load=load) if isinstance(m, Prediction))
    n = 0
    for was, now in zip(logged, again, strict=False):
        if replace(was, latency_ms={}) != now:
            raise DataError(
                f"{path}: prediction {was.seq} (tick {was.tick}, t {was.t:.3f} s) comes out "
                f"otherwise from the recorded inputs: {_differs(was, now)}"
            )
        n += 1
    if n < len(logged):
        raise DataError(f"{path}: {len(logged)} predictions are recorded, but the inputs give {n}")
    return Proof(report, n)


def _plan(
    path: str | Path, config: Config, header: LogHeader, load: Callable[[str, str], Bundle]
) -> SessionPlan:
    if not header.raw:
        raise DataError(
            f"{path}: holds no raw signals, so it cannot be replayed; record with raw: true"
        )
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
