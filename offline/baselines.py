"""What a bundle must beat: the most frequent label, the shares, a line through statistics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.types import Array
from offline import metrics
from offline.verdicts import Row, Units, scores, units_of

__all__ = ["Linear", "baselines", "fit_linear", "window_statistics"]

_SD_FLOOR = 1e-6
_C = 0.1  # inverse regularisation


@dataclass(frozen=True, slots=True)
class Linear:
    """Logistic regression on standardised statistics of the windows."""

    mean: Array  # (features,)
    sd: Array
    model: Any  # of scikit-learn
    n_labels: int

    def probabilities(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        """(rows, ...) per input -> (rows, labels)."""
        x = (window_statistics(inputs, valid) - self.mean) / self.sd
        p = np.zeros((len(x), self.n_labels))
        p[:, self.model.classes_] = self.model.predict_proba(x)
        return p


def window_statistics(inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
    """(rows, features) float64: each channel's mean and deviation over the window's valid items.

    An input that is a vector of features (rows, features) already stays as it is.
    """
    parts: list[Array] = []
    for name, given in inputs.items():
        x = np.asarray(given, np.float64)
        if x.ndim == 2:
            parts.append(x)
            continue
        x = x.reshape(*x.shape[:2], -1)
        there = np.asarray(valid[name], np.float64)[:, :, None]
        n = np.maximum(there.sum(1), 1.0)
        mean = (x * there).sum(1) / n
        variance = ((x - mean[:, None]) ** 2 * there).sum(1) / n
        parts += [mean, np.sqrt(variance)]
    return np.concatenate(parts, axis=1)


def fit_linear(
    inputs: Mapping[str, Array], valid: Mapping[str, Array], truth: Array, n_labels: int
) -> Linear:
    """Class-balanced logistic regression on windows of the training part; `truth` (rows,) label
    numbers."""
    from sklearn.linear_model import LogisticRegression

    x = window_statistics(inputs, valid)
    mean, sd = x.mean(0), np.maximum(x.std(0), _SD_FLOOR)
    model = LogisticRegression(C=_C, class_weight="balanced", max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may stop early: a baseline need not converge
        model.fit((x - mean) / sd, truth)
    return Linear(mean, sd, model, n_labels)


def baselines(
    head: Units,
    rows: Sequence[Row],
    labels: Sequence[str],
    unit: str,
    linear: Array | None = None,
) -> dict[str, dict[str, Any]]:
    """The figures of those who know nothing of the person, in the words of `scores`.

    `majority` always says the most frequent label; `prior` draws labels by their shares (what is
    expected of it); `linear` (rows, labels) are the verdicts of a `Linear` on the same windows.
    """
    shares = head.counts.sum(1) / len(head.truth)
    one = np.eye(len(labels))[np.full(len(head.truth), int(shares.argmax()))]
    found = {
        "majority": scores(Units(head.truth, one, head.subjects, head.groups)),
        "prior": _drawn(head, shares),
    }
    if linear is not None:
        found["linear"] = scores(units_of(rows, labels, unit, linear))
    return found


def _drawn(head: Units, shares: Array) -> dict[str, Any]:
    """What is expected of labels drawn by `shares` (labels,), their probabilities being these."""
    expected = np.outer(head.counts.sum(1), shares)
    p = np.tile(shares, (len(head.truth), 1))
    return {
        "uar": metrics.uar(expected),
        "accuracy": metrics.accuracy(expected),
        "macro_f1": metrics.macro_f1(expected),
        "weighted_f1": metrics.weighted_f1(expected),
        "kappa": 0.0,
        "mcc": 0.0,
        "auroc": 0.5,
        "ece": metrics.ece(head.truth, p),
        "brier": metrics.brier(head.truth, p),
    }
