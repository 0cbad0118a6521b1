"""What the trainers share on the way to a bundle: the network, its temperature, bundle.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import nn

from engine import plugins
from engine.bundle import Bundle, InputSpec, save
from engine.manifest import ENCODER
from engine.types import Array
from offline.card import card
from offline.recipe import Recipe

__all__ = ["HEADLINE", "describe", "network_of", "reissue", "spread", "temperature_of"]

HEADLINE = ("unit", "n", "uar", "uar_ci95", "accuracy", "majority", "macro_f1", "ece")


def network_of(recipe: Recipe, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """The recipe's network for inputs of `shapes`, untrained."""
    factory = plugins.load("vagus.networks", recipe.network)
    network: nn.Module = factory(shapes, len(recipe.labels), **recipe.network_args)
    return network


def temperature_of(logits: Array, truth: Array, weight: Array | None = None) -> float:
    """The softmax temperature of least log loss (Guo et al. 2017), on windows that validate.

    `logits` (n, labels), `truth` (n,) label numbers, `weight` (n,).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_t: float) -> float:
        p = log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(truth)), truth]
        return -float(np.average(p, weights=weight))

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def describe(
    recipe: Recipe,
    inputs: Mapping[str, InputSpec],
    temperature: float,
    seen: Iterable[str],
    figures: Mapping[str, Any] | None = None,
    *,
    args: Mapping[str, Any] | None = None,
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """bundle.json without format and hashes; without `figures` it is one run's, not to be shipped.

    `seen` are the subjects it was trained on, `args` the network's where they are not the
    recipe's, `also` further figures that the bundle should carry.
    """
    return {
        "id": recipe.bundle,
        "labels": recipe.labels,
        "vocabulary": recipe.vocabulary,
        "inputs": msgspec.to_builtins(dict(inputs)),
        "hop_s": recipe.hop_s,
        "network": {
            "name": recipe.network,
            "args": recipe.network_args if args is None else dict(args),
        },
        "temperature": temperature,
        "abstain_below": recipe.abstain_below,
        "batch_sizes": recipe.batch_sizes,
        "protocol": figures["protocol"] if figures else "one run",
        "seen_subjects": sorted(set(seen)),
        "metrics": {key: figures[key] for key in (*HEADLINE, *also)} if figures else {},
        "data": recipe.data,
        "licence": recipe.licence,
        "felt_or_expressed": recipe.felt_or_expressed,
        "dimensions": recipe.dimensions,
    }


def reissue(
    made: Path,
    path: Path,
    figures: Mapping[str, Any],
    limits: Sequence[str],
    also: Sequence[str] = (),
) -> Bundle:
    """The bundle at `made`, of one run, once more at `path` with all runs' figures and its card."""
    told = json.loads((made / "bundle.json").read_bytes())
    for own in ("sha256", "format", "files"):
        del told[own]
    told["protocol"] = figures["protocol"]
    told["metrics"] = {key: figures[key] for key in (*HEADLINE, *also)}
    with np.load(made / "golden.npz", allow_pickle=False) as golden:
        arrays = {name: golden[name] for name in golden.files}
    encoder = made / ENCODER
    save(
        path,
        told,
        weights=(made / "weights.safetensors").read_bytes(),
        model=(made / "model.onnx").read_bytes(),
        golden=arrays,
        card=card(told, figures, limits),
        encoder=encoder.read_bytes() if encoder.is_file() else None,
    )
    return Bundle.load(path)


def spread(rows: Array, n: int = 16) -> Array:
    """`n` of `rows`, evenly, or all of fewer: golden values, for example."""
    found: Array = rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]
    return found
