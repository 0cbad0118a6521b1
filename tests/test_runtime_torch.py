"""The torch runtime says what onnxruntime says, on the CPU and, where there is one, on a GPU."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import gpu
from engine import plugins
from engine.bundle import Bundle, find, shipped_names
from engine.errors import BundleError, ConfigError, InferenceError, ResourceError
from engine.runtime_torch import TorchRuntime, _Graphs, load_network, window_shapes
from engine.types import Array
from offline.export import export
from tests.bundles import describe

LIMIT = 1e-4
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
    ),
]


def golden(bundle: Bundle, n: int = 70) -> tuple[dict[str, Array], dict[str, Array]]:
    """`n` rows: the golden ones, again and again, each time a little louder."""
    with np.load(bundle.path / "golden.npz", allow_pickle=False) as kept:
        some = {name: kept[name] for name in kept.files}
    rows = np.arange(n) % len(some["probabilities"])
    louder = (1 + 0.01 * np.arange(n)).astype(np.float32)
    inputs = {name: some[name][rows] for name in bundle.inputs}
    scaled = {
        name: (x * louder.reshape(-1, *[1] * (x.ndim - 1))).astype(np.float32)
        for name, x in inputs.items()
    }
    return scaled, {name: some[f"{name}.valid"][rows] for name in bundle.inputs}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_bundle_says_the_same_on_both_runtimes(name: str, device: str) -> None:
    bundle = Bundle.load(name)
    other = bundle.on_torch(device)
    inputs, valid = golden(bundle)
    if bundle.encoders:
        inputs = {n: bundle.encoders[n].windows(x, valid[n]) for n, x in inputs.items()}
    theirs, ours = bundle.runtime.run(inputs, valid), other.runtime.run(inputs, valid)
    assert ours.dtype == theirs.dtype == np.float32
    assert np.abs(ours - theirs).max() < LIMIT
    assert other.device == device


@pytest.mark.parametrize("device", DEVICES)
def test_behind_an_encoder_torch_reads_the_embeddings(device: str, tmp_path: Path) -> None:
    spec = {
        "kind": "face", "rate_hz": 15.0, "channels": ["grey"], "unit": "crop",
        "window_s": 8 / 15, "min_filled_s": 4 / 15,
    }  # fmt: skip
    network = {"name": "video", "args": {"reader": "attention"}}
    about = describe(()) | {"labels": ["a", "b", "c"], "inputs": {"face": spec}, "hop_s": 4 / 15}
    torch.manual_seed(0)
    made = plugins.load("vagus.networks", "video")({"face": (8, 48, 48, 1)}, 3, reader="attention")
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 48, 48, 1)).astype(np.float32)
    inputs, valid = {"face": x}, {"face": np.ones((6, 8), bool)}
    valid["face"][2:, 5:] = False
    bundle = export(tmp_path / "b", made, about | {"network": network}, inputs, valid, "card\n")
    assert bundle.encoders
    other = bundle.on_torch(device)
    read = {"face": bundle.encoders["face"].windows(inputs["face"], valid["face"])}
    gap = np.abs(other.runtime.run(read, valid) - bundle.runtime.run(read, valid)).max()
    assert gap < LIMIT


class Sum(nn.Module):
    """The mean of the valid items through one layer; what it saw is noted."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.sizes = nn.Linear(3, 4), list[int]()

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        x, mask = inputs["x"], valid["x"]
        self.sizes.append(len(x))
        n = mask.sum(1, keepdim=True).clamp(min=1)
        logits: Tensor = self.layer((x * mask.unsqueeze(2)).sum(1) / n)
        return logits


def some(n: int) -> tuple[dict[str, Array], dict[str, Array]]:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 5, 3)).astype(np.float32)
    return {"x": x}, {"x": rng.random((n, 5)) < 0.8}


def runtime(sizes: tuple[int, ...], **more: Any) -> tuple[TorchRuntime, Sum]:
    network = Sum()
    return TorchRuntime(network, {"x": (5, 3)}, {"x": 5}, 1.0, sizes, **more), network


def test_a_batch_is_padded_to_a_size_that_is_listed_and_cut_into_parts_beyond() -> None:
    ours, network = runtime((8, 1, 4))
    inputs, valid = some(11)
    whole = ours.run(inputs, valid)
    assert network.sizes == [8, 4]
    alone = [ours.run({"x": inputs["x"][[i]]}, {"x": valid["x"][[i]]}) for i in range(11)]
    assert whole == pytest.approx(np.concatenate(alone), abs=1e-6)
    assert whole.sum(1) == pytest.approx(np.ones(11), abs=1e-5)


def test_what_a_larger_batch_left_in_the_buffers_is_never_seen() -> None:
    ours, _ = runtime((4,))
    fresh, _ = runtime((4,))
    inputs, valid = some(2)
    ours.run(*some(4))
    assert np.array_equal(ours.run(inputs, valid), fresh.run(inputs, valid))


def test_the_answer_is_the_callers_to_keep() -> None:
    ours, _ = runtime((4,))
    first = ours.run(*some(4))
    kept = first.copy()
    ours.run(*some(3))
    assert np.array_equal(first, kept)


def test_a_temperature_flattens_what_is_said() -> None:
    network = Sum()
    calm = TorchRuntime(network, {"x": (5, 3)}, {"x": 5}, 10.0, (4,)).run(*some(4))
    sharp = TorchRuntime(network, {"x": (5, 3)}, {"x": 5}, 0.1, (4,)).run(*some(4))
    assert (calm.max(1) < sharp.max(1)).all()
    assert np.array_equal(calm.argmax(1), sharp.argmax(1))


def test_rows_of_another_shape_are_refused() -> None:
    ours, _ = runtime((4,))
    inputs, valid = some(2)
    with pytest.raises(InferenceError, match=r"x has rows of \(4, 3\); it reads \(5, 3\)"):
        ours.run({"x": inputs["x"][:, :4]}, valid)


def test_what_is_no_probability_is_refused() -> None:
    ours, network = runtime((4,))
    with torch.no_grad():
        network.layer.bias[0] = float("nan")
    with pytest.raises(InferenceError, match="no probability"):
        ours.run(*some(2))


def test_a_network_that_fails_says_so_as_the_other_runtime_does() -> None:
    class Broken(Sum):
        def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
            raise RuntimeError("no such kernel")

    ours = TorchRuntime(Broken(), {"x": (5, 3)}, {"x": 5})
    with pytest.raises(InferenceError, match="the network failed: no such kernel"):
        ours.run(*some(1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_missing_resource() -> None:
    with pytest.raises(ResourceError, match="no GPU that torch can use; take cpu"):
        Bundle.load("simulated-eeg").on_torch("cuda")


def test_another_device_is_the_users_mistake() -> None:
    with pytest.raises(ConfigError, match="'tpu' is none of cpu, cuda"):
        Bundle.load("simulated-eeg").on_torch("tpu")


def test_a_graph_per_size_is_replayed_over_buffers_that_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All but the capture itself, which needs a GPU: what is staged, copied and handed back."""
    network = Sum()
    captured: list[int] = []

    def capture(self: _Graphs, size: int) -> tuple[Any, Tensor, Tensor]:
        captured.append(size)
        x = {name: array[:size] for name, array in self._x.items()}
        valid = {name: mask[:size] for name, mask in self._valid.items()}
        out = self._compute(x, valid)

        class Graph:
            def replay(self) -> None:
                out.copy_(compute(x, valid))

        return Graph(), out, torch.empty(out.shape)

    def compute(inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        return torch.softmax(network(inputs, valid), -1).detach()

    zeros = torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda a, device: zeros(a))
    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(_Graphs, "_capture", capture)
    ours, _ = runtime((1, 4, 8))
    graphs = _Graphs(compute, ours._x, ours._valid, ours.batch_sizes)
    ours._run = graphs
    assert captured == [8, 4, 1]  # the largest first: the others live in its memory
    before = len(network.sizes)
    there = [array.data_ptr() for array in graphs._there]
    plain, _ = runtime((1, 4, 8))
    for n in (1, 3, 8, 2, 11):
        assert ours.run(*some(n)) == pytest.approx(plain.run(*some(n)), abs=1e-6)
    assert [array.data_ptr() for array in graphs._there] == there
    assert network.sizes[before:] == [1, 4, 8, 4, 8, 4]


class NoStream:
    """A stream of work that is done at once."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def synchronize(self) -> None: ...


def test_a_network_is_loaded_with_the_weights_of_the_bundle() -> None:
    bundle = Bundle.load("workload-eegmat")
    inputs, valid = golden(bundle, 4)
    network = load_network(bundle)
    assert not network.training
    with torch.inference_mode():
        logits = network(
            {n: torch.from_numpy(x) for n, x in inputs.items()},
            {n: torch.from_numpy(m) for n, m in valid.items()},
        )
    p = torch.softmax(logits / bundle.temperature, -1).numpy()
    assert p == pytest.approx(bundle.runtime.run(inputs, valid), abs=LIMIT)


def copied(tmp_path: Path) -> Bundle:
    shutil.copytree(find("simulated-eeg"), tmp_path / "b")
    return Bundle.load(str(tmp_path / "b"))


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    bundle = copied(tmp_path)
    path = bundle.path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match="its SHA-256 does not match"):
        load_network(bundle)


def test_weights_of_another_network_are_refused() -> None:
    bundle = replace(Bundle.load("simulated-eeg"), network={"name": "gru", "args": {}})
    with pytest.raises(BundleError, match="does not fit the network of the bundle"):
        load_network(bundle)


def test_shapes_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    bundle = copied(tmp_path)
    (bundle.path / "golden.npz").write_bytes(b"PK")
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        window_shapes(bundle)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_of_a_gpu_says_that_there_is_none() -> None:
    with pytest.raises(ResourceError, match="no GPU that torch can use, so its figures are"):
        gpu.gpu()


def test_the_benchmark_counts_windows() -> None:
    bundle = Bundle.load("simulated-eeg")
    inputs, valid = gpu._batch(bundle, 64)
    assert len(next(iter(inputs.values()))) == 64
    assert gpu.windows_per_s(bundle.on_torch().runtime, inputs, valid) > 64
