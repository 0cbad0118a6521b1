"""The command that judges: `vagus evaluate`, of a bundle or of a session's config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.arguments import pairs
from engine.bundle import Bundle
from engine.errors import ConfigError, DataError
from engine.types import Array
from offline.asked import CALIBRATE, DATA, JSON, OPTION, SPLIT

__all__ = ["evaluate"]

_SCORES = ("uar", "accuracy", "macro_f1", "weighted_f1", "kappa", "mcc", "auroc", "ece", "brier")


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is judged: a bundle, or the plans of a config; and the bundles that speak."""

    name: str
    what: Any
    bundles: tuple[Bundle, ...]

    @property
    def seen(self) -> set[str]:
        return {subject for bundle in self.bundles for subject in bundle.seen_subjects}


def evaluate(
    judged: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|CONFIG",
            help="A bundle (a shipped name, or a path), or the config of a session.",
        ),
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="What the data are.")],
    data: Annotated[Path | None, DATA] = None,
    options: Annotated[list[str] | None, OPTION] = None,
    split: Annotated[str | None, SPLIT] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit", help="window or recording; default: recording for clips of one label each."
        ),
    ] = None,
    calibrate: Annotated[float | None, CALIBRATE] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also subjects that it was trained on.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder for report/, metrics.json and predictions.jsonl."),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Judge a bundle on labelled recordings, through the very session that serves.

    A config in its place judges a session of several streams, and every subset of them. With
    --out a page with all figures and pictures is written; with --split, too, it has a linear
    baseline beside them, fitted on that file's training part.
    """
    from offline.evaluate import predict, summarise, unit_of
    from offline.readers import read
    from offline.showing import bars

    if unit not in (None, "window", "recording"):
        raise ConfigError(f"--unit {unit}: expected window or recording")
    found = _found(judged)
    everything = read(dataset, data, pairs(options))
    kept, protocol, level = _kept(everything, found, split, include_seen)
    with bars() as (_, watch):
        look = None
        if out is not None and len(found.bundles) == 1:
            from offline.beside import Onlooker

            linear = _linear(everything, found.bundles[0], split, calibrate, watch)
            look = Onlooker(found.bundles[0], linear)
        rows = predict(
            found.what, kept, calibrate, look,
            lambda done, total: watch("recordings", done, total, ""),
        )  # fmt: skip
    beside = look.noted() if look is not None else None
    labels = found.bundles[0].labels
    figures = summarise(
        rows, labels, dataset=dataset, protocol=protocol, unit=unit or unit_of(kept),
        linear=None if beside is None else beside.linear,
    )  # fmt: skip
    figures |= {
        "level": level,
        "seen_subjects": sorted({r.subject for r in everything} & found.seen),
        "bundle": found.name,
        "sha256": ", ".join(bundle.sha256 for bundle in found.bundles),
    }
    if out is not None:
        from offline import report

        _write(out, figures, rows)
        report.write(out / "report", figures, rows, found.bundles, beside=beside)
    print(json.dumps(figures) if as_json else _table(figures))


def _found(name: str) -> _Judged:
    """The bundle of that name or at that path, else the config."""
    from engine.bundle import shipped_names as shipped_bundles
    from engine.config import load_config
    from engine.config import shipped_names as shipped_configs
    from offline.evaluate import configured

    if not Path(name).is_file() and (name in shipped_bundles() or name not in shipped_configs()):
        bundle = Bundle.load(name)
        return _Judged(bundle.id, bundle, (bundle,))
    config = load_config(name)
    load = cache(Bundle.load)
    wanted = [(s.bundle, s.device) for s in config.streams.values() if s.bundle is not None]
    bundles = tuple({load(*one).sha256: load(*one) for one in wanted}.values())
    for bundle in bundles:
        if bundle.labels != bundles[0].labels:
            raise ConfigError(
                f"{name}: {bundles[0].id} tells {', '.join(bundles[0].labels)} apart, {bundle.id} "
                f"{', '.join(bundle.labels)}; they cannot be judged together"
            )
    if not bundles:
        raise ConfigError(f"{name}: no stream has a bundle; nothing would be predicted")
    return _Judged(config.session, configured(config, load), bundles)


def _kept(
    everything: Sequence[Any], found: _Judged, split: str | None, include_seen: bool
) -> tuple[list[Any], str, str | None]:
    """The recordings to judge, the protocol in words, and its rung of the leak ladder."""
    from offline.ladder import rung_of_subjects
    from offline.splits import level, read_part

    kept = [r for r in everything if include_seen or r.subject not in found.seen]
    protocol = "all subjects" if include_seen else "subjects that the bundle never saw"
    rung = rung_of_subjects((r.subject for r in kept), found.seen)
    if split is not None:
        told, part = read_part(split)
        kept = [r for r in kept if told.part_of(r) == part]
        protocol, rung = f"{told.protocol}, {part} part", level(told) if part == "test" else rung
    if not kept:
        raise DataError(
            f"no recording is left: {found.name} was trained on all of "
            f"{_few(sorted(found.seen))}; --include-seen judges them all the same"
        )
    return kept, f"{protocol}; causal, every prediction of the serving runtime", rung


def _linear(
    everything: Sequence[Any],
    bundle: Bundle,
    split: str | None,
    calibrate: float | None,
    watch: Any,
) -> Any:
    """A linear baseline on the training part of `split`; None where no split names one."""
    if split is None or bundle.encoders:
        return None
    import numpy as np

    from offline.baselines import fit_linear
    from offline.splits import read_part
    from offline.windows import cut

    told, _ = read_part(split)
    part = [r for r in everything if told.part_of(r) == "train"]
    if not part:
        return None
    watch("linear baseline", 0, 1, "cutting the training part")
    windows = cut(part, bundle.inputs, bundle.hop_s, calibrate_s=calibrate)
    known = windows[np.isin(windows.label, bundle.labels)]
    truth: Array = np.array([bundle.labels.index(label) for label in known.label])
    made = fit_linear(known.inputs, known.valid, truth, len(bundle.labels))
    watch("linear baseline", 1, 1, f"{len(known)} windows")
    return made


def _write(out: Path, figures: Mapping[str, Any], rows: Sequence[Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n")
    with (out / "predictions.jsonl").open("w", encoding="utf-8") as lines:
        for row in rows:
            names = ("recording", "subject", "t", "first", "last", "truth", "probabilities")
            lines.write(json.dumps({name: getattr(row, name) for name in names}) + "\n")


def _few(names: Sequence[str]) -> str:
    more = f" ... {names[-1]} ({len(names)})" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _table(figures: Mapping[str, Any]) -> str:
    low, high = figures["uar_ci95"]
    rung = f" [{figures['level']}]" if figures["level"] else ""
    lines = [
        f"{figures['bundle']} on {figures['dataset']}, {figures['protocol']}{rung}",
        f"  {len(figures['subjects'])} subjects, {figures['n']} {figures['unit']}s; "
        f"UAR {figures['uar']:.3f} [{low:.3f}, {high:.3f}]",
        "",
        f"  {'':12s} " + " ".join(f"{name:>11s}" for name in _SCORES),
    ]
    for name, one in {"bundle": figures, **figures["baselines"]}.items():
        cells = ("-" if one[key] is None else f"{one[key]:.3f}" for key in _SCORES)
        lines.append(f"  {name:12s} " + " ".join(f"{cell:>11s}" for cell in cells))
    width = max(len(label) for label in figures["labels"])
    lines.append("")
    for label, row in zip(figures["labels"], figures["confusion"], strict=True):
        lines.append(f"  {label:{width}s} {' '.join(f'{n:7d}' for n in row)}")
    for name, told in figures["subsets"].items():
        lines.append(f"  {name}: UAR {told['uar']:.3f}, ECE {told['ece']:.3f}")
    if figures["seen_subjects"]:
        lines.append(f"  subjects seen in training: {_few(figures['seen_subjects'])}")
    return "\n".join(lines)
