"""Fits a device's stream to a bundle's input: which steps lead from one to the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import plugins
from engine.errors import BundleError, ConfigError
from engine.features import build_features
from engine.lane import View
from engine.steps import build_steps
from engine.types import Array, StreamInfo, Window

if TYPE_CHECKING:
    from engine.bundle import InputSpec

__all__ = ["Entry", "fit"]


class Entry:
    """What one input of a graph is fed with: the window itself, or the features of it."""

    def __init__(self, spec: InputSpec, info: StreamInfo, n_items: int) -> None:
        factories = _factories("vagus.features", spec.features)
        self._features = build_features(spec.features, info, n_items, factories)

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

    Channels are selected by name (a voice's are mixed where `mono` is wanted), the unit is
    converted and the rate resampled before the bundle's own steps. Raises BundleError where the
    stream cannot serve the bundle.
    """
    if info.kind != spec.kind:
        raise BundleError(f"bundle {bundle} needs a stream of kind {spec.kind}; "
                          f"'{stream}' is {info.kind}")  # fmt: skip
    align: list[dict[str, Any]] = []
    if spec.kind == "voice" and spec.channels == ("mono",) and not channels:
        if spec.channels != info.channels:
            align.append({"name": "downmix"})
    elif spec.channels and (spec.channels != info.channels or channels):
        align.append({"name": "select", "channels": spec.channels, "mapping": dict(channels)})
    if spec.unit != info.unit:
        align.append({"name": "scale", "unit": spec.unit})
    if spec.rate_hz != info.rate_hz:
        align.append({"name": "resample", "rate_hz": spec.rate_hz})
    specs = [*align, *(dict(s) for s in spec.steps)]
    try:
        steps = build_steps(specs, info, _factories("vagus.steps", specs))
        out = steps[-1].info if steps else info
        n_items = max(1, round(spec.window_s * (out.rate_hz or 0.0)))
        entry = Entry(spec, out, n_items)
    except (ConfigError, BundleError) as error:
        raise BundleError(f"bundle {bundle}, stream '{stream}': {error}") from error
    n_min = min(n_items, max(1, round(spec.min_filled_s * (out.rate_hz or 0.0))))
    return View(tuple(steps), out, n_items, n_min), entry


def _factories(group: str, specs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the specs name and is installed; what is not, the builder tells."""
    known = set(plugins.names(group))
    return {n: plugins.load(group, n) for spec in specs if (n := spec.get("name")) in known}
