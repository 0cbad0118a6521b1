"""The commands of the offline module: train, bundle, data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from engine.arguments import pairs
from engine.errors import DataError
from offline.asked import DATA, JSON, OPTION, SET

__all__ = ["bundle", "check", "data", "leak_check", "show", "train", "verify"]


def train(
    config: Annotated[str, typer.Argument(help="A training config, or a shipped name.")],
    data: Annotated[Path | None, DATA] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Default: runs/<bundle>.")] = None,
    changes: Annotated[list[str] | None, SET] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Folds and seeds side by side; default: one a core."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="For cut windows; default: beside --out.")
    ] = None,
) -> None:
    """Train a bundle on a data set, validate it, test it once, and write it with its report.

    What was interrupted goes on with the same command. `--set training.epochs=3` makes it quick,
    `--set training.split.only=[0]` trains one fold.
    """
    from offline.calls import prepare
    from offline.calls import train as run
    from offline.showing import bars

    prepared = prepare(config, data, pairs(changes))
    folder = out if out is not None else Path("runs") / prepared.recipe.bundle
    with bars() as (say, watch):
        made = run(prepared, folder, say, watch=watch, jobs=jobs, cache=cache)
    low, high = made.metrics["uar_ci95"]
    print(f"{made.id}: UAR {made.metrics['uar']:.3f} [{low:.3f}, {high:.3f}]; {made.protocol}")
    print(f"written: {folder}: {', '.join(sorted(_written(folder)))}")


bundle = typer.Typer(help="Look into bundles: show, verify.", no_args_is_help=True)


@bundle.command("show")
def show(
    name: Annotated[
        str | None, typer.Argument(help="A bundle; none lists the shipped ones.")
    ] = None,
) -> None:
    """Print a bundle's card, or the list of shipped bundles."""
    from engine.bundle import Bundle, find, shipped_names

    if name is not None:
        print((find(name) / "CARD.md").read_text(encoding="utf-8"))
        return
    for known in shipped_names():
        made = Bundle.load(known, check=False)
        uar = f"UAR {made.metrics['uar']:.3f}" if "uar" in made.metrics else ""
        print(f"{known:20s} {', '.join(made.labels):30s} {uar}  {made.licence}")


@bundle.command("verify")
def verify(
    name: Annotated[str, typer.Argument(help="A bundle: a shipped name, or a path.")],
) -> None:
    """Check every hash of a bundle, and its golden values through the runtime."""
    from engine.bundle import Bundle

    made = Bundle.load(name)
    print(f"{made.path}: {made.id}, every hash right, golden values within 1e-4 ({made.sha256})")


data = typer.Typer(help="Look into data sets and splits.", no_args_is_help=True)


@data.command("check")
def check(
    dataset: Annotated[str, typer.Argument(help="Which data set it is.")],
    root: Annotated[Path, typer.Argument(help="Its folder; the csv of a manifest.")],
    options: Annotated[list[str] | None, OPTION] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Count recordings, subjects and labels; name what is left out, and broken files (exit 2)."""
    from offline.checkup import check_dataset, in_words

    told = check_dataset(dataset, root, pairs(options))
    print(json.dumps(told) if as_json else in_words(told))
    if told["broken"]:
        raise DataError(f"{len(told['broken'])} broken files in {root}")


@data.command("leak-check")
def leak_check(
    split: Annotated[Path, typer.Argument(help="A split file.")],
) -> None:
    """Say whether a group, or the same file, stands on two sides of a split."""
    from offline.splits import leaks, read_split

    found = leaks(read_split(split))
    if found:
        raise DataError("\n".join(f"{split}: {leak}" for leak in found[:15]))
    print(f"{split}: no group and no file stands on two sides")


def _written(folder: Path) -> set[str]:
    """What a user looks for in a training's folder, as far as it is there."""
    names = ("bundle", "report/index.html", "metrics.json", "split.json", "config.yaml")
    return {name for name in names if (folder / name).exists()}
