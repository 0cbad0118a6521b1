"""What all folds and seeds of a training have in common: their splits, their unit, their words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.errors import ConfigError
from offline import evaluate, splits
from offline.datasets import LabelledRecording
from offline.recipe import Recipe
from offline.splits import Split, write_split
from offline.tuition import Training

__all__ = ["divide", "protocol_of", "training_of", "unit_of", "write_splits"]


def divide(
    recipe: Recipe, recordings: Sequence[LabelledRecording], windows: Sequence[str] = ()
) -> list[tuple[int, Split]]:
    """The splits that the recipe asks for, with their numbers; a leaky one needs `windows`' ids."""
    told = training_of(recipe).split
    made = splits.make(
        told.unit, recordings, n_folds=told.folds, seed=told.seed, val=told.val, windows=windows
    )
    wanted = range(len(made)) if told.only is None else told.only
    if strange := [i for i in wanted if i >= len(made) or i < 0]:
        raise ConfigError(
            f"training.split.only: there is no fold {strange[0]}; there are 0 to {len(made) - 1}"
        )
    return [(i, made[i]) for i in wanted]


def unit_of(recipe: Recipe, recordings: Sequence[LabelledRecording]) -> str:
    """What the headline counts: recordings, where these are clips of one label each."""
    return recipe.unit or evaluate.unit_of(recordings)


def protocol_of(made: Sequence[Split], n_seeds: int) -> str:
    """How a figure over these folds came about, in words."""
    names = list(dict.fromkeys(split.protocol for split in made))
    shared = {name.rpartition(", fold ")[0] or name for name in names}
    what = f"{shared.pop()}, {len(names)} folds" if len(shared) == 1 and names[1:] else ""
    return (
        f"{what or '; '.join(names)}; {n_seeds} {'seed' if n_seeds == 1 else 'seeds'}, epoch and "
        "seed chosen on validation alone, every test part read once, causal, every prediction of "
        "the serving runtime"
    )


def write_splits(made: Mapping[int, Split], out: Path) -> None:
    """`split.json` is the first one, the bundle's; where there are several, all lie in `splits`."""
    write_split(next(iter(made.values())), out / "split.json")
    if len(made) > 1:
        (out / "splits").mkdir(exist_ok=True)
        for fold, split in made.items():
            write_split(split, out / "splits" / f"fold-{fold}.json")


def training_of(recipe: Recipe) -> Training:
    """The map `training`; ConfigError where a recipe has none."""
    if recipe.training is None:
        raise ConfigError(f"{recipe.bundle}: has no map `training:`, which says how it is trained")
    return recipe.training
