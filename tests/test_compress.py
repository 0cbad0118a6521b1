"""Weights in 8 bits: a quarter of the size, the same words, or nothing at all is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from engine import plugins
from engine.bundle import Bundle, find
from engine.cli import main
from engine.errors import BundleError, ConfigError
from engine.runtime_onnx import OnnxRuntime
from engine.runtime_torch import load_network
from offline import compress as module
from offline.compress import compress, rounded
from offline.datasets.simulate import people
from offline.export import export, to_onnx
from tests.bundles import describe

SHAPE = (95,)
Making = Callable[..., Bundle]


@pytest.fixture
def dense(tmp_path: Path) -> Making:
    """A bundle of dense layers with weights by chance; `spoil` changes the network first."""

    def made(spoil: Callable[[nn.Module], None] = lambda network: None) -> Bundle:
        torch.manual_seed(0)
        network = plugins.load("vagus.networks", "dnn")({"eeg": SHAPE}, 4)
        spoil(network)
        x = np.random.default_rng(0).normal(0, 4, (400, *SHAPE)).astype(np.float32)
        x[:, 0] = 0  # a channel that is dead
        with torch.inference_mode():
            said = network.eval()({"eeg": torch.from_numpy(x)}, {}).sort(1).values
        sure = (said[:, -1] - said[:, -2]).argsort()[-32:].numpy()  # no label hangs by a hair
        inputs, valid = {"eeg": x[sure]}, {"eeg": np.ones((32, 512), bool)}
        about = describe(tuple(f"c{i}" for i in range(19)))
        about["network"] = {"name": "dnn", "args": {}}
        card = "# test\n\n## Results\n\ngood\n\n## Limits\n\n- few\n"
        return export(tmp_path / "original", network, about, inputs, valid, card)

    return made


def test_a_bundle_in_8_bits_is_a_quarter_as_large_and_says_the_same(
    dense: Making, tmp_path: Path
) -> None:
    original = dense()
    made, gate = compress(original, tmp_path / "small")
    sizes = [(one.path / "model.onnx").stat().st_size for one in (original, made)]
    assert gate.passed
    assert gate.size == sizes[1] / sizes[0] <= 0.3
    assert gate.after == gate.before == 1.0
    assert gate.off < 0.05
    assert gate.latency > 0
    assert made.id == "test-eeg-int8"
    assert made.metrics["int8"]["size"] == gate.size
    kept = load_file(made.path / "weights.safetensors")
    whole = [name for name, x in kept.items() if x.ndim > 1 and x.dtype != np.int8]
    assert not whole
    text = (made.path / "CARD.md").read_text()
    assert gate.words in text
    assert text.index("## Compression") < text.index("## Limits")


def test_torch_reads_the_8_bits_as_onnxruntime_does(dense: Making, tmp_path: Path) -> None:
    made, _ = compress(dense(), tmp_path / "small")
    x = np.random.default_rng(1).normal(0, 4, (20, *SHAPE)).astype(np.float32)
    inputs, valid = {"eeg": x}, {"eeg": np.ones((20, 512), bool)}
    theirs = made.runtime.run(inputs, valid)
    assert np.abs(made.on_torch().runtime.run(inputs, valid) - theirs).max() < 1e-4
    alone = np.concatenate([made.runtime.run({"eeg": x[[i]]}, {"eeg": valid["eeg"][[i]]})
                            for i in range(20)])  # fmt: skip
    assert np.array_equal(alone, theirs)  # nobody's words depend on who else is in the batch


def test_what_loses_its_words_is_refused_and_leaves_nothing(dense: Making, tmp_path: Path) -> None:
    def spoil(network: nn.Module) -> None:
        first = next(network.parameters())
        with torch.no_grad():  # beside this one, 8 bits leave nothing of the other weights
            first[:, 0] = 1e4

    original = dense(spoil)
    with pytest.raises(BundleError, match=r"int8 does not pass: golden rows .* size x0\.\d+"):
        compress(original, tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_a_graph_that_has_no_weights_to_speak_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"size x0\.\d+ \(at most 0\.3\)"):
        compress(Bundle.load("simulated-face"), tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_the_gate_is_held_against_the_data_that_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SIZE", 2.0)
    _, gate = compress(Bundle.load("simulated-eeg"), tmp_path / "small", people(900, 2))
    assert gate.judged == "UAR of 2 recordings"
    assert 0.3 < gate.before <= 1.0
    assert abs(gate.before - gate.after) <= module.MOST_DROP
    monkeypatch.setattr(module, "MOST_DROP", -1.0)
    with pytest.raises(BundleError, match="UAR of 2 recordings"):
        compress(Bundle.load("simulated-eeg"), tmp_path / "other", people(900, 2))


def test_nothing_that_is_there_is_written_over(dense: Making, tmp_path: Path) -> None:
    original = dense()
    with pytest.raises(ConfigError, match="is there already"):
        compress(original, tmp_path / "original")


def test_a_weight_is_off_by_half_a_step_of_its_row_at_most(dense: Making) -> None:
    network = load_network(dense())
    before = {name: x.clone() for name, x in network.state_dict().items()}
    rounded(network)
    changed = 0
    for name, after in network.state_dict().items():
        if after.dim() < 2:
            assert torch.equal(after, before[name])
            continue
        step = before[name].flatten(1).abs().amax(1) / 127
        gap = (after - before[name]).flatten(1).abs().amax(1)
        assert bool((gap <= 0.5001 * step).all())
        changed += not torch.equal(after, before[name])
    assert changed >= 2


@pytest.mark.parametrize("name", ["lstm", "cnn"])
def test_turned_and_stacked_weights_are_found_in_the_graph(name: str) -> None:
    torch.manual_seed(0)
    network = plugins.load("vagus.networks", name)({"x": (24, 64)}, 4).eval()
    rounded(network)
    x = np.random.default_rng(0).normal(size=(3, 24, 64)).astype(np.float32)
    inputs, valid = {"x": x}, {"x": np.ones((3, 24), bool)}
    graph = to_onnx(network, inputs, valid, 1.0)
    small = module.packed(graph)
    model = onnx.load_from_string(small)
    left = sum(
        int(np.prod(t.dims)) for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1
    )  # fmt: skip
    in_all = sum(p.numel() for p in network.parameters() if p.dim() > 1)
    assert left < 0.1 * in_all
    assert len(small) < 0.35 * len(graph)
    gap = OnnxRuntime(small, [3]).run(inputs, valid) - OnnxRuntime(graph, [3]).run(inputs, valid)
    assert np.abs(gap).max() < 1e-5


@pytest.mark.slow
def test_an_encoder_of_frames_is_compressed_too(tmp_path: Path) -> None:
    spec: dict[str, Any] = {
        "kind": "face", "rate_hz": 15.0, "channels": ["grey"], "unit": "crop",
        "window_s": 8 / 15, "min_filled_s": 4 / 15,
    }  # fmt: skip
    about = describe(()) | {"labels": ["a", "b", "c"], "inputs": {"face": spec}, "hop_s": 4 / 15}
    about["network"] = {"name": "video", "args": {"reader": "attention", "bottleneck": 64}}
    torch.manual_seed(0)
    network = plugins.load("vagus.networks", "video")(
        {"face": (8, 48, 48, 1)}, 3, reader="attention", bottleneck=64
    )
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 48, 48, 1)).astype(np.float32)
    inputs, valid = {"face": x}, {"face": np.ones((6, 8), bool)}
    original = export(tmp_path / "original", network, about, inputs, valid, "card\n")
    made, gate = compress(original, tmp_path / "small")
    assert gate.passed
    assert set(made.encoders) == {"face"}
    assert (made.path / "encoder.onnx").stat().st_size < (
        original.path / "encoder.onnx"
    ).stat().st_size


def test_the_command_says_what_it_costs(
    dense: Making, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = str(dense().path)
    assert main(["compress", original, "--out", str(tmp_path / "small"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"bundle", "path", "judged", "before", "after", "size", "latency", "off"} == set(told)
    assert main(["bundle", "verify", str(tmp_path / "small")]) == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--to", "int4"], "--to int4: the one there is: int8"),
        (["--split", "a:test"], "--data and --split need --dataset"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(
    args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(find("simulated-eeg"), tmp_path / "b")
    assert main(["compress", str(tmp_path / "b"), "--out", str(tmp_path / "c"), *args]) == 2
    assert words in capsys.readouterr().err
