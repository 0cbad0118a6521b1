"""What was said of each window, and of what is counted: windows, or whole recordings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.errors import DataError
from engine.types import Array
from offline import metrics

__all__ = ["Row", "Units", "by_recording", "plain", "scores", "units_of"]


@dataclass(frozen=True, slots=True)
class Row:
    """One window's verdict; `recording`, `subject` are ids, `groups` the subject's attributes.

    `start_s` is when the recording begins, `modalities` {stream: {label: probability}} what each
    of several streams said alone, `places` where the verdict lies in valence and arousal, 0 to 1,
    `true_places` where it should.
    """

    recording: str
    subject: str
    t: float
    first: int
    last: int
    filled: float
    truth: str
    probabilities: dict[str, float]
    groups: Mapping[str, str]
    start_s: float = 0.0
    modalities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    places: Mapping[str, float] | None = None
    true_places: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Units:
    """n judged units: label numbers (n,), probabilities (n, labels), and whose they are."""

    truth: Array
    probabilities: Array
    subjects: list[str]
    groups: list[Mapping[str, str]]

    @property
    def predicted(self) -> Array:
        """(n,) the likeliest label's number."""
        found: Array = self.probabilities.argmax(1)
        return found

    @property
    def counts(self) -> Array:
        """The confusion (labels, labels)."""
        return metrics.confusion(self.truth, self.predicted, self.probabilities.shape[1])

    def __getitem__(self, rows: Array) -> Units:
        """Those that a mask (n,) selects."""
        at = np.flatnonzero(rows)
        subjects, groups = [self.subjects[i] for i in at], [self.groups[i] for i in at]
        return Units(self.truth[at], self.probabilities[at], subjects, groups)


def by_recording(rows: Iterable[Row]) -> list[list[int]]:
    """The numbers of each recording's rows, in the order in which recordings come."""
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        found.setdefault(row.recording, []).append(i)
    return list(found.values())


def units_of(
    rows: Sequence[Row],
    labels: Sequence[str],
    unit: str,
    probabilities: Array | None = None,
) -> Units:
    """`rows` as what `unit` says, "window" or "recording"; `probabilities` (rows, labels) stand
    in for the rows' own.

    A recording's are the mean over its windows, weighted by `filled`; its truth is its first
    window's. Raises DataError for a label that is none of `labels`.
    """
    index = {label: i for i, label in enumerate(labels)}
    strange = sorted({row.truth for row in rows} - set(index))
    if strange:
        raise DataError(
            f"the data are labelled {', '.join(strange)}; the bundle knows {', '.join(labels)}"
        )
    p = probabilities
    if p is None:
        p = np.array([[row.probabilities[label] for label in labels] for row in rows])
    parts = by_recording(rows) if unit == "recording" else [[i] for i in range(len(rows))]
    weight = np.array([row.filled for row in rows])
    if unit == "recording":
        p = np.array([np.average(p[part], axis=0, weights=weight[part]) for part in parts])
    first = [rows[part[0]] for part in parts]
    truth = np.array([index[row.truth] for row in first])
    return Units(truth, p, [row.subject for row in first], [row.groups for row in first])


def scores(units: Units) -> dict[str, Any]:
    """All shares and correlations of `units`; None where one is not defined."""
    counts, truth, p = units.counts, units.truth, units.probabilities
    low, high = metrics.subject_interval(truth, units.predicted, units.subjects, p.shape[1])
    return {
        "uar": metrics.uar(counts),
        "uar_ci95": [low, high],
        "accuracy": metrics.accuracy(counts),
        "macro_f1": metrics.macro_f1(counts),
        "weighted_f1": metrics.weighted_f1(counts),
        "kappa": metrics.kappa(counts),
        "mcc": metrics.mcc(counts),
        "auroc": plain(metrics.auroc(truth, p)),
        "ece": metrics.ece(truth, p),
        "brier": metrics.brier(truth, p),
    }


def plain(value: float) -> float | None:
    """A number as JSON has it: None for what is none."""
    return float(value) if np.isfinite(value) else None
