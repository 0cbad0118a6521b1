"""Small real bundles, written to disk with a graph made by hand, for tests of what loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine import bundle
from engine.runtime_onnx import OnnxRuntime
from sources.simulate import SimulateSource

LABELS = ("happy", "angry", "sad", "calm")
BANDS = {"theta": [4, 8], "alpha": [8, 13], "beta": [13, 30]}


def graph(weight: Any, bias: Any, name: str = "eeg") -> bytes:
    """softmax(x @ weight + bias) as an ONNX model."""
    nodes = [
        helper.make_node("Gemm", [name, "weight", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    made = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", weight.shape[0]])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", None])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    opset = helper.make_opsetid("", 17)
    return onnx.helper.make_model(made, opset_imports=[opset], ir_version=9).SerializeToString()


def describe(channels: tuple[str, ...], rate_hz: float = 256.0) -> dict[str, Any]:
    """A bundle.json for simulated EEG, without its hashes."""
    return {
        "id": "test-eeg",
        "labels": LABELS,
        "vocabulary": "quadrants",
        "inputs": {
            "eeg": {
                "kind": "eeg",
                "rate_hz": rate_hz,
                "channels": channels,
                "unit": "uV",
                "window_s": 2.0,
                "min_filled_s": 2.0,
                "steps": [
                    {"name": "bandpass", "low_hz": 1, "high_hz": 45},
                    {"name": "notch", "freq_hz": 50},
                ],
                "features": [{"name": "log_band_power", "bands": BANDS}],
            }
        },
        "hop_s": 0.5,
        "network": {"name": "linear", "args": {}},
        "temperature": 1.0,
        "abstain_below": 0.0,
        "batch_sizes": [1, 8, 64],
        "protocol": "none: weights by hand",
        "seen_subjects": [],
        "metrics": {},
        "data": "none",
        "licence": "Apache-2.0",
        "felt_or_expressed": "felt",
    }


def write(path: Path, **changes: Any) -> Path:
    """A bundle for the simulated EEG, with random weights."""
    rng = np.random.default_rng(0)
    channels = SimulateSource(person=1).info.channels
    told = describe(channels) | changes
    weight = rng.normal(size=(3 * len(channels), 4)).astype(np.float32) / 10
    model = graph(weight, np.zeros(4, np.float32))
    x = rng.normal(size=(3, len(weight))).astype(np.float32)
    p = OnnxRuntime(model, [4]).run({"eeg": x}, {})
    golden = {"eeg": x, "eeg.valid": np.ones((3, 512), bool), "probabilities": p}
    bundle.save(path, told, weights=b"", model=model, golden=golden, card="# test\n")
    return path
