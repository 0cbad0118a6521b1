"""Judges a bundle by what it would have said live: recordings through the serving session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.bundle import Bundle
from engine.errors import DataError
from engine.player import Player
from engine.types import Array, Event, Prediction
from offline import metrics
from offline.calibration import Calibration, check_calibration, in_turn
from offline.datasets import LabelledRecording
from offline.readers import open_labelled
from sources.feed import match_bundles, play_recording, recording_plan

__all__ = ["Row", "predict", "summarise"]


@dataclass(frozen=True, slots=True)
class Row:
    """One window's verdict; `recording`, `subject` are ids, `groups` the subject's attributes."""

    recording: str
    subject: str
    t: float
    first: int
    last: int
    filled: float
    truth: str
    probabilities: dict[str, float]
    groups: Mapping[str, str]


def predict(
    bundle: Bundle, recordings: Sequence[LabelledRecording], calibrate_s: float | None = None
) -> list[Row]:
    """Every prediction that the engine makes from `recordings`, with the truth beside it.

    A bundle that is calibrated learns each subject's level from `calibrate_s` of the first rest,
    which is not judged; see `offline.calibration`.
    """
    check_calibration(bundle.inputs, calibrate_s)
    rows: list[Row] = []
    for recording, calibration in in_turn(recordings, calibrate_s):
        rows += _rows(bundle, recording, calibration)
    return rows


def _rows(
    bundle: Bundle, recording: LabelledRecording, calibration: Calibration | None
) -> Iterator[Row]:
    opened = open_labelled(recording)
    player = Player(recording_plan(opened, match_bundles(opened, {"": bundle})))
    window_s = max(spec.window_s for spec in bundle.inputs.values())
    for message in play_recording(opened, player):
        if calibration is not None and isinstance(message, Event):
            if message.code == "source.connected" and message.stream is not None:
                calibration.begin(player.session, message.stream, opened.first_s)
            continue
        if not isinstance(message, Prediction) or message.probabilities is None:
            continue
        begin_s = message.t - window_s
        if calibration is not None and not calibration.counts(begin_s, opened.first_s):
            continue
        spot = next(iter(message.modalities.values()))
        truth = recording.label or message.truth
        if truth is None:
            continue  # between the labelled stretches of a recording nothing is right or wrong
        yield Row(
            recording.uid, recording.subject, message.t, spot["first"], spot["last"],
            spot["filled"], truth, message.probabilities, recording.groups,
        )  # fmt: skip
    if calibration is not None:
        calibration.end(player.session, recording)


def summarise(
    rows: Sequence[Row], labels: Sequence[str], *, dataset: str, protocol: str, unit: str
) -> dict[str, Any]:
    """The figures of `vagus evaluate --json`, but for those that name the bundle.

    `unit` is "window" or "recording"; a recording's label is that of its largest mean
    probability, weighted by `filled`. The interval draws subjects (2000 bootstrap samples).
    """
    if not rows:
        raise DataError("nothing to judge: no recording gave a prediction")
    windows = _units([[row] for row in rows], labels)
    by_recording: dict[str, list[Row]] = {}
    for row in rows:
        by_recording.setdefault(row.recording, []).append(row)
    whole = _units(list(by_recording.values()), labels)
    head = whole if unit == "recording" else windows
    counts = metrics.confusion(head.truth, head.predicted, len(labels))
    lo, hi = metrics.subject_interval(head.truth, head.predicted, head.subjects, len(labels))
    return {
        "dataset": dataset,
        "protocol": protocol,
        "unit": unit,
        "n": len(head.truth),
        "subjects": sorted(set(head.subjects)),
        "labels": list(labels),
        "uar": metrics.uar(counts),
        "uar_ci95": [lo, hi],
        "accuracy": metrics.accuracy(counts),
        "majority": metrics.majority(counts),
        "macro_f1": metrics.macro_f1(counts),
        "ece": metrics.ece(head.truth, head.probabilities),
        "confusion": counts.tolist(),
        "per_group": _per_group(head, len(labels)),
        "per_recording": _brief(whole, len(labels)),
        "per_window": _brief(windows, len(labels)),
        "subsets": {},
    }


@dataclass(frozen=True, slots=True)
class _Units:
    """n judged units: label indices (n,), probabilities (n, labels), whose they are."""

    truth: Array
    predicted: Array
    probabilities: Array
    subjects: list[str]
    groups: list[Mapping[str, str]]


def _units(parts: Sequence[Sequence[Row]], labels: Sequence[str]) -> _Units:
    index = {label: i for i, label in enumerate(labels)}
    strange = sorted({row.truth for part in parts for row in part} - set(index))
    if strange:
        raise DataError(
            f"the data are labelled {', '.join(strange)}; the bundle knows {', '.join(labels)}"
        )
    p = np.array([_mean(part, labels) for part in parts])
    truth = np.array([index[part[0].truth] for part in parts])
    subjects = [part[0].subject for part in parts]
    return _Units(truth, p.argmax(axis=1), p, subjects, [part[0].groups for part in parts])


def _mean(part: Sequence[Row], labels: Sequence[str]) -> Array:
    values = np.array([[row.probabilities[label] for label in labels] for row in part])
    mean: Array = np.average(values, axis=0, weights=[row.filled for row in part])
    return mean


def _brief(units: _Units, n_labels: int, rows: Array | None = None) -> dict[str, Any]:
    keep = slice(None) if rows is None else rows
    counts = metrics.confusion(units.truth[keep], units.predicted[keep], n_labels)
    uar, accuracy = metrics.uar(counts), metrics.accuracy(counts)
    return {"n": int(counts.sum()), "uar": uar, "accuracy": accuracy}


def _per_group(units: _Units, n_labels: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for group in sorted({name for groups in units.groups for name in groups}):
        values = [groups.get(group) for groups in units.groups]
        for value in sorted({v for v in values if v is not None}):
            rows = np.array([v == value for v in values])
            found.setdefault(group, {})[value] = _brief(units, n_labels, rows)
    return found
