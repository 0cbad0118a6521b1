"""Training in three calls: prepare, train, evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bundle import Bundle
from offline.datasets import LabelledRecording
from offline.evaluate import predict, summarise
from offline.readers import read
from offline.recipe import Recipe, load_recipe

__all__ = ["Prepared", "evaluate", "prepare", "train"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training config with the recordings that it found; `test` is not trained on."""

    recipe: Recipe
    sides: Any  # of a voice recipe: offline.speech.Sides; else None
    recordings: tuple[LabelledRecording, ...]
    test: tuple[LabelledRecording, ...]


def prepare(
    config: str, data: str | Path | None = None, changes: Mapping[str, str] | None = None
) -> Prepared:
    """Load a training config (a path, or a shipped name) and find its recordings below `data`.

    `changes` {"speech.epochs": "3"} override single keys, as YAML. Raises ConfigError and
    DataError that say what is wrong and where.
    """
    recipe = load_recipe(config, changes)
    root = None if data is None else Path(data)
    if recipe.speech is None:
        found = read(recipe.dataset, root)
        subjects = sorted({r.subject for r in found})
        seen = set(subjects[: recipe.subjects])
        unseen = tuple(r for r in found if r.subject not in seen)
        return Prepared(recipe, None, tuple(r for r in found if r.subject in seen), unseen)
    from offline.speech import read_sides

    sides = read_sides(recipe, root)
    return Prepared(
        recipe, sides, tuple(r for part in sides.train.values() for r in part), tuple(sides.test)
    )


def train(
    prepared: Prepared, out: str | Path, say: Callable[[str], None] = lambda text: None
) -> Bundle:
    """Train, validate and write the bundle with its card below `out`; `say` hears how it goes."""
    if prepared.sides is not None:
        from offline.speech import train as train_speech

        return train_speech(prepared.recipe, prepared.sides, Path(out), say)
    from offline.train import train as train_linear

    return train_linear(prepared.recipe, prepared.recordings, Path(out), say)


def evaluate(bundle: Bundle, prepared: Prepared, unit: str | None = None) -> dict[str, Any]:
    """What the bundle would have said live of the people it never saw: `vagus evaluate`'s figures.

    `unit` is "recording" (the default for clips) or "window".
    """
    clips = prepared.sides is not None
    rows = predict(bundle, prepared.test)
    return summarise(
        rows,
        bundle.labels,
        dataset=prepared.recipe.dataset,
        protocol="subjects that training never saw",
        unit=unit or ("recording" if clips else "window"),
    )
