"""Trains a voice bundle: several seeds, the epoch chosen on validation, the test read once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.bundle import Bundle
from engine.errors import ConfigError, DataError
from engine.types import Array
from engine.view import fit as fit_view
from offline import fitting, metrics, report
from offline.beside import Beside, Onlooker
from offline.card import card
from offline.datasets import LabelledRecording
from offline.drawing import Draws, Judged, Shape, window_logits
from offline.evaluate import Row, predict, summarise
from offline.export import export
from offline.readers import open_labelled, read
from offline.recipe import Recipe
from offline.shipping import describe, network_of, spread, temperature_of
from offline.splits import Split, hash_files, write_split
from offline.takes import Take, cached_takes
from offline.tuition import Speech

__all__ = ["Sides", "read_sides", "train"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sides:
    """The recordings that train, per corpus, that validate, and that are judged."""

    train: Mapping[str, Sequence[LabelledRecording]]
    val: Sequence[LabelledRecording]
    test: Sequence[LabelledRecording]


def read_sides(recipe: Recipe, root: Path | None) -> Sides:
    """Every corpus of the recipe below `root`; raises DataError for a subject who is not there."""
    told = _speech(recipe)
    train: dict[str, list[LabelledRecording]] = {}
    val: list[LabelledRecording] = []
    test: list[LabelledRecording] = []
    for corpus in told.corpora:
        found = [r for r in read(corpus, root) if r.label in recipe.labels]
        val += [r for r in found if r.subject in told.val]
        test += [r for r in found if r.subject in told.test]
        train[corpus] = [r for r in found if r.subject not in (*told.val, *told.test)]
    there = {r.subject for r in (*val, *test)}
    missing = [s for s in (*told.val, *told.test) if s not in there]
    if missing or not any(train.values()):
        raise DataError(f"{root}: no clips of {', '.join(missing) or 'anybody to train on'}")
    return Sides(train, val, test)


def train(
    recipe: Recipe, sides: Sides, out: Path, say: Say = print, only: Sequence[int] | None = None
) -> Bundle:
    """Train `recipe` once per seed; writes bundle, metrics, split, config and checkpoints to `out`.

    A seed whose checkpoint is in `out` goes on from there, one that is done is not run again.
    `only` trains just these seeds, and judges nothing yet unless all are done. The bundle is that
    of the seed with the best validation; its test figure is its own, the mean of all beside it.
    """
    told = _speech(recipe)
    out.mkdir(parents=True, exist_ok=True)
    specs = recipe.specs("plain")
    shape, shapes = _shape(recipe, sides.val[0])
    _write_split(recipe, sides, out / "split.json")
    (out / "config.yaml").write_text(recipe.resolved)
    clips = {
        corpus: [cached_takes(found, specs, speed, out.parent / "takes") for speed in told.speeds]
        for corpus, found in sides.train.items()
    }
    val = Judged(cached_takes(sides.val, specs, 1.0, out.parent / "takes"), recipe.labels, shape)
    say(f"{sum(len(s[0]) for s in clips.values())} clips train, {len(sides.val)} validate")
    for seed in told.seeds if only is None else only:
        _run(recipe, seed, clips, val, shape, shapes, out / "checkpoints", say)
    if not all((out / "checkpoints" / f"seed-{seed}.pt").is_file() for seed in told.seeds):
        raise ConfigError(f"{out}: not every seed of {told.seeds} is trained yet; run the others")
    return _finish(recipe, sides, val, clips, shape, shapes, out, say)


def _run(
    recipe: Recipe,
    seed: int,
    clips: Mapping[str, Sequence[Sequence[Take]]],
    val: Judged,
    shape: Shape,
    shapes: Mapping[str, tuple[int, ...]],
    folder: Path,
    say: Say,
) -> None:
    """Train one seed and keep its best weights as `seed-N.pt`."""
    told = _speech(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    done, begun = folder / f"seed-{seed}.pt", folder / f"seed-{seed}.ckpt"
    if done.is_file():
        say(f"seed {seed}: trained already")
        return
    torch.manual_seed(seed)
    network = network_of(recipe, shapes)
    draws = Draws(clips, recipe.labels, shape, told, seed)
    learner = fitting.Learner(network, told, draws, val)
    start = time.perf_counter()

    def tell(step: int, n_steps: int, text: str) -> None:
        if step % len(draws) == 0:
            epoch = step // len(draws)
            say(f"seed {seed}, epoch {epoch}/{told.epochs}: {text or 'validation comes later'}")

    fitting.fit(learner, told, begun, tell)
    about = {"scores": learner.scores, "seconds": time.perf_counter() - start}
    torch.save({**learner.best, **about}, done)
    begun.unlink(missing_ok=True)


def _finish(
    recipe: Recipe,
    sides: Sides,
    val: Judged,
    clips: Mapping[str, Sequence[Sequence[Take]]],
    shape: Shape,
    shapes: Mapping[str, tuple[int, ...]],
    out: Path,
    say: Say,
) -> Bundle:
    """Judge every seed on the test speakers through the engine; export the one to ship."""
    told = _speech(recipe)
    runs: list[dict[str, Any]] = []
    judged: dict[int, tuple[dict[str, Any], nn.Module, float, list[Row], Beside]] = {}
    for seed in told.seeds:
        kept = torch.load(out / "checkpoints" / f"seed-{seed}.pt", weights_only=True)
        network = network_of(recipe, shapes)
        network.load_state_dict(kept.pop("state"))
        temperature = temperature_of(window_logits(network, val), val.truth[val.clip], val.weight)
        path = out / "seeds" / f"seed-{seed}"
        about = _describe(recipe, sides, temperature, None)
        made = export(path, network, about, *_golden(val, shape), "one seed\n")
        look = Onlooker(made)
        rows = predict(made, sides.test, look=look)
        figures = _figures(rows, recipe, sides)
        runs.append({
            "seed": seed, "val_uar": kept["uar"], "epoch": kept["epoch"],
            "test_uar": figures["uar"], "test_uar_ci95": figures["uar_ci95"],
            "temperature": temperature, "seconds": kept["seconds"], "scores": kept["scores"],
            "ece_windows": _calibration(rows, recipe.labels, temperature),
            "per_corpus": figures["per_corpus"],
        })  # fmt: skip
        judged[seed] = (figures, network, temperature, rows, look.noted())
        say(f"seed {seed}: validation {kept['uar']:.3f}, test {figures['uar']:.3f}")
    best = max(runs, key=lambda run: float(run["val_uar"]))
    figures, network, temperature, rows, beside = judged[int(best["seed"])]
    figures |= {"seeds": runs, "uar_mean_of_seeds": float(np.mean([r["test_uar"] for r in runs]))}
    figures |= {"n_parameters": sum(p.numel() for p in network.parameters())}
    (out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    about = _describe(recipe, sides, temperature, figures)
    text = card(about, figures, [*recipe.limits, *_more(figures)])
    bundle = export(out / "bundle", network, about, *_golden(val, shape), text)
    told_runs = [{**run, "fold": 0, "uar": run["val_uar"]} for run in runs]
    drawn = {"level": "L3", "runs": told_runs, "shipped": {"seed": best["seed"]}}
    report.write(out / "report", figures | drawn, rows, bundle, beside=beside)
    return bundle


def _figures(rows: Sequence[Row], recipe: Recipe, sides: Sides) -> dict[str, Any]:
    told = _speech(recipe)
    n = sum(len(found) for found in sides.train.values())
    protocol = (
        f"disjoint speakers: {n} clips train, {', '.join(told.val)} choose the epoch, the seed and "
        f"the temperature, {', '.join(told.test)} are judged once; causal, every prediction of "
        "the serving runtime"
    )
    common: dict[str, Any] = {
        "dataset": recipe.datasets[0],
        "protocol": protocol,
        "unit": "recording",
    }
    figures = summarise(rows, recipe.labels, **common)
    figures["unpredicted"] = len(sides.test) - len({row.recording for row in rows})
    corpora = {r.uid: r.dataset for r in sides.test}
    per_corpus = {}
    for corpus in sorted(set(corpora.values())):
        part = [row for row in rows if corpora[row.recording] == corpus]
        found = summarise(part, recipe.labels, **common)
        keys = ("n", "uar", "uar_ci95", "accuracy", "subjects")
        per_corpus[corpus] = {key: found[key] for key in keys}
    figures["per_corpus"] = per_corpus
    return figures


def _more(figures: Mapping[str, Any]) -> list[str]:
    """What the card says of the other seeds and of each corpus."""
    seeds = ", ".join(f"{run['test_uar']:.3f}" for run in figures["seeds"])
    lines = [
        f"Test UAR of the seeds {seeds}, mean {figures['uar_mean_of_seeds']:.3f}; this bundle is "
        "the seed with the best validation."
    ]
    for corpus, told in figures["per_corpus"].items():
        low, high = told["uar_ci95"]
        lines.append(
            f"{corpus} alone: UAR {told['uar']:.3f} [{low:.3f}, {high:.3f}], {told['n']} clips of "
            f"{len(told['subjects'])} speakers."
        )
    return lines


def _calibration(rows: Sequence[Row], labels: Sequence[str], temperature: float) -> dict[str, Any]:
    """The windows' calibration error with the temperature and, undone, without it."""
    p = np.array([[row.probabilities[label] for label in labels] for row in rows], np.float64)
    truth = np.array([labels.index(row.truth) for row in rows])
    raw = np.maximum(p, 1e-12) ** temperature
    raw /= raw.sum(1, keepdims=True)
    return {"n": len(rows), "before": metrics.ece(truth, raw), "after": metrics.ece(truth, p)}


def _describe(
    recipe: Recipe, sides: Sides, temperature: float, figures: Mapping[str, Any] | None
) -> dict[str, Any]:
    """bundle.json; without figures it is one seed's, for now."""
    seen = {r.subject for found in (*sides.train.values(), sides.val) for r in found}
    also = ("uar_mean_of_seeds", "per_corpus")
    return describe(recipe, recipe.specs("plain"), temperature, seen, figures, also=also)


def _golden(val: Judged, shape: Shape) -> tuple[dict[str, Array], dict[str, Array]]:
    rows = spread(np.arange(len(val.x)))
    return {shape.name: val.x[rows]}, {shape.name: val.valid[rows]}


def _shape(recipe: Recipe, example: LabelledRecording) -> tuple[Shape, dict[str, tuple[int, ...]]]:
    """What the engine makes of the input; raises ConfigError for several."""
    specs = recipe.specs("plain")
    if len(specs) != 1:
        raise ConfigError(f"{recipe.bundle}: inputs: a voice is one input, not {len(specs)}")
    ((name, spec),) = specs.items()
    info = open_labelled(example).streams[0].info
    view, _ = fit_view(info.name, info, spec, recipe.bundle, {})
    assert view.info.rate_hz is not None
    shape = Shape(name, view.n_items, view.info.rate_hz, recipe.hop_s, view.n_min)
    return shape, {name: (view.n_items, *view.info.shape)}


def _write_split(recipe: Recipe, sides: Sides, path: Path) -> None:
    told = _speech(recipe)
    subjects = sorted({r.subject for found in sides.train.values() for r in found})
    everything = [*sides.val, *sides.test, *(r for part in sides.train.values() for r in part)]
    split = Split(
        "named speakers", "subject", tuple(subjects), tuple(told.val), tuple(told.test),
        hash_files(everything),
    )  # fmt: skip
    write_split(split, path)


def _speech(recipe: Recipe) -> Speech:
    if recipe.speech is None:
        raise ConfigError(f"{recipe.bundle}: has no map `speech:`, which says how it is trained")
    return recipe.speech
