"""A bundle whose probabilities can be computed by hand, for tests of the core alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.bundle import Bundle, InputSpec
from engine.errors import InferenceError
from engine.plan import SessionPlan, StreamPlan
from engine.types import Array

FILTERS = ({"name": "bandpass", "low_hz": 1, "high_hz": 40}, {"name": "notch", "freq_hz": 50})


class ToyRuntime:
    """p(loud) grows with the mean square of the valid items; a window of exactly 0 fails."""

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        rows = []
        for i in range(len(next(iter(inputs.values())))):
            power = sum(
                float(np.mean(np.square(x[i][valid[name][i]], dtype=np.float64)))
                for name, x in inputs.items()
            )
            if power == 0.0:
                raise InferenceError("silence")
            rows.append([power / (1 + power), 1 / (1 + power)])
        return np.array(rows, np.float32)


def toy(
    inputs: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    name: str = "toy",
    hop_s: float = 0.5,
    runtime: Any = None,
) -> Bundle:
    """A bundle of `inputs` ({name: InputSpec fields}), by default one 3-channel EEG of 128 Hz."""
    specs = {
        key: InputSpec(
            **{
                "kind": "eeg",
                "rate_hz": 128.0,
                "channels": ("C0", "C1", "C2"),
                "unit": "uV",
                "steps": FILTERS,
                "features": (),
                "window_s": 2.0,
                "min_filled_s": 1.0,
                **fields,
            }
        )
        for key, fields in (inputs or {"eeg": {}}).items()
    }
    return Bundle(
        path=Path(name),
        id=name,
        sha256=name,
        labels=("loud", "quiet"),
        vocabulary="toy",
        inputs=specs,
        hop_s=hop_s,
        runtime=runtime or ToyRuntime(),
    )


def plan(bundle: Bundle | None = None, **fields: Any) -> SessionPlan:
    """A session of one stream, eeg."""
    return SessionPlan("p1", "run", {"eeg": StreamPlan(bundle or toy())}, **fields)
