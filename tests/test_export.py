"""An exported network is the trained one, and its bundle says so to whoever loads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from engine.bundle import Bundle, BundleError
from engine.errors import ConfigError
from engine.networks.linear import Linear
from engine.runtime_onnx import OnnxRuntime
from engine.types import Array
from offline import export as exporting
from offline.card import card
from offline.export import export, to_onnx
from tests.bundles import describe

CHANNELS = ("Fp1", "Fp2", "O1")
EVALUATION: Mapping[str, Any] = {
    "protocol": "subject-disjoint 6-fold",
    "unit": "window",
    "n": 40,
    "subjects": ["s1", "s2"],
    "labels": ["happy", "angry", "sad", "calm"],
    "uar": 0.725,
    "uar_ci95": [0.67, 0.778],
    "accuracy": 0.74,
    "majority": 0.75,
    "macro_f1": 0.7,
    "ece": 0.05,
    "confusion": [[9, 1, 0, 0], [2, 8, 0, 0], [0, 0, 10, 0], [0, 0, 0, 0]],
    "per_group": {"gender": {"f": {"n": 20, "uar": 0.7, "accuracy": 0.71}}},
}


def network(clip: float | None = 3.0, n_features: int = 9) -> Linear:
    torch.manual_seed(0)
    made = Linear({"eeg": (n_features,)}, 4, clip=clip)
    made.mean += torch.randn(n_features)
    made.scale *= torch.rand(n_features) + 0.5
    return made


def rows(n: int = 5, n_features: int = 9) -> tuple[dict[str, Array], dict[str, Array]]:
    x = np.random.default_rng(0).normal(size=(n, n_features)) * 4
    return {"eeg": x.astype(np.float32)}, {"eeg": np.ones((n, 512), bool)}


@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_graph_computes_softmax_of_the_clipped_standardised_features(
    clip: float | None, temperature: float
) -> None:
    made, (inputs, valid) = network(clip), rows()
    found = OnnxRuntime(to_onnx(made, inputs, valid, temperature), [1, 8]).run(inputs, valid)
    z = (inputs["eeg"].astype(float) - made.mean.numpy()) / made.scale.numpy()
    if clip is not None:
        assert (np.abs(z) > clip).any()
        z = np.clip(z, -clip, clip)
    logits = z @ made.layer.weight.detach().numpy().T + made.layer.bias.detach().numpy()
    e = np.exp(logits / temperature)
    np.testing.assert_allclose(found, e / e.sum(1, keepdims=True), atol=1e-5)


def test_rows_of_the_exported_graph_have_the_same_bits_in_any_batch() -> None:
    inputs, valid = rows(64, 114)
    runtime = OnnxRuntime(to_onnx(network(n_features=114), inputs, valid, 1.3), range(1, 65))
    alone = [runtime.run({"eeg": inputs["eeg"][i : i + 1]}, {}) for i in range(64)]
    for size in range(1, 65):
        found = runtime.run({"eeg": inputs["eeg"][64 - size :]}, {})
        assert np.array_equal(found, np.concatenate(alone[64 - size :]))


def test_several_inputs_are_read_in_the_order_of_the_bundle() -> None:
    torch.manual_seed(0)
    made = Linear({"bvp": (2, 3), "eda": (4,)}, 2)
    rng = np.random.default_rng(0)
    shapes = {"bvp": (3, 2, 3), "eda": (3, 4)}
    inputs = {name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()}
    valid = {name: np.ones((3, 8), bool) for name in inputs}
    runtime = OnnxRuntime(to_onnx(made, inputs, valid, 1.0), [4])
    assert runtime.inputs == ("bvp", "eda")
    x = torch.from_numpy(np.hstack([inputs["bvp"].reshape(3, 6), inputs["eda"]]))
    expected = torch.softmax(made.layer(x), 1).detach().numpy()
    np.testing.assert_allclose(runtime.run(inputs, valid), expected, atol=1e-6)


class Masked(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Looks at its mask: the mean of the valid items, and minus it."""

    def forward(self, inputs: Mapping[str, Any], valid: Mapping[str, Any]) -> Any:
        mask = valid["eeg"].float()
        mean = (inputs["eeg"] * mask).sum(1) / mask.sum(1).clamp(min=1)
        return torch.stack([mean, -mean], 1)


def test_a_network_that_looks_at_its_mask_gets_it_in_the_graph() -> None:
    x = {"eeg": np.array([[1, 2, 30], [4, 50, 60], [7, 8, 9]], np.float32)}
    valid = {"eeg": np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)}
    runtime = OnnxRuntime(to_onnx(Masked(), x, valid, 1.0), [4])
    assert runtime.masked == ("eeg",)
    p = 1 / (1 + np.exp(-2 * np.array([1.5, 4.0, 0.0])))
    np.testing.assert_allclose(runtime.run(x, valid)[:, 0], p, atol=1e-6)


def test_equal_exports_have_equal_bytes_and_name_no_file_of_this_machine() -> None:
    inputs, valid = rows()
    model = to_onnx(network(), inputs, valid, 1.0)
    assert to_onnx(network(), inputs, valid, 1.0) == model
    assert b".py" not in model
    (opset,) = onnx.load_from_string(model).opset_import
    assert opset.version == exporting.OPSET


def test_one_example_row_is_too_few() -> None:
    with pytest.raises(ConfigError, match="export needs 2 or more example rows"):
        to_onnx(network(), *rows(1), 1.0)


def test_a_bundle_is_written_whole_and_loads(tmp_path: Path) -> None:
    made, (inputs, valid) = network(), rows()
    told = describe(CHANNELS) | {"temperature": 1.7}
    loaded = export(tmp_path / "made", made, told, inputs, valid, card(told, EVALUATION, ["few"]))
    assert loaded.sha256 == Bundle.load(tmp_path / "made").sha256
    weights = load_file(tmp_path / "made" / "weights.safetensors")
    assert set(weights) == {"mean", "scale", "layer.weight", "layer.bias"}
    assert np.array_equal(weights["layer.weight"], made.layer.weight.detach().numpy())
    assert json.loads((tmp_path / "made" / "bundle.json").read_text())["temperature"] == 1.7


def test_a_graph_that_differs_from_the_network_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, valid = rows()
    model = to_onnx(network(), inputs, valid, 9.0)
    monkeypatch.setattr(exporting, "to_onnx", lambda *_: model)
    with pytest.raises(BundleError, match="off the trained network by"):
        export(tmp_path / "made", network(), describe(CHANNELS), inputs, valid, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("clip", [0.0, -1.0])
def test_a_clip_that_lets_nothing_through_is_refused(clip: float) -> None:
    with pytest.raises(ConfigError, match="clip must be more than 0"):
        network(clip)


def test_the_card_tells_figures_with_interval_limits_and_licence() -> None:
    text = card(describe(CHANNELS) | {"seen_subjects": ["s1", "s2"]}, EVALUATION, ["One day only."])
    assert text.startswith("# test-eeg\n")
    assert (
        "**0.725**, 95 % interval 0.670 to 0.778 (bootstrap over 2 subjects), chance 0.250" in text
    )
    assert "| angry | 2 | 8 | 0 | 0 | 0.800 |" in text
    assert "| calm | 0 | 0 | 0 | 0 | none |" in text
    assert "| gender | f | 20 | 0.700 | 0.710 |" in text
    assert "Licence: Apache-2.0. Trained on 2 subjects: s1, s2." in text
    assert "log_band_power (bands theta 4-8, alpha 8-13, beta 13-30)" in text
    assert "- One day only." in text


def test_the_card_says_when_groups_were_not_measured() -> None:
    text = card(describe(CHANNELS), {**EVALUATION, "per_group": {}}, [])
    assert "differences between groups of people were not measured" in text
