"""A bundle on a GPU: one CUDA graph per batch size, against eager torch and the CPU's graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.result import Result, interleave, versions
from engine.bundle import Bundle
from engine.errors import ResourceError
from engine.types import Array, Runtime

__all__ = ["gpu", "there_is_one", "windows_per_s"]

BUNDLE = "speech-4"  # residual convolutions over three seconds of mel spectrogram
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
COUNTS = (64, 128, 256, 512)  # simulated EEG sessions of 32 channels, each with two ticks a second
P99_MS = 50.0
_LEAST_S = 0.3  # that each measurement lasts


def gpu(n_repeats: int = 5) -> Result:
    """Windows per second in batches of 64, and of every size in `details`; needs a GPU.

    Parity is the largest difference of a probability from the CPU's. Raises ResourceError where
    torch finds no GPU.
    """
    if not there_is_one():
        raise ResourceError(
            "gpu: this machine has no GPU that torch can use, so its figures are missing; what "
            "can be tested without one is tested on the CPU (tests/test_runtime_torch.py)"
        )
    import torch

    runtimes = _runtimes()
    found: dict[str, Any] = {}
    for size in SIZES:
        inputs, valid = _batch(Bundle.load(BUNDLE), size)
        found[str(size)] = {
            name: round(windows_per_s(one, inputs, valid)) for name, one in runtimes.items()
        }
        cpu, card = (runtimes[name].run(inputs, valid) for name in ("onnxruntime", "ours"))
        found[str(size)]["off by"] = float(np.abs(cpu - card).max())
    inputs, valid = _batch(Bundle.load(BUNDLE), 64)
    runs: dict[str, Callable[[], float]] = {
        name: lambda one=one: windows_per_s(one, inputs, valid)  # type: ignore[misc]
        for name, one in runtimes.items()
    }
    rates = interleave(runs, n_repeats)
    details = {
        "bundle": BUNDLE, "gpu": torch.cuda.get_device_name(), "by batch size": found,
        f"sessions with p99 < {P99_MS:g} ms": _sessions(),
    }  # fmt: skip
    known = versions("vagus", "torch", "onnxruntime", "numpy")
    unit = "windows per second in batches of 64 (more is better)"
    return Result("gpu", unit, rates.pop("ours"), rates, known, details)


def there_is_one() -> bool:
    """Whether torch can use a GPU here."""
    import torch

    return torch.cuda.is_available()


def windows_per_s(
    runtime: Runtime, inputs: Mapping[str, Array], valid: Mapping[str, Array]
) -> float:
    """Windows that `runtime` judges in a second of the clock, in batches like this one."""
    runtime.run(inputs, valid)
    n, begin_s = 0, time.perf_counter()
    while time.perf_counter() - begin_s < _LEAST_S:
        n += len(runtime.run(inputs, valid))
    return n / (time.perf_counter() - begin_s)


def _runtimes() -> dict[str, Runtime]:
    """Ours with a graph per size, the same network eagerly, and the CPU's."""

    bundle = replace(Bundle.load(BUNDLE), batch_sizes=SIZES)
    graphs, eager = bundle.on_torch("cuda"), bundle.on_torch("cuda")
    eager.runtime.launch_eagerly()  # type: ignore[attr-defined]
    return {"ours": graphs.runtime, "eager": eager.runtime, "onnxruntime": bundle.runtime}


def _batch(bundle: Bundle, n: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """`n` windows, the golden ones again and again."""
    with np.load(bundle.path / "golden.npz", allow_pickle=False) as kept:
        rows = np.arange(n) % len(kept["probabilities"])
        inputs = {name: kept[name][rows] for name in bundle.inputs}
        return inputs, {name: kept[f"{name}.valid"][rows] for name in bundle.inputs}


def _sessions() -> int:
    """The largest of the counts that hold with a 99th percentile below 50 ms; 0 for none."""
    from benchmarks.sessions import measured

    held = 0
    for n in COUNTS:
        found = measured(n, "cuda")
        if not found["holds"] or found["latency_ms"]["p99"] >= P99_MS:
            break
        held = n
    return held
