"""Recordings to labelled windows: read out of the very session that serves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.bundle import Bundle, InputSpec
from engine.errors import DataError
from engine.plan import Tick
from engine.session import Session
from engine.types import Array, Event, Marker
from offline.calibration import Calibration, check_calibration, in_turn
from offline.datasets import LabelledRecording
from offline.readers import open_labelled
from sources.feed import chunks, match_bundles, recording_plan
from sources.recording import Recording

__all__ = ["Cut", "WindowSet", "cut", "kept", "ticks"]


@dataclass(frozen=True, slots=True)
class WindowSet:
    """What a network trains on: n windows with what is known of each.

    `inputs` {name: (n, ...)} is exactly what the graph is fed with live; `valid` {name: (n,
    time)}; `label`, `subject`, `recording` (n,) text; `t` (n,) the windows' ends in seconds.
    """

    inputs: Mapping[str, Array]
    valid: Mapping[str, Array]
    label: Array
    subject: Array
    recording: Array
    t: Array

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, rows: Array) -> WindowSet:
        """The windows that `rows` (a mask or indices) selects."""
        return WindowSet(
            {k: v[rows] for k, v in self.inputs.items()},
            {k: v[rows] for k, v in self.valid.items()},
            self.label[rows],
            self.subject[rows],
            self.recording[rows],
            self.t[rows],
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """One tick's window: what the graph would be fed with, the masks, the true label."""

    t: float
    label: str
    inputs: Mapping[str, Array]
    valid: Mapping[str, Array]


class _Blind:
    """Stands where a trained graph will be; cutting windows never runs it."""

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        raise AssertionError("nothing is predicted while windows are cut")


def ticks(
    recording: LabelledRecording,
    inputs: Mapping[str, InputSpec],
    hop_s: float,
    opened: Recording | None = None,
    calibration: Calibration | None = None,
) -> Iterator[Cut]:
    """Every tick of one recording that has all its windows; `opened` stands for its own signals.

    With a `calibration`, those that it lets count.
    """
    bundle = Bundle(
        Path("untrained"), "untrained", "untrained", (), "", inputs, hop_s, runtime=_Blind()
    )
    opened = open_labelled(recording) if opened is None else opened
    window_s = max(spec.window_s for spec in inputs.values())
    first_s = opened.first_s
    found: list[Cut] = []

    def emit(made: Tick | Event | Marker) -> None:
        if isinstance(made, Tick):
            if calibration is not None and not calibration.counts(made.t - window_s, first_s):
                session.take(made)
                return
            label = recording.label or made.truth or ""
            found.extend(Cut(made.t, label, x, valid) for _, x, valid in session.take(made))

    session = Session(recording_plan(opened, match_bundles(opened, {"": bundle})), emit)
    for stream in opened.streams:
        if stream.info.name in session.streams:
            session.command("connect", stream=stream.info.name, info=stream.info)
            if calibration is not None:
                calibration.begin(session, stream.info.name, first_s)
    for _, chunk in chunks(opened, session.streams):
        session.push(chunk)
        yield from found
        found.clear()
    for stream_name in session.streams:
        session.command("end", stream=stream_name)
    yield from found
    session.account.check()
    if calibration is not None:
        calibration.end(session, recording)


def cut(
    recordings: Iterable[LabelledRecording],
    inputs: Mapping[str, InputSpec],
    hop_s: float,
    skip_s: float = 0.0,
    filled: float = 1.0,
    calibrate_s: float | None = None,
) -> WindowSet:
    """All windows of `recordings` whose whole length has passed, `filled` so far by valid items in
    each input.

    Those that begin in the first `skip_s` seconds are left out: a filter needs a while after its
    start, and training on its transient would teach just that. Inputs that are calibrated learn a
    subject's level from `calibrate_s` of the first rest, see `offline.calibration`.
    """
    check_calibration(inputs, calibrate_s)
    window_s = max(spec.window_s for spec in inputs.values())
    rows: list[Cut] = []
    about: list[LabelledRecording] = []
    for recording, calibration in in_turn(recordings, calibrate_s):
        found = ticks(recording, inputs, hop_s, calibration=calibration)
        for row in kept(found, window_s, skip_s, filled, full=True):
            rows.append(row)
            about.append(recording)
    if not rows:
        raise DataError(f"no full window of {window_s:g} s in the recordings; are they too short?")
    return WindowSet(
        {name: np.stack([row.inputs[name] for row in rows]) for name in inputs},
        {name: np.stack([row.valid[name] for row in rows]) for name in inputs},
        _text([row.label for row in rows]),
        _text([recording.subject for recording in about]),
        _text([recording.uid for recording in about]),
        np.array([row.t for row in rows]),
    )


def kept(
    rows: Iterable[Cut], window_s: float, skip_s: float, filled: float, *, full: bool
) -> Iterator[Cut]:
    """Those of one recording's ticks that are trained on: labelled, and where `full` is set none
    before its whole length."""
    for row in rows:
        in_time = row.t >= window_s + skip_s or not (full or skip_s)
        if row.label and in_time and all(valid.mean() >= filled for valid in row.valid.values()):
            yield row


def _text(values: Sequence[str]) -> Array:
    return np.array(values, dtype=np.str_)
