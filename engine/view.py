"""Fits a device's stream to a bundle's input: which steps lead from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import plugins
from engine.errors import BundleError, ConfigError
from engine.lane import View
from engine.steps import build_steps
from engine.types import Array, StreamInfo, Window

if TYPE_CHECKING:
    from engine.bundle import InputSpec
    from engine.features import Feature

__all__ = ["Entry", "fit"]


class Entry:
    """What one input of a graph is fed with: the window itself, or the features of it."""

    def __init__(self, spec: InputSpec, info: StreamInfo, n_items: int) -> None:
        self._features: list[Feature] = []
        for entry in spec.features:
            args = dict(entry)
            factory = plugins.load("vagus.features", str(args.pop("name")))
            self._features.append(factory(info, n_items, **args))

    def __call__(self, window: Window) -> tuple[Array, Array]:
        """Fresh arrays for the graph: (time, *item) or (features,), and the validity (time,)."""
        if not self._features:
            return window.data.copy(), window.valid.copy()
        parts = [feature(window.data, window.valid) for feature in self._features]
        return parts[0] if len(parts) == 1 else np.concatenate(parts), window.valid.copy()


def fit(
    stream: str, info: StreamInfo, spec: InputSpec, bundle: str, channels: Mapping[str, str]
) -> tuple[View, Entry]:
    """The view that `bundle`'s input `spec` has of a stream, and what it feeds the graph with.

    Channels are selected by name, the unit is converted and the rate resampled before the
    bundle's own steps. Raises BundleError where the stream cannot serve the bundle.
    """
    if info.kind != spec.kind:
        raise BundleError(f"bundle {bundle} needs a stream of kind {spec.kind}; "
                          f"'{stream}' is {info.kind}")  # fmt: skip
    align: list[dict[str, Any]] = []
    if spec.channels and (spec.channels != info.channels or channels):
        align.append({"name": "select", "channels": spec.channels, "mapping": dict(channels)})
    if spec.unit != info.unit:
        align.append({"name": "scale", "unit": spec.unit})
    if spec.rate_hz != info.rate_hz:
        align.append({"name": "resample", "rate_hz": spec.rate_hz})
    specs = [*align, *(dict(s) for s in spec.steps)]
    try:
        steps = build_steps(specs, info, {n: plugins.load("vagus.steps", n) for n in _named(specs)})
    except (ConfigError, BundleError) as error:
        raise BundleError(f"bundle {bundle}, stream '{stream}': {error}") from error
    out = steps[-1].info if steps else info
    ratio = Fraction(1)
    for step in steps:
        ratio *= step.ratio
    rate_hz = out.rate_hz if out.rate_hz is not None else 0.0
    n_items = max(1, round(spec.window_s * rate_hz))
    n_min = min(n_items, max(1, round(spec.min_filled_s * rate_hz)))
    return View(tuple(steps), out, n_items, n_min), Entry(spec, out, n_items)


def _named(specs: list[dict[str, Any]]) -> list[str]:
    return [str(spec["name"]) for spec in specs]
