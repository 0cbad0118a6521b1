"""What a report tells: figures, baselines, curves and pictures of one evaluation, in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.bundle import Bundle
from offline.beside import Beside
from offline.readers import DATASETS, reader
from offline.report_page import page
from offline.verdicts import Row

__all__ = ["write"]


def write(
    folder: Path,
    figures: Mapping[str, Any],
    rows: Sequence[Row],
    bundle: Bundle | Sequence[Bundle],
    *,
    beside: Beside | None = None,
    limits: Sequence[str] | None = None,
) -> Path:
    """Write `folder`/index.html, one self-contained page, and `folder`/report.json; the page.

    `figures` are those of `offline.evaluate.summarise` (give it `linear=beside.linear`) and of
    `vagus train`: where there is `runs`, a list of maps with `fold`, `seed`, `losses` [loss of
    each epoch] and `scores` [[epoch, validation UAR]], the page draws training curves, the run
    that equals `shipped` {fold, seed} in bold; `level` ("L0" to "L4") is the rung of the leak
    ladder; `compared` {"zero": {uar, uar_ci95, accuracy, ...}} becomes the comparison of paddings.
    `bundle` is what was judged, or those of a session's streams. `rows` are the predictions;
    `beside` is what an `offline.beside.Onlooker` saw
    while they were made, in the same order. `limits` are the card's where not given.
    """
    bundles = [bundle] if isinstance(bundle, Bundle) else list(bundle)
    told = {
        "figures": dict(figures),
        "bundle": _about(bundles),
        "limits": list(_limits(bundles) if limits is None else limits),
        "warnings": _warnings(figures["dataset"]),
        "embeddings": {} if beside is None else _embeddings(rows, bundles[0].labels, beside),
    }
    folder.mkdir(parents=True, exist_ok=True)
    html = folder / "index.html"
    html.write_text(page(told), encoding="utf-8")
    text = json.dumps(told, indent=1, default=lambda points: points.round(4).tolist())
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    return html


def _about(bundles: Sequence[Bundle]) -> dict[str, Any]:
    inputs = {name: spec for one in bundles for name, spec in one.inputs.items()}
    seen = sorted({subject for one in bundles for subject in one.seen_subjects})
    return {
        "id": " + ".join(one.id for one in bundles),
        "sha256": ", ".join(one.sha256 for one in bundles),
        "labels": list(bundles[0].labels),
        "inputs": msgspec.to_builtins(inputs),
        "network": "; ".join(dict.fromkeys(_network(one) for one in bundles)),
        "data": " ".join(dict.fromkeys(one.data for one in bundles)),
        "licence": "; ".join(dict.fromkeys(one.licence for one in bundles)),
        "seen_subjects": seen,
    }


def _network(bundle: Bundle) -> str:
    args = ", ".join(f"{key} {value}" for key, value in bundle.network.get("args", {}).items())
    name = str(bundle.network.get("name", "none"))
    return f"{name} ({args})" if args else name


def _limits(bundles: Sequence[Bundle]) -> list[str]:
    """What the bundles' cards list under their last heading."""
    found: list[str] = []
    for bundle in bundles:
        text = (bundle.path / "CARD.md").read_text(encoding="utf-8")
        part = text.partition("## Limits\n")[2].partition("\n## ")[0]
        found += [line.removeprefix("- ") for line in part.splitlines() if line.startswith("- ")]
    return list(dict.fromkeys(found))


def _warnings(dataset: str) -> list[str]:
    """What the data sets' readers warn of."""
    names = [name for name in dataset.split(", ") if name in DATASETS]
    found = [(name, getattr(reader(name), "WARNING", None)) for name in names]
    return [f"{name}: {text}" for name, text in found if text is not None]


def _embeddings(rows: Sequence[Row], labels: Sequence[str], beside: Beside) -> dict[str, Any]:
    """Pictures {name: points (m, 2)} of the rows that are noted, their truth, what was right."""
    from offline.embeddings import neighbours, principal

    if len(beside.at) < 2:
        return {}
    points, shares = principal(beside.embeddings)
    pictures = {f"principal components: {shares[0]:.0%} and {shares[1]:.0%} of variance": points}
    found = neighbours(beside.embeddings)
    if found is not None:
        pictures["t-SNE, seed 0"] = found
    noted = [rows[i] for i in beside.at]
    said = [max(labels, key=lambda label, p=row.probabilities: p[label]) for row in noted]  # type: ignore[misc]
    return {
        "points": pictures,
        "truth": [list(labels).index(row.truth) for row in noted],
        "right": [label == row.truth for label, row in zip(said, noted, strict=True)],
    }
