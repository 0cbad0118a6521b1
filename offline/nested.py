"""Trains a linear bundle: nested cross-validation over subjects, export, figures."""

from __future__ import annotations

import itertools
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.bundle import Bundle
from engine.networks.linear import Linear
from engine.types import Array
from offline import metrics, report
from offline.card import card
from offline.datasets import LabelledRecording
from offline.evaluate import Row, predict, summarise
from offline.export import export
from offline.recipe import Recipe
from offline.shipping import describe, spread, temperature_of
from offline.splits import Split, folds, hash_files, write_split
from offline.windows import WindowSet, cut
from sources.synthetic.bayes import bayes_rate

__all__ = ["Choice", "Fit", "choose", "fit", "train"]

_SD_FLOOR = 1e-6
_BOUNDARIES = np.linspace(0.02, 0.98, 97)  # of all windows, below a boundary that is tried
_SMOOTH = 5  # of them
_SKIP_S = 2.0  # where the recipe says nothing: what a filter needs to settle


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting out of the search; `offset` is added to the second label's logit."""

    variant: str
    c: float
    clip: float | None
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """Standardisation and logistic regression in numbers: what the network's weights become."""

    mean: Array  # (features,)
    scale: Array
    weight: Array  # (labels, features)
    bias: Array  # (labels,)
    clip: float | None

    def logits(self, x: Array) -> Array:
        """(n, features) -> (n, labels)."""
        z = (x - self.mean) / self.scale
        if self.clip is not None:
            z = np.clip(z, -self.clip, self.clip)
        made: Array = z @ self.weight.T + self.bias
        return made


def train(
    recipe: Recipe,
    recordings: Sequence[LabelledRecording],
    out: Path,
    say: Callable[[str], None] = print,
) -> Bundle:
    """Train and judge `recipe` on `recordings`; writes bundle, metrics, splits and config to `out`.

    Each outer fold's subjects are predicted once, by the serving runtime, with a bundle whose
    settings were chosen and whose weights were fitted on the other subjects alone. The bundle
    that is written was made the same way from all of them.
    """
    out.mkdir(parents=True, exist_ok=True)
    subjects = sorted({r.subject for r in recordings})[: recipe.subjects]
    recordings = [r for r in recordings if r.subject in subjects]
    sets: dict[str, WindowSet] = {}
    for variant in recipe.search.variants:
        hop_s = recipe.train_hop_s or recipe.hop_s
        skip_s = _SKIP_S if recipe.skip_s is None else recipe.skip_s
        filled = 1.0 if recipe.min_filled is None else recipe.min_filled
        sets[variant] = cut(
            recordings, recipe.specs(variant), hop_s, skip_s, filled, recipe.calibrate_s
        )
        say(f"{len(sets[variant])} windows cut ({variant})")
    rows: list[Row] = []
    chosen: list[dict[str, Any]] = []
    for draw, i in itertools.product(range(recipe.folds.draws), range(recipe.folds.outer)):
        test = folds(subjects, recipe.folds.outer, recipe.folds.seed + draw)[i]
        rest = [s for s in subjects if s not in test]
        choice, score, temperature = choose(recipe, sets, rest)
        _write_split(recipe, recordings, draw, i, rest, test, out / f"split-{draw}-{i}.json")
        part = [r for r in recordings if r.subject in test]
        with tempfile.TemporaryDirectory() as folder:
            made = _bundle(recipe, sets, rest, choice, temperature, Path(folder) / "fold")
            found = predict(made, part, recipe.calibrate_s)
        rows += found
        recall = summarise(found, recipe.labels, dataset="", protocol="", unit="window")["uar"]
        about = {"draw": draw, "test": list(test), "inner_uar": score, "test_uar": recall}
        chosen.append(about | {"choice": _plain(choice), "temperature": temperature})
        say(f"draw {draw + 1}, fold {i + 1}: {choice}, inner {score:.3f}, test {recall:.3f}")
    protocol = (
        f"subject-disjoint nested cross-validation, {recipe.folds.outer} outer folds drawn "
        f"{recipe.folds.draws} times, {recipe.folds.inner} inner folds (seed "
        f"{recipe.folds.seed}), settings chosen on inner folds alone, causal, every prediction "
        "of the serving runtime"
    )
    result = summarise(
        rows, recipe.labels, dataset=recipe.datasets[0], protocol=protocol, unit="window"
    )
    choice, score, temperature = choose(recipe, sets, subjects)
    say(f"all subjects: chose {choice}; inner {score:.3f}")
    bundle = _bundle(recipe, sets, subjects, choice, temperature, out / "bundle", result)
    whole = {**result, "folds": chosen, "shipped": {"choice": _plain(choice), "inner_uar": score}}
    if recipe.dataset == "simulate":
        whole["bayes_rate"] = {name: bayes_rate(name) for name in recipe.inputs}
        for name, rate in whole["bayes_rate"].items():
            say(f"Bayes rate of {name}: {rate:.3f}, for one who knows how the signal was made")
    (out / "metrics.json").write_text(json.dumps(whole, indent=1) + "\n")
    (out / "config.yaml").write_text(recipe.resolved)
    report.write(out / "report", {**result, "level": "L3"}, rows, bundle)
    return bundle


def choose(
    recipe: Recipe, sets: Mapping[str, WindowSet], subjects: Sequence[str]
) -> tuple[Choice, float, float]:
    """The setting with the best mean inner UAR, that UAR, and the temperature that calibrates it.

    Sees the windows of `subjects` alone.
    """
    best: tuple[float, Choice, Array, Array] | None = None
    parts = folds(subjects, min(recipe.folds.inner, len(subjects)), recipe.folds.seed)
    for choice in _choices(recipe):
        windows = sets[choice.variant]
        x, y = _flat(windows), _targets(windows, recipe.labels)
        scores, logits, truth = [], [], []
        for held in parts:
            inner = np.isin(windows.subject, [s for s in subjects if s not in held])
            judged = np.isin(windows.subject, list(held))
            made = fit(x[inner], y[inner], len(recipe.labels), choice)
            found = made.logits(x[judged])
            counts = metrics.confusion(y[judged], found.argmax(1), len(recipe.labels))
            scores.append(metrics.uar(counts))
            logits.append(found)
            truth.append(y[judged])
        score, z, t = float(np.mean(scores)), np.concatenate(logits), np.concatenate(truth)
        if recipe.search.boundary:
            choice = replace(choice, offset=_boundary(z, t))
            z[:, 1] += choice.offset
            score = metrics.uar(metrics.confusion(t, z.argmax(1), len(recipe.labels)))
        if best is None or score > best[0]:
            best = score, choice, z, t
    assert best is not None
    return best[1], best[0], temperature_of(best[2], best[3])


def fit(x: Array, y: Array, n_labels: int, choice: Choice) -> Fit:
    """Class-balanced multinomial logistic regression on standardised (n, features)."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(0), np.maximum(x.std(0), _SD_FLOOR)
    z = (x - mean) / scale
    if choice.clip is not None:
        z = np.clip(z, -choice.clip, choice.clip)
    model = LogisticRegression(C=choice.c, class_weight="balanced", max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        model.fit(z, y)
    weight, bias = model.coef_, model.intercept_ + (choice.offset if n_labels == 2 else 0.0)
    if n_labels == 2:  # one row for the second label: the first one's logit is zero
        weight = np.concatenate([np.zeros_like(weight), weight])
        bias = np.concatenate([np.zeros_like(bias), bias])
    return Fit(mean, scale, weight, bias, choice.clip)


def _boundary(logits: Array, truth: Array) -> float:
    """What the second of two labels' logits lacks so that both are recalled best on average.

    The mean recall is smoothed over neighbouring boundaries: its highest point alone is luck.
    """
    lead = logits[:, 1] - logits[:, 0]
    boundaries = np.quantile(lead, _BOUNDARIES)
    recalls = [
        0.5 * ((lead[truth == 1] > b).mean() + (lead[truth == 0] <= b).mean()) for b in boundaries
    ]
    smooth = np.convolve(recalls, np.ones(_SMOOTH) / _SMOOTH, "same")
    return float(-boundaries[int(np.argmax(smooth))])


def _choices(recipe: Recipe) -> Iterator[Choice]:
    search = recipe.search
    for variant, clip, c in itertools.product(search.variants, search.clip, search.c):
        yield Choice(variant, c, clip)


def _bundle(
    recipe: Recipe,
    sets: Mapping[str, WindowSet],
    subjects: Sequence[str],
    choice: Choice,
    temperature: float,
    path: Path,
    evaluation: Mapping[str, Any] | None = None,
) -> Bundle:
    """Fit `choice` on `subjects` and export it; without `evaluation` it is a fold's, for now."""
    windows = sets[choice.variant][np.isin(sets[choice.variant].subject, list(subjects))]
    made = fit(_flat(windows), _targets(windows, recipe.labels), len(recipe.labels), choice)
    shapes = {name: array.shape[1:] for name, array in windows.inputs.items()}
    args = {} if choice.clip is None else {"clip": choice.clip}
    network = Linear(shapes, len(recipe.labels), **args)
    with torch.no_grad():
        for target, values in (
            (network.mean, made.mean), (network.scale, made.scale),
            (network.layer.weight, made.weight), (network.layer.bias, made.bias),
        ):  # fmt: skip
            target.copy_(torch.from_numpy(np.asarray(values, np.float32)))
    specs = recipe.specs(choice.variant)
    description = describe(recipe, specs, temperature, subjects, evaluation, args=args)
    rows = spread(np.arange(len(windows)))
    golden = windows[rows]
    text = card(description, evaluation, recipe.limits) if evaluation else "one fold\n"
    return export(path, network, description, golden.inputs, golden.valid, text)


def _write_split(
    recipe: Recipe,
    recordings: Sequence[LabelledRecording],
    draw: int,
    i: int,
    rest: Sequence[str],
    test: Sequence[str],
    path: Path,
) -> None:
    """Fold i as a file: its first inner fold stands for validation."""
    val = folds(rest, min(recipe.folds.inner, len(rest)), recipe.folds.seed)[0]
    inner = tuple(s for s in rest if s not in val)
    protocol = f"subject {recipe.folds.outer}-fold, seed {recipe.folds.seed + draw}, fold {i}"
    files = {} if recipe.dataset == "simulate" else hash_files(recordings)
    write_split(Split(protocol, "subject", inner, tuple(val), tuple(test), files), path)


def _flat(windows: WindowSet) -> Array:
    """All inputs side by side: (n, features) float64."""
    parts = [a.reshape(len(a), -1) for a in windows.inputs.values()]
    return np.concatenate(parts, axis=1).astype(np.float64)


def _targets(windows: WindowSet, labels: Sequence[str]) -> Array:
    return np.array([list(labels).index(label) for label in windows.label])


def _plain(choice: Choice) -> dict[str, Any]:
    return asdict(choice)
