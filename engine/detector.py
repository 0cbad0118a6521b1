"""Another detector in place of a bundle's own: Silero's for the voice, YuNet's for the face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from engine.bundle import Bundle
from engine.errors import ConfigError
from engine.manifest import InputSpec

__all__ = ["with_detector"]

_GATES = ("voice_gate", "silero_gate")
_Steps = tuple[Mapping[str, Any], ...]


def with_detector(bundle: Bundle, model: str) -> Bundle:
    """`bundle` that asks the network in the file `model` who speaks, or where the face is.

    Of a voice bundle the energy gate behind the spectrum gives way to `silero_gate` before it;
    `face_crop` of a face bundle looks with YuNet. Weights and hash stay the bundle's own; the
    config, which every recording holds, says who detects. Raises ConfigError for a bundle that
    detects nothing.
    """
    inputs = {name: _swapped(spec, model) for name, spec in bundle.inputs.items()}
    if inputs == bundle.inputs:
        raise ConfigError(
            f"the bundle {bundle.id} detects nothing: `detector` goes with bundles whose steps "
            "have a voice_gate or a face_crop"
        )
    return replace(bundle, inputs=inputs)


def _swapped(spec: InputSpec, model: str) -> InputSpec:
    steps = spec.steps
    if any(step["name"] in _GATES for step in steps):
        kept = tuple(step for step in steps if step["name"] not in _GATES)
        at = next((i for i, step in enumerate(kept) if step["name"] == "log_mel"), 0)
        steps = (*kept[:at], {"name": "silero_gate", "model": model}, *kept[at:])
    seen: _Steps = tuple(
        {**step, "detector": "yunet", "model": model} if step["name"] == "face_crop" else step
        for step in steps
    )
    return msgspec.structs.replace(spec, steps=seen)
