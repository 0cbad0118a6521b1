"""The steps that come with the engine, and how a bundle's list of them becomes a chain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from engine.specs import construct
from engine.steps.filters import SosFilter, bandpass, notch
from engine.steps.pointwise import Clip, Reference, Scale, Select
from engine.steps.resample import Resample
from engine.types import Step, StreamInfo

__all__ = [
    "Clip",
    "Reference",
    "Resample",
    "Scale",
    "Select",
    "SosFilter",
    "StepFactory",
    "bandpass",
    "build_steps",
    "notch",
]

StepFactory: TypeAlias = Callable[..., Step]  # (info: StreamInfo, **arguments) -> Step


def build_steps(
    specs: Iterable[Mapping[str, Any]],
    info: StreamInfo,
    factories: Mapping[str, StepFactory],
) -> list[Step]:
    """The chain that `specs` ({"name": ..., **arguments}) describe, for a stream like `info`.

    Neighbouring second-order-section filters become one cascade: one call, and no rounding to
    float32 in between. Items must come finite (the timeline fills invalid ones): a recursive
    filter would never forget a NaN. Raises BundleError or ConfigError for what does not fit.
    """
    steps: list[Step] = []
    for spec in specs:
        step = construct("step", spec, factories, info=info)
        info = step.info
        if steps and isinstance(step, SosFilter) and isinstance(steps[-1], SosFilter):
            steps[-1] = steps[-1].followed_by(step)
        else:
            steps.append(step)
    return steps
