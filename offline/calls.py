"""Training in three calls: prepare, train, evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bundle import Bundle
from engine.errors import ConfigError
from engine.plugins import nearest
from offline.datasets import LabelledRecording
from offline.evaluate import predict, summarise
from offline.parallel import Watch
from offline.readers import read, reader
from offline.recipe import Recipe, load_recipe

__all__ = ["Prepared", "evaluate", "prepare", "train"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training config with the recordings that it found; `test` is not trained on.

    Of several folds, `test` is the first one's.
    """

    recipe: Recipe
    sides: Any  # of a voice recipe: offline.speech.Sides; else None
    recordings: tuple[LabelledRecording, ...]
    test: tuple[LabelledRecording, ...]


def prepare(
    config: str, data: str | Path | None = None, changes: Mapping[str, str] | None = None
) -> Prepared:
    """Load a training config (a path, or a shipped name) and find its recordings below `data`.

    `changes` {"training.epochs": "3"} override single keys, as YAML. Raises ConfigError and
    DataError that say what is wrong and where.
    """
    recipe = load_recipe(config, changes)
    root = None if data is None else Path(data)
    if recipe.speech is not None:
        from offline.speech import read_sides

        sides = read_sides(recipe, root)
        heard = tuple(r for part in sides.train.values() for r in part)
        return Prepared(recipe, sides, heard, tuple(sides.test))
    found = _read(recipe, root)
    if recipe.training is not None:
        return Prepared(recipe, None, tuple(found), _first_test(recipe, found))
    subjects = sorted({r.subject for r in found})
    seen = set(subjects[: recipe.subjects])
    unseen = tuple(r for r in found if r.subject not in seen)
    return Prepared(recipe, None, tuple(r for r in found if r.subject in seen), unseen)


def train(
    prepared: Prepared,
    out: str | Path,
    say: Callable[[str], None] = lambda text: None,
    *,
    watch: Watch = lambda name, done, total, remark: None,
    jobs: int | None = 1,
    cache: Path | None = None,
) -> Bundle:
    """Train, validate and write the bundle with its card below `out`; `say` hears how it goes.

    For the others see `offline.train`: a linear search and a voice recipe do not use them.
    """
    recipe, folder = prepared.recipe, Path(out)
    if prepared.sides is not None:
        from offline.speech import train as train_speech

        return train_speech(recipe, prepared.sides, folder, say)
    if recipe.training is None:
        from offline.nested import train as train_linear

        return train_linear(recipe, prepared.recordings, folder, say)
    from offline.train import train as train_any

    return train_any(recipe, prepared.recordings, folder, say, watch=watch, jobs=jobs, cache=cache)


def evaluate(bundle: Bundle, prepared: Prepared, unit: str | None = None) -> dict[str, Any]:
    """What the bundle would have said live of the people it never saw: `vagus evaluate`'s figures.

    `unit` is "recording" (the default for clips) or "window".
    """
    recipe = prepared.recipe
    protocol, clips = "subjects that training never saw", prepared.sides is not None
    if recipe.training is not None:
        from offline.folds import divide, unit_of

        protocol = f"{divide(recipe, prepared.recordings)[0][1].protocol}, test part"
        clips = unit_of(recipe, prepared.recordings) == "recording"
    return summarise(
        predict(bundle, prepared.test, recipe.calibrate_s),
        bundle.labels,
        dataset=", ".join(recipe.datasets),
        protocol=protocol,
        unit=unit or ("recording" if clips else "window"),
    )


def _read(recipe: Recipe, root: Path | None) -> list[LabelledRecording]:
    """The recordings of all data sets; each is given those of the options that it knows."""
    known = {name: getattr(reader(name), "OPTIONS", {}) for name in recipe.datasets}
    for option in recipe.options:
        if not any(option in of for of in known.values()):
            names = sorted({name for of in known.values() for name in of})
            hint = nearest(option, names) or f"; known: {', '.join(names) or 'none'}"
            raise ConfigError(f"options.{option}: {', '.join(known)} has no such option{hint}")
    found: list[LabelledRecording] = []
    for name, options in known.items():
        own = {key: value for key, value in recipe.options.items() if key in options}
        found += read(name, root, own)
    return found


def _first_test(recipe: Recipe, found: list[LabelledRecording]) -> tuple[LabelledRecording, ...]:
    from offline.folds import divide
    from offline.splits import LEAKY

    if recipe.training is None or recipe.training.split.unit == LEAKY:
        return ()  # of a leaky split, every recording has windows that were trained on
    known = [r for r in found if r.label in ("", *recipe.labels)]
    _, split = divide(recipe, known)[0]
    return tuple(r for r in known if split.part_of(r) == "test")
