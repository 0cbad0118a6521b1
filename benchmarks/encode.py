"""A face network that encodes each frame once, against running its whole window at every tick."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.result import Result, interleave, versions
from engine.encoder import FrameEncoder
from engine.runtime_onnx import OnnxRuntime
from engine.types import Array

__all__ = ["encode"]

N_ITEMS, HOP, SIZE = 16, 4, 48  # frames of a window, new ones at a tick, pixels
CHANNELS, WIDTH, N_LABELS = (32, 64, 96), 64, 6  # 220 thousand weights
N_TICKS = 40


def encode(n_repeats: int = 9) -> Result:
    """CPU of the model per tick: a window of 16 crops of 48 x 48 that moves on by 4 at a time.

    Ours encodes the 4 new frames, one by one, and reads 16 embeddings. The other way is the same
    network as one graph, run on all 16 frames again. Both in onnxruntime, on one thread.
    """
    encoder, reader, whole = _graphs()
    frames = np.random.default_rng(0).normal(0, 1, (N_ITEMS + HOP * N_TICKS, SIZE, SIZE, 1))
    crops = frames.astype(np.float32)
    off = np.abs(_once(encoder, reader, crops)[1] - _again(whole, crops)[1]).max()
    runs = {
        "ours": lambda: _once(encoder, reader, crops)[0],
        "the whole window, every tick": lambda: _again(whole, crops)[0],
    }
    found = interleave(runs, n_repeats)
    mine = found.pop("ours")
    details: dict[str, Any] = {
        "window_frames": N_ITEMS, "hop_frames": HOP, "crop": SIZE,
        "largest difference of a probability": float(off),
    }  # fmt: skip
    known = versions("vagus", "numpy", "onnxruntime", "torch")
    return Result("encode", "ms CPU of the model per tick", mine, found, known, details)


def _once(encoder: FrameEncoder, reader: OnnxRuntime, crops: Array) -> tuple[float, Array]:
    """(ms per tick, probabilities), the embeddings kept from tick to tick."""
    ones = np.ones(len(crops), bool)
    kept = encoder(crops[:N_ITEMS], ones[:N_ITEMS])
    valid = {"face": ones[None, :N_ITEMS]}
    said = []
    begin_s = time.process_time()
    for at in range(N_ITEMS, len(crops), HOP):
        new = encoder(crops[at : at + HOP], ones[:HOP])
        kept = np.concatenate([kept[HOP:], new])
        said.append(reader.run({"face": kept[None]}, valid))
    return 1e3 * (time.process_time() - begin_s) / N_TICKS, np.concatenate(said)


def _again(whole: OnnxRuntime, crops: Array) -> tuple[float, Array]:
    """(ms per tick, probabilities), every window from its frames."""
    valid = {"face": np.ones((1, N_ITEMS), bool)}
    said = []
    begin_s = time.process_time()
    for at in range(N_ITEMS, len(crops), HOP):
        said.append(whole.run({"face": crops[None, at + HOP - N_ITEMS : at + HOP]}, valid))
    return 1e3 * (time.process_time() - begin_s) / N_TICKS, np.concatenate(said)


def _graphs() -> tuple[FrameEncoder, OnnxRuntime, OnnxRuntime]:
    """The encoder, what reads its embeddings, and both as one graph; weights are random."""
    import torch

    from offline.export import to_onnx, to_two_onnx

    torch.manual_seed(0)
    network = _network()
    x = np.random.default_rng(1).normal(0, 1, (2, N_ITEMS, SIZE, SIZE, 1)).astype(np.float32)
    inputs, valid = {"face": x}, {"face": np.ones((2, N_ITEMS), bool)}
    encoder, reader, width = to_two_onnx(network, inputs, valid, 1.0)
    whole = to_onnx(network, inputs, valid, 1.0)
    return FrameEncoder(encoder, width), OnnxRuntime(reader), OnnxRuntime(whole)


def _network() -> Any:
    """Convolutions in pairs, each pair at half the size, then attention over time."""
    from torch import Tensor, nn

    from engine.networks.masked import AttentivePooling

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            before = 1
            for n in CHANNELS:
                for n_in, stride in ((before, 2), (n, 1)):
                    layers += [nn.Conv2d(n_in, n, 3, stride, 1), nn.BatchNorm2d(n), nn.ReLU()]
                before = n
            self.layers = nn.Sequential(*layers, nn.AvgPool2d(SIZE >> len(CHANNELS)))
            self.merge = nn.Linear(before, WIDTH)
            self.pool = AttentivePooling(WIDTH, WIDTH)
            self.layer = nn.Linear(2 * WIDTH, N_LABELS)

        def encode(self, frames: Tensor) -> Tensor:
            found: Tensor = self.merge(self.layers(frames.permute(0, 3, 1, 2)).flatten(1)).relu()
            return found

        def read(self, embeddings: Tensor, valid: Tensor) -> Tensor:
            mask = valid.to(embeddings.dtype)
            logits: Tensor = self.layer(self.pool(embeddings.transpose(1, 2), mask))
            return logits

        def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
            ((name, windows),) = inputs.items()
            embeddings = self.encode(windows.flatten(0, 1))
            return self.read(embeddings.reshape(*windows.shape[:2], WIDTH), valid[name])

    return Network().eval()
