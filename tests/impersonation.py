"""A file that another process plays over LSL into an engine, and what its replay says there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine import Player, wire
from engine.bundle import Bundle
from engine.config import config_from
from engine.log import Command, LogReader
from engine.prepare import plan
from engine.types import Array, Chunk, Prediction, StreamInfo
from sources.feed import play_recording
from sources.files import open_recording
from tests.engines import DEADLINE_S, running, until

_SHIFT_S = 2e-3  # what LSL's clock and a busy machine may add to one moment or another


@dataclass(frozen=True, slots=True)
class Impersonated:
    """What came over LSL, and the predictions made of it and of the file at those moments."""

    items: Array
    file: Array
    shifts_s: Array  # engine's clock minus the file's, stamp by stamp
    live: list[Prediction]
    replayed: list[Prediction]

    def check(self, n: int) -> None:
        """The law: the file's items, on one shifted clock, give the `n` predictions or more."""
        assert np.array_equal(self.items, self.file)
        assert np.ptp(self.shifts_s) < _SHIFT_S
        assert len(self.live) >= n
        assert [told(p) for p in self.live] == [told(p) for p in self.replayed]


def told(p: Prediction) -> tuple[object, ...]:
    """What a prediction says of its moment, window, and person."""
    (used,) = p.modalities.values()
    return p.t, used["first"], used["last"], p.label, p.probabilities


def impersonate(path: Path, bundle: Path, folder: Path) -> Impersonated:
    """Play the one stream of `path` into an engine that reads it with `bundle`."""
    recording = open_recording(path)
    (stream,) = recording.streams
    match = {"source_id": f"vagus-play-{recording.name}-{stream.info.name}"}
    config = config_from(
        {
            "session": "live", "purpose": "research",
            "publish": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*",
            "streams": {stream.info.name: {
                "source": {"type": "lsl", "match": match, "kind": stream.info.kind},
                "bundle": str(bundle),
            }},
            "recording": {"path": str(folder / "live.mcap"), "raw": True},
        }
    )  # fmt: skip
    with playing(path) as process, running(config):
        assert process.wait(recording.end_s - recording.first_s + DEADLINE_S) == 0
        until(lambda: _n(folder / "live.mcap") == stream.n_items, "the last item")
    log = LogReader(folder / "live.mcap")
    chunks = [r.payload for r in log if isinstance(r.payload, Chunk)]
    assert {c.segment for c in chunks} == {0}
    stamps = [stamp for c in chunks for stamp in c.stamps]
    messages = [wire.decode("prediction", r.payload) for r in log if r.kind == "prediction"]
    live = [m for m in messages if isinstance(m, Prediction) and m.probabilities is not None]
    header = log.header
    there = replace(
        stream,
        info=next(_infos(log)),
        stamps=(np.array([i for i, _ in stamps]), np.array([t for _, t in stamps])),
    )
    player = Player(plan(config, header.run, header.origin_s, header.wall_offset_s, Bundle.load))
    played = play_recording(replace(recording, streams=(there,), markers=()), player)
    found = [m for m in played if isinstance(m, Prediction) and m.probabilities is not None]
    return Impersonated(
        np.concatenate([c.data for c in chunks]), stream.read(0, stream.n_items),
        np.array([t - stream.time(i) for i, t in stamps]), live,
        [m for m in found if m.t <= live[-1].t],
    )  # fmt: skip


@contextmanager
def playing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`vagus play PATH --lsl` in a process of its own, killed at the end."""
    line = "import sys; from engine.cli import main; sys.exit(main(['play', sys.argv[1], '--lsl']))"
    process = subprocess.Popen(
        [sys.executable, "-c", line, str(path)], stdout=subprocess.DEVNULL
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _n(path: Path) -> int:
    return sum(len(r.payload) for r in LogReader(path) if isinstance(r.payload, Chunk))


def _infos(log: LogReader) -> Iterator[StreamInfo]:
    for record in log:
        if isinstance(record.payload, Command) and record.payload.verb == "connect":
            yield record.payload.args["info"]
