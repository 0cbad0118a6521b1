"""Trains any network on any data set: windows, splits, gradient descent, one look at the test."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from engine.bundle import Bundle
from engine.errors import DataError
from engine.types import Array
from offline import report, splits
from offline.baselines import fit_linear
from offline.batches import Draws, Judged, Material, material
from offline.beside import Beside, Onlooker, join
from offline.cache import cached_cut, open_windows
from offline.datasets import LabelledRecording
from offline.evaluate import Row, predict, summarise
from offline.export import export
from offline.fitting import Batch, Learner, Tell, device_of, fit
from offline.folds import divide, protocol_of, training_of, unit_of, write_splits
from offline.parallel import Watch, complete_all, n_jobs
from offline.recipe import Recipe
from offline.shipping import describe, network_of, reissue, spread, temperature_of
from offline.splits import LEAKY, Split
from offline.tuition import Training

__all__ = ["Run", "complete", "learner_of", "train", "windows_of"]

_GOLDEN, _BASELINE = 16, 2000  # windows for the golden values, and for a linear baseline


@dataclass(frozen=True)
class Run:
    """One fold with one seed: everything that a process needs to train and judge it."""

    recipe: Recipe
    recordings: tuple[LabelledRecording, ...]
    split: Split
    fold: int
    seed: int
    windows: Path  # of offline.cache: those that train and validate, in a leaky split all
    out: Path

    @property
    def name(self) -> str:
        return f"fold {self.fold}, seed {self.seed}"

    @property
    def told(self) -> Training:
        assert self.recipe.training is not None
        return self.recipe.training

    @property
    def key(self) -> str:
        """Changes with all that the outcome depends on, so that no other one is taken for it."""
        recipe = self.recipe
        about = [self.windows.name, self.split.hash, recipe.labels, recipe.network]
        told = self.told.model_dump(exclude={"split", "seeds", "device", "compare"})
        text = json.dumps([*about, recipe.network_args, told], sort_keys=True)
        short = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"fold-{self.fold}-seed-{self.seed}-{short}"

    @property
    def weights(self) -> Path:
        return self.out / "checkpoints" / f"{self.key}.pt"

    @property
    def predictions(self) -> Path:
        return self.out / "runs" / self.key / "predictions.jsonl"

    @property
    def bundle(self) -> Path:
        return self.out / "runs" / self.key / "bundle"


def train(
    recipe: Recipe,
    recordings: Sequence[LabelledRecording],
    out: Path,
    say: Callable[[str], None] = print,
    *,
    watch: Watch = lambda name, done, total, text: None,
    jobs: int | None = 1,
    cache: Path | None = None,
) -> Bundle:
    """Train and judge `recipe` on `recordings`; writes bundle, report, metrics, split to `out`.

    Each fold is trained once per seed. Its normaliser and weights come from its training part, the
    epoch and the temperature from its validation part; its test part is read once, by the serving
    runtime, when all that is settled. A run that was interrupted goes on. The bundle is the first
    fold's seed with the best validation, so `split.json` is the one that it was trained under; the
    figures are over all folds. `jobs` processes work side by side (None: one per core), cut windows
    are kept in `cache` (beside `out` if not given), `watch` hears how far each run is.
    """
    told = training_of(recipe)
    out.mkdir(parents=True, exist_ok=True)
    recordings = [r for r in recordings if r.label in ("", *recipe.labels)]
    runs = _plan(recipe, recordings, out, cache or out.parent / "windows", watch)
    write_splits({run.fold: run.split for run in runs}, out)
    (out / "config.yaml").write_text(recipe.resolved)
    n = n_jobs(jobs, len(runs), device_of(told).type == "cuda")
    say(f"{len(runs)} runs ({runs[0].split.protocol} ...), {n} at a time")
    complete_all(complete, runs, n, watch)
    return _finish(runs, say, _compared(recipe, runs, n, watch, say))


def complete(run: Run, tell: Tell) -> None:
    """Train `run` and have it predict its test part, as far as that is not done yet."""
    if not run.weights.is_file():
        _fit(run, tell)
    if not run.predictions.is_file():
        _judge(run, tell)
    kept = torch.load(run.weights, weights_only=True)
    tell(1, 1, f"validation UAR {kept['uar']:.3f} (epoch {kept['epoch']})")


def _plan(
    recipe: Recipe,
    recordings: Sequence[LabelledRecording],
    out: Path,
    cache: Path,
    watch: Watch,
) -> list[Run]:
    """All runs, their windows cut: of a test part only what trains in another fold."""
    told = training_of(recipe)
    if told.split.unit == LEAKY:
        windows = windows_of(recipe, recordings, cache, watch)
        found = open_windows(windows)
        ids = [splits.window_id(*about) for about in zip(found.recording, found.t, strict=True)]
        made = divide(recipe, recordings, ids)
    else:
        made = divide(recipe, recordings)
        used = {r.uid for _, s in made for r in recordings if s.part_of(r) in ("train", "val")}
        windows = windows_of(recipe, [r for r in recordings if r.uid in used], cache, watch)
    everything, files = tuple(recordings), splits.hash_files(recordings)
    return [
        Run(recipe, everything, replace(split, files=files), fold, seed, windows, out)
        for (fold, split), seed in itertools.product(made, told.seeds)
    ]


def windows_of(
    recipe: Recipe, recordings: Sequence[LabelledRecording], cache: Path, watch: Watch
) -> Path:
    """The windows of `recordings` as the recipe has them cut, in a folder below `cache`."""
    return cached_cut(
        recordings,
        recipe.specs("plain"),
        recipe.train_hop_s or recipe.hop_s,
        cache,
        labels=recipe.labels,
        skip_s=recipe.skip_s or 0.0,
        filled=recipe.min_filled or 0.0,
        calibrate_s=recipe.calibrate_s,
        progress=lambda done, total: watch("cutting windows", done, total, ""),
    )


def _fit(run: Run, tell: Tell) -> None:
    """Gradient descent on the training part; the weights that validated best are kept."""
    learner, judged = learner_of(run)
    begun = run.weights.with_suffix(".ckpt")
    begun.parent.mkdir(parents=True, exist_ok=True)
    start_s = time.perf_counter()
    fit(learner, run.told, begun, tell, run.out / "logs" / run.key)

    learner.network.load_state_dict(learner.best["state"])
    logits = judged.logits(learner.network.to(device_of(run.told)))
    temperature = temperature_of(logits, judged.truth, judged.filled)
    kept = {
        **learner.best,
        "scores": learner.scores,
        "losses": learner.losses,
        "temperature": temperature,
        "seconds": time.perf_counter() - start_s,
    }
    part = run.weights.with_suffix(".part")
    torch.save(kept, part)
    os.replace(part, run.weights)
    begun.unlink()


def learner_of(run: Run) -> tuple[Learner, Judged]:
    """What is fitted, untrained, out of the training part alone; and the part that validates."""
    told, device = run.told, device_of(run.told)
    given, rows = _material(run)
    drawn = Draws(given.on(device), rows["train"], told, run.seed, device)
    by_recording = unit_of(run.recipe, run.recordings) == "recording"
    judged = Judged(given.on(device), rows["val"], by_recording, device)

    torch.manual_seed(run.seed)
    network = network_of(run.recipe, given.shapes)
    settle = getattr(network, "settle", None)
    if settle is not None:  # what it normalises by: of the training part and nothing else
        some = drawn.some()
        settle(some.inputs, some.valid)
    return Learner(network, told, drawn, judged, drawn.weight, drawn.offset), judged


def _judge(run: Run, tell: Tell) -> None:
    """The test part, once, through the bundle as it would serve, with a linear baseline beside."""
    made = _export(run)
    linear = None
    if not made.encoders:  # else what the graph reads is what training made of the windows
        given, rows = _material(run)
        some = given.batch(torch.from_numpy(spread(rows["train"], _BASELINE)), torch.device("cpu"))
        truth = some.truth.argmax(1).numpy()
        linear = fit_linear(*_arrays(some), truth, len(run.recipe.labels))
    look = Onlooker(made, linear)
    in_test = {i.rpartition("@")[0] for i in run.split.test} if run.split.unit == LEAKY else set()
    test = [r for r in run.recordings if r.uid in in_test or run.split.part_of(r) == "test"]
    found = predict(
        made, test, run.recipe.calibrate_s, look,
        lambda done, total: tell(done, total, "reading the test part"),
    )  # fmt: skip
    sides = run.split.parts_of([row.recording for row in found], [row.t for row in found])
    pairs = zip(found, sides, strict=True)
    mine = np.array([side == "test" and row.truth in run.recipe.labels for row, side in pairs])
    look.noted()[mine].save(run.predictions.with_name("beside.npz"))
    lines = [msgspec.json.encode(row) for row, keep in zip(found, mine, strict=True) if keep]
    part = run.predictions.with_suffix(".part")
    part.write_bytes(b"\n".join(lines))
    os.replace(part, run.predictions)


def _finish(runs: Sequence[Run], say: Callable[[str], None], compared: Mapping[str, Any]) -> Bundle:
    """Figures over all folds, from the seed of each that validated best; the bundle, the report."""
    recipe, out = runs[0].recipe, runs[0].out
    figures, rows, beside, best = _judged(runs)
    figures |= {"level": splits.level(runs[0].split), "compared": dict(compared), "runs": []}
    for run in runs:
        kept = torch.load(run.weights, weights_only=True)
        own = _judged([run])[0]
        told = {"fold": run.fold, "seed": run.seed, "split": run.split.hash,
                "test_uar": own["uar"], "test_accuracy": own["accuracy"]}  # fmt: skip
        figures["runs"].append(told | {key: kept[key] for key in kept if key != "state"})
        say(f"{run.name}: validation {kept['uar']:.3f}, test {own['uar']:.3f}")
    scores = [told["test_uar"] for told in figures["runs"]]
    figures["uar_over_runs"] = {"mean": float(np.mean(scores)), "sd": float(np.std(scores))}
    shipped = best[runs[0].fold]
    figures["shipped"] = {"fold": shipped.fold, "seed": shipped.seed}
    (out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    also = ("level", "uar_over_runs", "shipped")
    bundle = reissue(shipped.bundle, out / "bundle", figures, recipe.limits, also)
    report.write(out / "report", figures, rows, bundle, beside=beside)
    return bundle


def _judged(
    runs: Sequence[Run],
) -> tuple[dict[str, Any], list[Row], Beside, dict[int, Run]]:
    """Figures, rows and what stands beside them, of each fold's seed that validated best: {fold:
    run}."""
    recipe = runs[0].recipe
    best: dict[int, Run] = {}
    uar = {run.key: torch.load(run.weights, weights_only=True)["uar"] for run in runs}
    for run in runs:
        if run.fold not in best or uar[run.key] > uar[best[run.fold].key]:
            best[run.fold] = run
    rows = [row for run in best.values() for row in _rows(run)]
    beside = join([Beside.load(r.predictions.with_name("beside.npz")) for r in best.values()])
    figures = summarise(
        rows,
        recipe.labels,
        dataset=", ".join(recipe.datasets),
        protocol=protocol_of([run.split for run in runs], len({run.seed for run in runs})),
        unit=unit_of(recipe, runs[0].recordings),
        linear=beside.linear,
    )
    return figures, rows, beside, best


def _compared(
    recipe: Recipe, runs: Sequence[Run], n: int, watch: Watch, say: Callable[[str], None]
) -> dict[str, Any]:
    """The same folds and first seed with other arguments of the network, one after the other."""
    told: dict[str, Any] = {}
    first = [run for run in runs if run.seed == runs[0].seed]
    for name, values in training_of(recipe).compare.items():
        for value in values:
            args = {**recipe.network_args, name: value}
            other = recipe.model_copy(update={"network_args": args})
            varied = [replace(run, recipe=other) for run in first]
            complete_all(complete, varied, min(n, len(varied)), watch)
            told[f"{name} {value}"] = figures = _judged(varied)[0]
            say(f"{name} {value}: test {figures['uar']:.3f}")
    keys = ("uar", "uar_ci95", "accuracy", "macro_f1", "n")
    return {name: {key: figures[key] for key in keys} for name, figures in told.items()}


def _export(run: Run) -> Bundle:
    """The run's best weights as a bundle, which is judged and may be shipped."""
    recipe = run.recipe
    kept = torch.load(run.weights, weights_only=True)
    given, rows = _material(run)
    network: nn.Module = network_of(recipe, given.shapes)
    network.load_state_dict(kept["state"])
    golden = given.batch(torch.from_numpy(spread(rows["val"], _GOLDEN)), torch.device("cpu"))
    leaky = run.split.unit == LEAKY
    seen = {r.subject for r in run.recordings if leaky or run.split.part_of(r) in ("train", "val")}
    about = describe(recipe, recipe.specs("plain"), kept["temperature"], seen)
    return export(run.bundle, network, about, *_arrays(golden), "one run\n")


def _arrays(batch: Batch) -> tuple[dict[str, Array], dict[str, Array]]:
    inputs = {name: x.numpy() for name, x in batch.inputs.items()}
    return inputs, {name: mask.numpy() for name, mask in batch.valid.items()}


def _material(run: Run) -> tuple[Material, dict[str, Array]]:
    """The windows of a run, and which of them train and validate."""
    windows = open_windows(run.windows)
    given = material(windows, run.recordings, run.recipe.labels, run.told.soft)
    sides = np.array(run.split.parts_of(windows.recording, windows.t), dtype=object)
    rows = {side: np.flatnonzero(sides == side) for side in ("train", "val")}
    there = set(windows.label[rows["train"]])
    if missing := [label for label in run.recipe.labels if label not in there]:
        raise DataError(f"{run.split.protocol}: no window of {', '.join(missing)} is left to train")
    if not len(rows["val"]):
        raise DataError(f"{run.split.protocol}: no window is left to validate on")
    return given, rows


def _rows(run: Run) -> list[Row]:
    lines = run.predictions.read_bytes().split(b"\n")
    found = [msgspec.json.decode(line, type=Row) for line in lines if line]
    if not found:
        raise DataError(f"{run.split.protocol}: nothing was predicted in its test part")
    return found
