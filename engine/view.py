"""Fits a device's stream to a bundle's input: which steps lead from one to the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import plugins
from engine.encoder import Encode, FrameEncoder
from engine.errors import BundleError, ConfigError
from engine.features import build_features
from engine.lane import View
from engine.steps import Scale, build_steps
from engine.steps.channels import locate
from engine.steps.faces import DecodeJpeg
from engine.types import Array, StreamInfo, Window

if TYPE_CHECKING:
    from engine.bundle import InputSpec

__all__ = ["Entry", "fit"]

_ANY_PICTURE = (64, 64)  # a spec does not say how large a camera's pictures are


class Entry:
    """What one input of a graph is fed with: the window itself, or the features of it."""

    def __init__(self, spec: InputSpec, info: StreamInfo, n_items: int) -> None:
        factories = _factories("vagus.features", spec.features)
        self._features = build_features(spec.features, info, n_items, factories)
        self.n_features = sum(len(feature.names) for feature in self._features)

    def __call__(self, window: Window) -> tuple[Array, Array]:
        """Fresh arrays for the graph: (time, *item) or (features,), and the validity (time,)."""
        if not self._features:
            return window.data.copy(), window.valid.copy()
        parts = [feature(window.data, window.valid) for feature in self._features]
        return parts[0] if len(parts) == 1 else np.concatenate(parts), window.valid.copy()


def fit(
    stream: str,
    info: StreamInfo,
    spec: InputSpec,
    bundle: str,
    channels: Mapping[str, str],
    encoder: FrameEncoder | None = None,
) -> tuple[View, Entry]:
    """The view that `bundle`'s input `spec` has of a stream, and what it feeds the graph with.

    Channels are selected by name (a voice's are mixed where `mono` is wanted), the unit is
    converted and the rate resampled before the bundle's own steps; pictures are held instead, for
    a mean of two faces is none. A stream that already is what
    comes out of the first of these steps skips them: ready-made features or crops. An `encoder`
    is the last step. Raises BundleError where the stream cannot serve the bundle.
    """
    if info.kind != spec.kind:
        raise BundleError(f"bundle {bundle} needs a stream of kind {spec.kind}; "
                          f"'{stream}' is {info.kind}")  # fmt: skip
    if info.rate_hz is None or info.kind == "face":
        info = replace(info, rate_hz=spec.rate_hz)  # the core puts it on a grid of this rate
    try:
        first = [DecodeJpeg(info)] if info.unit == "jpeg" else []
        seen = first[0].info if first else info
        specs = _chain(seen, spec, channels)
        steps = [*first, *build_steps(specs, seen, _factories("vagus.steps", specs))]
        if encoder is not None:
            steps.append(Encode(steps[-1].info if steps else info, encoder))
        out = steps[-1].info if steps else info
        n_items = max(1, round(spec.window_s * (out.rate_hz or 0.0)))
        entry = Entry(spec, out, n_items)
    except (ConfigError, BundleError) as error:
        raise BundleError(f"bundle {bundle}, stream '{stream}': {error}") from error
    n_min = min(n_items, max(1, round(spec.min_filled_s * (out.rate_hz or 0.0))))
    return View(tuple(steps), out, n_items, n_min), entry


def _chain(
    info: StreamInfo, spec: InputSpec, channels: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """All steps from the stream to the input: those that align it, then the bundle's own."""
    done, wanted = _entered(info, spec, channels)
    align: list[Mapping[str, Any]] = []
    if spec.kind == "voice" and wanted.channels == ("mono",) and not channels:
        if wanted.channels != info.channels:
            align.append({"name": "downmix"})
    elif wanted.channels and (wanted.channels != info.channels or channels):
        align.append({"name": "select", "channels": wanted.channels, "mapping": dict(channels)})
    if wanted.unit != info.unit:
        align.append({"name": "scale", "unit": wanted.unit})
    if wanted.rate_hz != info.rate_hz:
        align.append({"name": "resample", "rate_hz": wanted.rate_hz})
    return [*align, *spec.steps[done:]]


def _entered(
    info: StreamInfo, spec: InputSpec, channels: Mapping[str, str]
) -> tuple[int, StreamInfo]:
    """How many of the bundle's steps the stream is already past, and what it should look like.

    It is past those after which the unit, the rate, the item and the channels, in whatever order,
    are the stream's own. A stream whose unit can be converted to the input's own is past none.
    """
    n = len(spec.channels)
    shape = (*_ANY_PICTURE, n) if spec.kind == "face" else (n,)
    start = StreamInfo(info.name, spec.kind, spec.rate_hz, spec.channels, spec.unit, shape)
    if info.unit == spec.unit or _converts(info, spec.unit):
        return 0, start
    after = start
    for done, step in enumerate(spec.steps, 1):
        try:
            (built,) = build_steps([step], after, _factories("vagus.steps", [step]))
        except (ConfigError, BundleError):  # told when the chain itself is built
            break
        after = built.info
        if _alike(after, info, channels):
            return done, after
    return 0, start


def _alike(wanted: StreamInfo, info: StreamInfo, channels: Mapping[str, str]) -> bool:
    if (wanted.unit, wanted.rate_hz, wanted.shape) != (info.unit, info.rate_hz, info.shape):
        return False
    if wanted.channels == info.channels:
        return True
    if info.shape != (len(wanted.channels),):
        return False
    try:
        locate(wanted.channels, info, channels)
    except (ConfigError, BundleError):
        return False
    return True


def _converts(info: StreamInfo, unit: str) -> bool:
    try:
        Scale(info, unit=unit)
    except (ConfigError, BundleError):
        return False
    return True


def _factories(group: str, specs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the specs name and is installed; what is not, the builder tells."""
    known = set(plugins.names(group))
    return {n: plugins.load(group, n) for spec in specs if (n := spec.get("name")) in known}
