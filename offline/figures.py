"""Rows to the figures beside the headline: per class and group, calibration, time, streams."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from engine.fusion import fuse
from engine.types import Array
from offline import metrics
from offline.verdicts import Row, Units, by_recording, plain, units_of

__all__ = [
    "brief",
    "concordance",
    "per_class",
    "per_group",
    "reliability",
    "subsets",
    "to_correct",
]


def brief(units: Units) -> dict[str, Any]:
    """What is said of a part: how many, UAR, accuracy."""
    counts = units.counts
    return {
        "n": len(units.truth), "uar": metrics.uar(counts), "accuracy": metrics.accuracy(counts)
    }  # fmt: skip


def per_class(counts: Array, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{label: {n, precision, recall, f1}} of a confusion (labels, labels)."""
    columns = zip(
        counts.sum(1), metrics.precisions(counts), metrics.recalls(counts), metrics.f1s(counts),
        strict=True,
    )  # fmt: skip
    return {
        label: {"n": int(n), "precision": plain(p), "recall": plain(r), "f1": plain(f)}
        for label, (n, p, r, f) in zip(labels, columns, strict=True)
    }


def per_group(units: Units) -> dict[str, dict[str, Any]]:
    """{attribute: {value: what `brief` says}} of people."""
    found: dict[str, dict[str, Any]] = {}
    for group in sorted({name for groups in units.groups for name in groups}):
        values = [groups.get(group) for groups in units.groups]
        for value in sorted({v for v in values if v is not None}):
            rows = np.array([v == value for v in values])
            found.setdefault(group, {})[value] = brief(units[rows])
    return found


def reliability(units: Units) -> dict[str, list[Any]]:
    """Per bin of confidence: how many, their mean confidence, the share that is right."""
    n, confidence, right = metrics.reliability(units.truth, units.probabilities)
    return {
        "n": n.tolist(),
        "confidence": [plain(value) for value in confidence],
        "accuracy": [plain(value) for value in right],
    }


def to_correct(rows: Sequence[Row], labels: Sequence[str]) -> dict[str, Any]:
    """From a recording's start until the label is right and stays so; the median over recordings.

    Those that never get there count as longer than all others. Recordings whose truth changes are
    left out.
    """
    found = []
    for part in by_recording(rows):
        own = [rows[i] for i in part]
        if len({row.truth for row in own}) == 1:
            right = [max(labels, key=lambda k: row.probabilities[k]) == row.truth for row in own]
            t = np.array([row.t - row.start_s for row in own])
            found.append(metrics.seconds_to_correct(t, np.array(right)))
    if not found:
        return {"n": 0, "median": None, "reached": None}
    reached = float(np.mean(np.isfinite(found)))
    # Not interpolated: between a number and "never" lies nothing.
    median = float(np.quantile(found, 0.5, method="lower"))
    return {"n": len(found), "median": plain(median), "reached": reached}


def concordance(rows: Sequence[Row], unit: str) -> dict[str, float]:
    """{dimension: concordance} of where verdicts lie with where they should."""
    parts = by_recording(rows) if unit == "recording" else [[i] for i in range(len(rows))]
    found = {}
    for axis in ("valence", "arousal", "dominance"):
        said, truth = [], []
        for part in parts:
            places = [(rows[i].filled, rows[i].places or {}) for i in part]
            there = [(weight, place[axis]) for weight, place in places if axis in place]
            true_places = rows[part[0]].true_places or {}
            if there and axis in true_places:
                weight, place = np.array(there).T
                said.append(np.average(place, weights=weight))
                truth.append(true_places[axis])
        if len(said) > 1:
            found[axis] = metrics.ccc(np.array(truth), np.array(said))
    return found


def subsets(rows: Sequence[Row], labels: Sequence[str], unit: str) -> dict[str, dict[str, Any]]:
    """Every non-empty subset of several streams, fused out of what each of them said."""
    fullest = sorted(rows, key=lambda row: -len(row.modalities))[0]  # in the session's order
    streams = list(dict.fromkeys(n for row in (fullest, *rows) for n in row.modalities))
    found: dict[str, dict[str, Any]] = {}
    for size in range(1, len(streams) + 1):
        for chosen in combinations(streams, size):
            own = [row for row in rows if set(chosen) <= set(row.modalities)]
            if not own:
                continue
            p = np.array(
                [
                    fuse([np.array([row.modalities[n][k] for k in labels]) for n in chosen])
                    for row in own
                ]
            )
            units = units_of(own, labels, unit, p)
            ece = metrics.ece(units.truth, units.probabilities)
            found["+".join(chosen)] = {
                "n": len(units.truth), "uar": metrics.uar(units.counts), "ece": ece
            }  # fmt: skip
    return found
