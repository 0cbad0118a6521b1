"""One window's probabilities do not depend on who else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engine.errors import BundleError, InferenceError
from engine.runtime_onnx import OnnxRuntime
from engine.types import Array
from tests.bundles import graph

ROWS = 64


def linear(n_features: int, n_labels: int, seed: int = 0) -> tuple[bytes, Array]:
    """A linear graph, and rows for it."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(n_features, n_labels)).astype(np.float32)
    model = graph(weight, rng.normal(size=n_labels).astype(np.float32))
    return model, (rng.normal(size=(ROWS, n_features)) * 0.1).astype(np.float32)


def masked() -> bytes:
    """softmax([share of valid items, 1 - it]) of the input `eeg` (batch, 4)."""
    nodes = [
        helper.make_node("Cast", ["eeg.valid"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["mask", "eeg"], ["kept"]),
        helper.make_node("Softmax", ["kept"], ["p"], axis=1),
    ]
    made = helper.make_graph(
        nodes,
        "masked",
        [
            helper.make_tensor_value_info("eeg", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("eeg.valid", TensorProto.BOOL, ["batch", 4]),
        ],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 4])],
    )
    opset = helper.make_opsetid("", 18)
    return onnx.helper.make_model(made, opset_imports=[opset], ir_version=10).SerializeToString()


@pytest.mark.parametrize("shape", [(114, 2), (95, 2), (171, 4), (310, 5), (64, 8)], ids=str)
def test_a_row_has_the_same_bits_in_any_batch_slot_and_padding(shape: tuple[int, int]) -> None:
    model, x = linear(*shape)
    alone = OnnxRuntime(model, [1])
    expected = np.concatenate([alone.run({"eeg": x[i : i + 1]}, {}) for i in range(ROWS)])
    exact = OnnxRuntime(model, range(1, ROWS + 1))
    padded = OnnxRuntime(model, [1, 8, 64])
    split = OnnxRuntime(model, [4, 16])
    for size in range(1, ROWS + 1):
        for first in (0, (ROWS - size) // 2, ROWS - size):
            rows = slice(first, first + size)
            for runtime in (exact, padded, split):
                assert np.array_equal(runtime.run({"eeg": x[rows]}, {}), expected[rows])


def test_probabilities_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(7, 3)).astype("f"), rng.normal(size=3).astype("f")
    x = rng.normal(size=(5, 7)).astype("f")
    logits = x.astype(float) @ weight + bias
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = OnnxRuntime(graph(weight, bias), [1, 8]).run({"eeg": x}, {})
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_empty_batch_gives_no_rows() -> None:
    model, x = linear(9, 3)
    assert OnnxRuntime(model, [4]).run({"eeg": x[:0]}, {}).shape == (0, 3)


def test_masks_reach_a_graph_that_wants_them_and_padding_is_invalid() -> None:
    runtime = OnnxRuntime(masked(), [4])
    assert (runtime.inputs, runtime.masked) == (("eeg",), ("eeg",))
    x = np.full((2, 4), 3.0, np.float32)
    valid = np.array([[True] * 4, [True, False, False, False]])
    found = runtime.run({"eeg": x}, {"eeg": valid})
    np.testing.assert_allclose(found[0], 0.25)
    assert found[1].argmax() == 0


def test_masks_that_the_graph_does_not_read_are_left_out() -> None:
    model, x = linear(9, 3)
    runtime = OnnxRuntime(model, [1])
    assert runtime.masked == ()
    assert runtime.run({"eeg": x[:1]}, {"eeg": np.ones((1, 77), bool)}).shape == (1, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("slot", [0, 2])
def test_a_value_that_is_no_number_is_an_inference_error(value: float, slot: int) -> None:
    model, x = linear(9, 3)
    x[slot, 4] = value
    with pytest.raises(InferenceError, match="no probability"):
        OnnxRuntime(model, [4]).run({"eeg": x[:3]}, {})


def _narrow(x: Array) -> Array:
    return x[:, :5]


def _doubles(x: Array) -> Array:
    return x.astype(np.float64)


@pytest.mark.parametrize("change", [_narrow, _doubles])
def test_arrays_that_the_graph_refuses_are_an_inference_error(
    change: Callable[[Array], Any],
) -> None:
    model, x = linear(9, 3)
    with pytest.raises(InferenceError, match="the graph failed"):
        OnnxRuntime(model, [1, 64]).run({"eeg": change(x)}, {})


def test_a_file_that_is_no_graph_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"model\.onnx: onnxruntime cannot load it"):
        OnnxRuntime(tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="the graph: onnxruntime cannot load it"):
        OnnxRuntime(b"not a graph")
