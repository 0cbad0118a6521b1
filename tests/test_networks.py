"""Networks over masked frames: padding never counts, and the graph gives what torch gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.networks.masked import mean_over_time, normalise
from engine.networks.parallel import Parallel
from engine.networks.residual import Residual
from engine.runtime_onnx import OnnxRuntime
from offline.export import to_onnx

N_TIME, N_BINS, N_LABELS = 300, 64, 5
SHAPES = {"voice": (N_TIME, N_BINS)}
NETWORKS: tuple[Callable[..., nn.Module], ...] = (Residual, Parallel)


@pytest.fixture(params=NETWORKS, ids=lambda made: str(made.__name__))
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(3)
    made: nn.Module = request.param(SHAPES, N_LABELS)
    for module in made.modules():  # statistics as after some training: none is 0 or 1
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    x, valid = rows(8, seed=9)
    with torch.no_grad():
        made.train()({"voice": x}, {"voice": valid})
        assert isinstance(made.layer, nn.Conv1d)
        assert made.layer.bias is not None
        made.layer.weight /= logits(made.eval(), x, valid).std(0).mean()
        made.layer.bias -= logits(made, x, valid).mean(0)
    return made


def rows(n: int, n_time: int = N_TIME, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Frames as they come in: garbage stands where they are invalid."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-12.0, 4.0, (n, n_time, N_BINS)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(rng.random((n, n_time)) > 0.3)


def logits(network: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network({"voice": x}, {"voice": valid})
    return found


@pytest.mark.parametrize("length", [100, 151, 298])
def test_a_padded_window_has_the_logits_of_the_unpadded_one(
    network: nn.Module, length: int
) -> None:
    x, valid = rows(6, length)
    pad = N_TIME - length
    padded = torch.cat((x, torch.zeros(6, pad, N_BINS)), 1)
    mask = torch.cat((valid, torch.zeros(6, pad, dtype=torch.bool)), 1)
    torch.testing.assert_close(
        logits(network, padded, mask), logits(network, x, valid), atol=1e-5, rtol=1e-5
    )


def test_what_stands_in_invalid_frames_does_not_matter(network: nn.Module) -> None:
    x, valid = rows(4)
    other = torch.where(valid.unsqueeze(-1), x, x * 3.0 + 100.0)
    assert torch.equal(logits(network, x, valid), logits(network, other, valid))


def test_neither_a_level_nor_a_microphones_slope_matters(network: nn.Module) -> None:
    x, valid = rows(4)
    moved = x + torch.linspace(-3.0, 5.0, N_BINS)
    torch.testing.assert_close(
        logits(network, moved, valid), logits(network, x, valid), atol=1e-3, rtol=1e-3
    )


def test_a_window_without_any_valid_frame_gives_finite_logits(network: nn.Module) -> None:
    x, _ = rows(2)
    assert logits(network, x, torch.zeros(2, N_TIME, dtype=torch.bool)).isfinite().all()


def test_a_network_that_is_served_says_the_same_twice(network: nn.Module) -> None:
    x, valid = rows(3)
    first = logits(network, x, valid)
    assert first.std(0).min() > 0.05  # a network that is dead would keep every law here
    assert torch.equal(logits(network, x, valid), first)


def test_it_is_small_enough_to_ship(network: nn.Module) -> None:
    assert 150_000 <= sum(p.numel() for p in network.parameters()) <= 300_000


@pytest.fixture
def graph(network: nn.Module) -> bytes:
    x, valid = rows(2)
    return to_onnx(network, {"voice": x.numpy()}, {"voice": valid.numpy()}, 1.5)


def test_the_graph_gives_what_torch_gives_and_the_same_bits_in_any_batch(
    network: nn.Module, graph: bytes
) -> None:
    x, valid = rows(64, seed=1)
    valid[:9, 120:] = False
    valid[9] = False
    runtime = OnnxRuntime(graph, (1, 8, 64))
    assert runtime.masked == ("voice",)
    whole = runtime.run({"voice": x.numpy()}, {"voice": valid.numpy()})
    expected = torch.softmax(logits(network, x, valid) / 1.5, 1).numpy()
    assert np.abs(whole - expected).max() < 1e-5
    for size in (1, 8):
        for at in range(0, 64, size):
            part = slice(at, at + size)
            found = runtime.run({"voice": x[part].numpy()}, {"voice": valid[part].numpy()})
            assert np.array_equal(found, whole[part]), f"row {at} in a batch of {size}"


def test_normalised_frames_have_mean_zero_and_deviation_one_where_valid() -> None:
    x, valid = rows(3)
    found = normalise(x, valid).numpy()
    for row, mask in zip(found, valid.numpy(), strict=True):
        assert np.abs(row[mask].mean(0)).max() < 1e-4
        assert np.abs(row[mask].std(0) - 1).max() < 1e-2
        assert not row[~mask].any()


def test_the_mean_over_time_is_a_mean() -> None:
    x = torch.randn(2, 3, 7)
    torch.testing.assert_close(mean_over_time(x), x.mean(2, keepdim=True))


@pytest.mark.parametrize("made", NETWORKS, ids=lambda made: str(made.__name__))
@pytest.mark.parametrize("shapes", [{"a": (8, 4), "b": (8, 4)}, {"a": (8,)}])
def test_inputs_that_are_no_frames_are_refused(
    made: Callable[..., nn.Module], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    with pytest.raises(ConfigError, match=r"one input of frames"):
        made(shapes, 2)


@pytest.mark.parametrize(
    ("made", "args"),
    [(Residual, {"channels": [8, 8]}), (Residual, {"strides": [[3, 1]] * 4}),
     (Parallel, {"channels": []})],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_named(
    made: Callable[..., nn.Module], args: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="channels"):
        made(SHAPES, 2, **args)
