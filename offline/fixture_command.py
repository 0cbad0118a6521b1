"""The command that writes synthetic data sets: `vagus fixture`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["fixture"]


def fixture(
    dataset: Annotated[str, typer.Argument(help="Which data set to imitate, for example deap.")],
    out: Annotated[Path, typer.Argument(help="A folder that is new or empty.")],
    subjects: Annotated[
        int | None,
        typer.Option("--subjects", min=1, help="How many; pictures, where no persons are told."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other seeds give other people.")] = 0,
) -> None:
    """Write files as a data set has them, with effects of known size planted in them.

    Printed is, for each task, the Bayes rate: the unweighted average recall that nobody can be
    expected to beat. A model that stays far below it has not found what is there; one above it
    cheats.
    """
    from engine.errors import ConfigError
    from offline import fixtures

    module = fixtures.fixture(dataset)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is not empty; a fixture needs a folder of its own")
    out.mkdir(parents=True, exist_ok=True)
    made = module.write(out, subjects=subjects, seed=seed)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{dataset}: {made.files} files, {size / 1e6:.1f} MB in {out}")
    for task, rate in made.bayes.items():
        print(f"  Bayes rate {rate:.3f}  {task}")
    for note in made.notes:
        print(f"  {note}")
