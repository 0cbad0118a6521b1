"""The commands of the offline module: train, evaluate, bundle, data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import ConfigError, DataError

__all__ = ["bundle", "check", "data", "evaluate", "leak_check", "show", "train", "verify"]

_DATA = typer.Option("--data", help="The folder with the data set's files.")
_JSON = typer.Option("--json", help="As one JSON object.")


def train(
    config: Annotated[str, typer.Argument(help="A training config, or a shipped name.")],
    data: Annotated[Path | None, _DATA] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Default: runs/<bundle>.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: override one key of the config.")
    ] = None,
) -> None:
    """Train a bundle: nested cross-validation over subjects, then the bundle, with its card."""
    from rich.console import Console

    from offline.readers import read
    from offline.recipe import load_recipe
    from offline.train import train as run

    pairs = dict(_pair(change) for change in changes or [])
    recipe = load_recipe(config, pairs)
    folder = out if out is not None else Path("runs") / recipe.bundle
    console = Console(stderr=True)
    with console.status("cutting windows") as status:

        def say(text: str) -> None:
            console.print(text, highlight=False)
            status.update(f"training {recipe.bundle}")

        if recipe.speech is None:
            made = run(recipe, read(recipe.dataset, data), folder, say)
        else:
            from offline.speech import read_sides
            from offline.speech import train as run_speech

            made = run_speech(recipe, read_sides(recipe, data), folder, say)
    low, high = made.metrics["uar_ci95"]
    print(f"{made.id}: UAR {made.metrics['uar']:.3f} [{low:.3f}, {high:.3f}]; {made.protocol}")
    print(f"written: {folder}/bundle, metrics.json, split-*.json, config.yaml")


def evaluate(
    bundle: Annotated[str, typer.Argument(help="A bundle: a shipped name, or a path.")],
    dataset: Annotated[str, typer.Option("--dataset", help="What the data are.")],
    data: Annotated[Path | None, _DATA] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="FILE:PART, for example split.json:test")
    ] = None,
    unit: Annotated[
        str, typer.Option("--unit", help="What is counted: window or recording.")
    ] = "window",
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also subjects that it was trained on.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for predictions.jsonl and metrics.json.")
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Judge a bundle on labelled recordings, through the very session that serves."""
    from engine.bundle import Bundle
    from offline.evaluate import predict, summarise
    from offline.readers import read

    if unit not in ("window", "recording"):
        raise ConfigError(f"--unit {unit}: expected window or recording")
    loaded = Bundle.load(bundle)
    found = read(dataset, data)
    seen = sorted({r.subject for r in found} & set(loaded.seen_subjects))
    if not include_seen:
        found = [r for r in found if r.subject not in seen]
    protocol = "all subjects" if include_seen else "subjects that the bundle never saw"
    if split is not None:
        found, protocol = _side(found, split)
    if not found:
        raise DataError(
            f"no recording is left: {bundle} was trained on all of {_few(seen)}; "
            "--include-seen judges them all the same"
        )
    rows = predict(loaded, found)
    figures = summarise(rows, loaded.labels, dataset=dataset, protocol=protocol, unit=unit)
    figures |= {"seen_subjects": seen, "bundle": loaded.id, "sha256": loaded.sha256}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
        with (out / "predictions.jsonl").open("w", encoding="utf-8") as lines:
            for row in rows:
                names = ("recording", "subject", "t", "first", "last", "truth", "probabilities")
                line = {name: getattr(row, name) for name in names}
                lines.write(json.dumps(line) + "\n")
    print(json.dumps(figures) if as_json else _table(figures))


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
    root: Annotated[Path, typer.Argument(help="Its folder.")],
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Count recordings, subjects and labels, and name broken files."""
    from collections import Counter

    from offline.readers import reader

    module = reader(dataset)
    found, broken = module.recordings(root), module.broken(root)
    labels = Counter(recording.label for recording in found)
    told: dict[str, Any] = {
        "dataset": dataset,
        "recordings": len(found),
        "subjects": len({recording.subject for recording in found}),
        "labels": dict(sorted(labels.items())),
        "majority": max(labels.values(), default=0) / max(1, len(found)),
        "broken": [{"file": b.file, "reason": b.reason} for b in broken],
    }
    if as_json:
        print(json.dumps(told))
    else:
        print(f"{dataset}: {told['recordings']} recordings of {told['subjects']} subjects")
        for label, n in told["labels"].items():
            print(f"  {label:12s} {n:6d}  {n / len(found):.1%}")
        for b in broken:
            print(f"  broken: {b.file}: {b.reason}")
    if broken:
        raise DataError(f"{len(broken)} broken files in {root}")


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


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: expected key=value, for example folds.seed=3")
    return key, value


def _side(recordings: list[Any], where: str) -> tuple[list[Any], str]:
    from offline.splits import PARTS, read_split

    file, _, part = where.rpartition(":")
    if not file or part not in PARTS:
        raise ConfigError(
            f"--split {where}: expected FILE:PART with PART one of {', '.join(PARTS)}"
        )
    read = read_split(file)
    kept = [r for r in recordings if read.part_of(r) == part]
    return kept, f"{read.protocol}, {part} part"


def _few(names: list[str]) -> str:
    more = f" ... {names[-1]} ({len(names)})" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _table(figures: dict[str, Any]) -> str:
    low, high = figures["uar_ci95"]
    lines = [
        f"{figures['bundle']} on {figures['dataset']}, {figures['protocol']}",
        f"  UAR       {figures['uar']:.3f}  [{low:.3f}, {high:.3f}], "
        f"{len(figures['subjects'])} subjects, {figures['n']} {figures['unit']}s",
        f"  accuracy  {figures['accuracy']:.3f}  (most frequent label: {figures['majority']:.3f})",
        f"  macro F1  {figures['macro_f1']:.3f}   ECE {figures['ece']:.3f}",
    ]
    width = max(len(label) for label in figures["labels"])
    for label, row in zip(figures["labels"], figures["confusion"], strict=True):
        lines.append(f"  {label:{width}s} {' '.join(f'{n:7d}' for n in row)}")
    if figures["seen_subjects"]:
        lines.append(f"  subjects seen in training: {_few(figures['seen_subjects'])}")
    return "\n".join(lines)
