"""The commands that make something better or smaller: `vagus tune` and `vagus compress`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from engine.arguments import pairs
from engine.errors import ConfigError, DataError
from offline.asked import CALIBRATE, DATA, JSON, OPTION, SET, SPLIT

__all__ = ["compress", "tune"]


def tune(
    config: Annotated[str, typer.Argument(help="A training config, or a shipped name.")],
    data: Annotated[Path | None, DATA] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many in all.")] = 30,
    out: Annotated[
        Path | None, typer.Option("--out", help="Default: runs/<bundle>-tune; goes on there.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds after which no trial is begun.")
    ] = None,
    changes: Annotated[list[str] | None, SET] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Search a config's settings on validation alone, and write the best as best.yaml.

    What is varied stands in the config's map `tune:`, keys as --set has them:

        tune: {training.learning_rate: {low: 1e-4, high: 1e-2, log: true},
               network_args.n_hidden: {choices: [32, 64, 128]}}

    The test part is not read, so `vagus train DIR/best.yaml` judges it honestly afterwards. Called
    again, it goes on; a trial that falls behind the others' median is given up early.
    """
    from offline.recipe import load_recipe
    from offline.showing import bars
    from offline.tune import tune as search

    told = pairs(changes)
    folder = out or Path("runs") / f"{load_recipe(config, told).bundle}-tune"
    with bars() as (say, watch):
        found = search(
            config, data, folder, n_trials=trials, timeout_s=timeout, changes=told, say=say,
            watch=watch,
        )  # fmt: skip
    if as_json:
        print(json.dumps({"uar": found.uar, "settings": found.settings, "dir": str(folder)}))
        return
    print(
        f"best validation UAR {found.uar:.3f} of {found.n_complete} trials to their end, "
        f"{found.n_pruned} given up, {found.n_failed} failed"
    )
    for key, value in found.settings.items():
        print(f"  {key}: {value:.4g}" if isinstance(value, float) else f"  {key}: {value}")
    print(f"written: {folder / 'best.yaml'}; next: vagus train {folder / 'best.yaml'}")


def compress(
    bundle: Annotated[str, typer.Argument(help="A bundle: a shipped name, or a path.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the new bundle.")],
    to: Annotated[str, typer.Option("--to", help="int8: weights in 8 bits.")] = "int8",
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="What it is judged on; else golden values.")
    ] = None,
    data: Annotated[Path | None, DATA] = None,
    options: Annotated[list[str] | None, OPTION] = None,
    split: Annotated[str | None, SPLIT] = None,
    calibrate: Annotated[float | None, CALIBRATE] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Keep a bundle's weights in 8 bits, if it still says the same: a quarter of the size.

    Judged on the subjects of --dataset that it was not trained on, or on a part of a split.
    Refused where UAR falls by more than a point or the graph keeps more than 0.3 of its size. The
    time of a run is measured beside the original's: size is what this is for.
    """
    import msgspec

    from engine.bundle import Bundle
    from offline.compress import compress as run
    from offline.readers import read
    from offline.splits import read_part

    if to != "int8":
        raise ConfigError(f"--to {to}: the one there is: int8")
    if dataset is None and (split is not None or data is not None):
        raise ConfigError("--data and --split need --dataset, which says what the data are")
    original, recordings = Bundle.load(bundle), []
    if dataset is not None:
        found = read(dataset, data, pairs(options))
        recordings = [r for r in found if r.subject not in original.seen_subjects]
        if split is not None:
            told, part = read_part(split)
            recordings = [r for r in found if told.part_of(r) == part]
        if not recordings:
            raise DataError(
                f"no recording of {dataset} is left: {original.id} was trained on all of its "
                "subjects; name a part with --split FILE:PART"
                if split is None
                else f"--split {split}: holds no recording of {dataset}"
            )
    made, gate = run(original, out, recordings, calibrate)
    if as_json:
        print(json.dumps({"bundle": made.id, "path": str(out), **msgspec.to_builtins(gate)}))
    else:
        print(f"{made.id}: {gate.words}\nwritten: {out}")
