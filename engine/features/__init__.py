"""Features: pure functions of one window, (time, *item) and its validity to a vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from engine.features.covariance import Covariance
from engine.features.motion import Motion
from engine.features.picture import Picture
from engine.features.pulse import PulseRate
from engine.features.skin import SkinConductance
from engine.features.spectral import LogBandPower
from engine.features.statistics import Statistics
from engine.features.temperature import Temperature
from engine.features.variability import HeartRateVariability
from engine.specs import construct
from engine.types import Array, StreamInfo

__all__ = [
    "Covariance",
    "Feature",
    "FeatureFactory",
    "HeartRateVariability",
    "LogBandPower",
    "Motion",
    "Picture",
    "PulseRate",
    "SkinConductance",
    "Statistics",
    "Temperature",
    "build_features",
]


class Feature(Protocol):
    """(time, *item), (time,) -> (len(names),) float32. Stateless: equal windows, equal bits."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def __call__(self, window: Array, valid: Array) -> Array: ...


FeatureFactory: TypeAlias = Callable[..., Feature]  # (info, n_items, **arguments) -> Feature


def build_features(
    specs: Iterable[Mapping[str, Any]],
    info: StreamInfo,
    n_items: int,
    factories: Mapping[str, FeatureFactory],
) -> list[Feature]:
    """What `specs` ({"name": ..., **arguments}) describe, for windows of `n_items` like `info`."""
    return [construct("feature", s, factories, info=info, n_items=n_items) for s in specs]
