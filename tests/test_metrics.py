"""Metrics against scikit-learn, and what they say where scikit-learn is silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError
from engine.types import Array
from offline import metrics

sklearn = pytest.importorskip("sklearn.metrics")


def draw(seed: int, n_labels: int, n: int = 500) -> tuple[Array, Array, Array]:
    """Truth, predictions and probabilities, better than chance; not every label is frequent."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(n_labels, n, p=rng.dirichlet(np.ones(n_labels) * 2))
    logits = rng.normal(size=(n, n_labels)) + 1.5 * np.eye(n_labels)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return truth, probabilities.argmax(1), probabilities


PAIRS: list[tuple[Callable[[Array], float], Callable[[Any, Any], float]]] = [
    (metrics.accuracy, sklearn.accuracy_score),
    (metrics.uar, sklearn.balanced_accuracy_score),
    (metrics.macro_f1, lambda t, p: sklearn.f1_score(t, p, average="macro")),
    (metrics.kappa, sklearn.cohen_kappa_score),
    (metrics.mcc, sklearn.matthews_corrcoef),
]


@pytest.mark.parametrize("n_labels", [2, 3, 8])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[ours.__name__ for ours, _ in PAIRS])
def test_counts_and_shares_agree_with_scikit_learn(
    seed: int, n_labels: int, ours: Callable[[Array], float], theirs: Callable[[Any, Any], float]
) -> None:
    truth, predicted, _ = draw(seed, n_labels)
    counts = metrics.confusion(truth, predicted, n_labels)
    assert ours(counts) == pytest.approx(theirs(truth, predicted), abs=1e-9)
    labels = np.arange(n_labels)
    assert np.array_equal(counts, sklearn.confusion_matrix(truth, predicted, labels=labels))


@pytest.mark.parametrize("n_labels", [2, 3, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probability_scores_agree_with_scikit_learn(n_labels: int, dtype: type) -> None:
    truth, _, probabilities = draw(9, n_labels)
    labels = np.arange(n_labels)
    exact = probabilities.astype(dtype).astype(np.float64)
    assert metrics.log_loss(truth, exact) == pytest.approx(
        sklearn.log_loss(truth, exact / exact.sum(1, keepdims=True), labels=labels), abs=1e-6
    )
    squares = [
        sklearn.brier_score_loss(truth == label, exact[:, label], pos_label=True)
        for label in labels
    ]
    assert metrics.brier(truth, exact) == pytest.approx(sum(squares), abs=1e-9)


def test_a_certain_error_has_a_finite_loss() -> None:
    assert metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(36.04, abs=0.01)


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_share() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    truth = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    assert metrics.ece(truth, probabilities) == pytest.approx(0.5 * 0.2)


def test_an_edge_of_confidence_belongs_to_the_bin_below() -> None:
    probabilities = np.array([[0.5, 0.5], [0.55, 0.45]])
    assert metrics.ece(np.array([1, 0]), probabilities, n_bins=2) == pytest.approx((0.5 + 0.45) / 2)
    assert metrics.ece(np.array([0]), np.array([[1.0, 0.0]])) == 0.0


def test_calibration_error_of_drawn_labels_is_near_zero() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 40_000)
    truth = (rng.uniform(size=len(p)) < p).astype(int)
    assert metrics.ece(truth, np.stack([1 - p, p], 1)) < 0.02


def test_a_label_that_never_occurs_does_not_count() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])
    counts = metrics.confusion(truth, predicted, 3)
    assert metrics.uar(counts) == 0.75
    assert np.isnan(metrics.recalls(counts)[2])
    assert metrics.macro_f1(counts) == pytest.approx((0.8 + 2 / 3) / 2)


def test_saying_one_label_always_is_the_majority_and_no_skill() -> None:
    counts = metrics.confusion(np.array([0, 0, 0, 1]), np.zeros(4, int), 2)
    assert metrics.accuracy(counts) == metrics.majority(counts) == 0.75
    assert metrics.uar(counts) == 0.5
    assert metrics.kappa(counts) == metrics.mcc(counts) == 0.0


def test_one_label_alone_is_no_skill_either() -> None:
    counts = metrics.confusion(np.zeros(5, int), np.zeros(5, int), 2)
    assert metrics.uar(counts) == 1.0
    assert metrics.kappa(counts) == 0.0


@pytest.mark.parametrize(("truth", "predicted"), [([], []), ([0, 1], [0])])
def test_arrays_that_do_not_fit_are_refused(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(DataError, match="must be as many, and some"):
        metrics.confusion(np.array(truth, int), np.array(predicted, int), 2)


def people(n_people: int, n_each: int, spread: float, seed: int = 0) -> tuple[Array, Array, Any]:
    """Balanced truth and predictions of people whose own accuracies differ by `spread`."""
    rng = np.random.default_rng(seed)
    share = np.clip(0.75 + spread * rng.normal(size=n_people), 0, 1)
    truth = np.tile([0, 1], n_people * n_each // 2)
    right = rng.uniform(size=len(truth)) < np.repeat(share, n_each)
    return truth, np.where(right, truth, 1 - truth), np.repeat([*map(str, range(n_people))], n_each)


def test_the_interval_draws_people_not_windows() -> None:
    truth, predicted, who = people(20, 400, spread=0.1)
    low, high = metrics.subject_interval(truth, predicted, who, 2)
    alone = np.arange(len(truth)).astype(str)
    narrow = metrics.subject_interval(truth, predicted, alone, 2, n_draws=100)
    assert low < metrics.uar(metrics.confusion(truth, predicted, 2)) < high
    assert high - low > 2 * (narrow[1] - narrow[0])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        truth, predicted, who = people(24, 40, spread=0.08, seed=seed)
        low, high = metrics.subject_interval(truth, predicted, who, 2, n_draws=300)
        hits += low <= 0.75 <= high
    assert 50 <= hits <= 60


def test_the_interval_is_the_same_in_every_run_and_moves_with_the_statistic() -> None:
    truth, predicted, who = people(10, 50, spread=0.1)
    first = metrics.subject_interval(truth, predicted, who, 2)
    assert metrics.subject_interval(truth, predicted, who, 2) == first
    order = np.random.default_rng(1).permutation(len(truth))
    shuffled = metrics.subject_interval(truth[order], predicted[order], who[order], 2)
    assert shuffled == first
    assert metrics.subject_interval(truth, predicted, who, 2, statistic=metrics.kappa) != first


def test_a_subject_is_needed_for_each_prediction() -> None:
    with pytest.raises(DataError, match="3 subjects for 4 predictions"):
        metrics.subject_interval(np.zeros(4, int), np.zeros(4, int), ["a", "b", "c"], 2)
