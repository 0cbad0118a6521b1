"""How good predictions are: counts, shares and intervals, equal to scikit-learn's to 1e-9.

`truth` and `predicted` are (n,) label numbers, `probabilities` is (n, labels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.errors import DataError
from engine.types import Array

__all__ = [
    "accuracy",
    "auroc",
    "brier",
    "ccc",
    "confusion",
    "ece",
    "f1s",
    "kappa",
    "log_loss",
    "macro_f1",
    "majority",
    "mcc",
    "precisions",
    "recalls",
    "reliability",
    "seconds_to_correct",
    "subject_interval",
    "uar",
    "weighted_f1",
]


def confusion(truth: Array, predicted: Array, n_labels: int) -> Array:
    """Counts (labels, labels): rows are the truth, columns what was predicted."""
    if truth.shape != predicted.shape or truth.ndim != 1 or not len(truth):
        raise DataError(
            f"truth {truth.shape} and predictions {predicted.shape} must be as many, and some"
        )
    counts = np.zeros((n_labels, n_labels), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def accuracy(counts: Array) -> float:
    """The share of correct predictions."""
    return float(np.trace(counts) / counts.sum())


def majority(counts: Array) -> float:
    """The accuracy of always saying the most frequent label."""
    return float(counts.sum(1).max() / counts.sum())


def recalls(counts: Array) -> Array:
    """The recall of each label (labels,), NaN for one that never occurs."""
    with np.errstate(invalid="ignore"):
        shares: Array = np.diag(counts) / counts.sum(1)
    return shares


def precisions(counts: Array) -> Array:
    """Of what was given each label, the share that has it (labels,), NaN for one never given."""
    with np.errstate(invalid="ignore"):
        shares: Array = np.diag(counts) / counts.sum(0)
    return shares


def f1s(counts: Array) -> Array:
    """The harmonic mean of precision and recall (labels,), NaN for a label that never occurs."""
    with np.errstate(invalid="ignore"):
        means: Array = 2.0 * np.diag(counts) / (counts.sum(0) + counts.sum(1))
    return means


def uar(counts: Array) -> float:
    """Unweighted average recall (balanced accuracy), over the labels that occur."""
    return float(np.nanmean(recalls(counts)))


def macro_f1(counts: Array) -> float:
    """The plain mean of the F1 of the labels that occur, as truth or as prediction."""
    return float(np.nanmean(f1s(counts)))


def weighted_f1(counts: Array) -> float:
    """The mean F1, each label weighted by how often it is true."""
    return float(np.nansum(f1s(counts) * counts.sum(1)) / counts.sum())


def kappa(counts: Array) -> float:
    """Cohen's kappa; 0 where chance alone explains everything."""
    n = counts.sum()
    chance = float(counts.sum(0) @ counts.sum(1)) / float(n) ** 2
    return (accuracy(counts) - chance) / (1 - chance) if chance < 1 else 0.0


def mcc(counts: Array) -> float:
    """Matthews' correlation for any number of labels (Gorodkin 2004); 0 where undefined."""
    n = float(counts.sum())
    said, is_ = counts.sum(0).astype(np.float64), counts.sum(1).astype(np.float64)
    spread = np.sqrt(n**2 - said @ said) * np.sqrt(n**2 - is_ @ is_)
    return float((np.trace(counts) * n - said @ is_) / spread) if spread > 0 else 0.0


def auroc(truth: Array, probabilities: Array) -> float:
    """The area under the ROC curve of each label against the rest, its mean over those that occur.

    By ranks (Mann and Whitney 1947), ties counted half; NaN where one label alone occurs.
    """
    from scipy.stats import rankdata

    n, areas = len(truth), []
    for label in np.unique(truth):
        there = truth == label
        n_there = np.count_nonzero(there)
        if n_there == n:
            return float("nan")
        ranks = rankdata(probabilities[:, label])[there].sum()
        areas.append((ranks - n_there * (n_there + 1) / 2) / (n_there * (n - n_there)))
    return float(np.mean(areas))


def reliability(truth: Array, probabilities: Array, n_bins: int = 15) -> tuple[Array, Array, Array]:
    """Of each equal bin of confidence, ]low, high]: how many, mean confidence, share that is right.

    (bins,) each; the means are NaN in an empty bin.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = (probabilities.argmax(1) == truth).astype(np.float64)
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights, n_bins) / counts for weights in (confidence, right)]
    return counts, means[0], means[1]


def ece(truth: Array, probabilities: Array, n_bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): equal bins of confidence, ]low, high]."""
    counts, confidence, right = reliability(truth, probabilities, n_bins)
    return float(np.nansum(counts * np.abs(right - confidence)) / len(truth))


def brier(truth: Array, probabilities: Array) -> float:
    """The mean squared distance to the truth, summed over labels: 0 to 2 (Brier 1950)."""
    there = np.eye(probabilities.shape[1])[truth]
    return float(np.mean(np.sum((probabilities.astype(np.float64) - there) ** 2, 1)))


def log_loss(truth: Array, probabilities: Array) -> float:
    """The mean negative log probability of the truth, in nats, clipped as scikit-learn does."""
    limit = np.finfo(probabilities.dtype).eps
    p = np.clip(probabilities, limit, 1 - limit)[np.arange(len(truth)), truth]
    return float(-np.mean(np.log(p)))


def ccc(truth: Array, said: Array) -> float:
    """Concordance of two (n,) series (Lin 1989): 1 only where they are equal; 0 if constant."""
    x, y = np.asarray(truth, np.float64), np.asarray(said, np.float64)
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / spread) if spread > 0 else 0.0


def seconds_to_correct(t: Array, right: Array) -> float:
    """From when on all of `right` (n,), told at ascending `t` seconds, holds; infinity if never."""
    wrong = np.flatnonzero(~np.asarray(right, bool))
    first = 0 if not len(wrong) else int(wrong[-1]) + 1
    return float(t[first]) if first < len(t) else float("inf")


def subject_interval(
    truth: Array,
    predicted: Array,
    subjects: Sequence[str],
    n_labels: int,
    *,
    statistic: Callable[[Array], float] = uar,
    n_draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic` (of a confusion), drawing whole subjects.

    Windows of one person are no independent samples: drawing them singly gives intervals that
    are far too narrow.
    """
    if len(subjects) != len(truth):
        raise DataError(f"{len(subjects)} subjects for {len(truth)} predictions; need one for each")
    people, who = np.unique(np.asarray(subjects), return_inverse=True)
    counts = np.zeros((len(people), n_labels, n_labels), np.int64)
    np.add.at(counts, (who, truth, predicted), 1)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(people), (n_draws, len(people)))
    values = [statistic(counts[people_drawn].sum(0)) for people_drawn in drawn]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
