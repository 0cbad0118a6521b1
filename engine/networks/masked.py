"""Layers that read valid frames alone: a window gives the same logits however it is padded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import ConfigError

__all__ = [
    "AttentivePooling",
    "Dense",
    "Squeeze",
    "chosen",
    "frame_shape",
    "grouped",
    "halved",
    "last_valid",
    "mean_over_time",
    "mean_over_valid",
    "normalise",
    "turned",
]

_LOG_POWER_FLOOR = 0.01  # added to a bin's variance: a constant bin stays zero
_LEAST = 1e-4
_FAR_BELOW = -1e4


def frame_shape(network: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    """(name, bins) of the one input, (time, bins); raises ConfigError for any other shapes."""
    if len(shapes) != 1 or len(next(iter(shapes.values()))) != 2:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ConfigError(f"{network} reads one input of frames (time, bins); it was given {told}")
    ((name, (_, n_bins)),) = shapes.items()
    return name, n_bins


def normalise(x: Tensor, valid: Tensor) -> Tensor:
    """Each bin of each window to mean 0 and deviation 1 over its valid frames, 0 elsewhere.

    (batch, time, bins) and (batch, time) bool to (batch, time, bins).
    """
    rows, mask = x.transpose(1, 2), valid.unsqueeze(1).to(x.dtype)
    share = mean_over_time(mask).clamp(min=_LEAST)  # of valid frames
    centred = (rows - mean_over_time(rows * mask) / share) * mask
    variance = mean_over_time(centred.square()) / share
    return (centred / (variance + _LOG_POWER_FLOOR).sqrt()).transpose(1, 2)


def mean_over_time(x: Tensor) -> Tensor:
    """(batch, channels, time) to (batch, channels, 1).

    As a pooling layer, which a runtime works out row by row; it adds up a reduced axis in an
    order that depends on the batch and on where its memory lies.
    """
    return functional.avg_pool1d(x, x.shape[2])


def mean_over_valid(x: Tensor, mask: Tensor) -> Tensor:
    """(batch, channels, time), zero where invalid, and (batch, time) to (batch, channels)."""
    share = mean_over_time(mask.unsqueeze(1)).clamp(min=_LEAST)
    return (mean_over_time(x) / share).squeeze(2)


def halved(mask: Tensor) -> Tensor:
    """The mask (batch, time) of what a layer with stride 2 gives: output k stands at frame 2 k."""
    return mask[:, ::2]


def grouped(x: Tensor, size: int) -> Tensor:
    """(batch, channels, time) with zeros behind, up to a whole number of groups of `size`.

    What pools over groups then gives as much however long the padding is.
    """
    return functional.pad(x, (0, -x.shape[2] % size))


def last_valid(mask: Tensor) -> Tensor:
    """The index (batch, 1) of the last valid item; 0 where there is none."""
    at = torch.arange(mask.shape[1], device=mask.device).unsqueeze(0)
    return (at * mask.to(at.dtype)).amax(1, keepdim=True)


def turned(mask: Tensor) -> Tensor:
    """Indices (batch, time) that turn a window round up to its last valid frame; its own inverse
    there, and 0 behind, where nothing is read."""
    at = torch.arange(mask.shape[1], device=mask.device).unsqueeze(0)
    return (last_valid(mask) - at).clamp(min=0)


def chosen(x: Tensor, index: Tensor) -> Tensor:
    """(batch, time, channels) in the order of `index` (batch, items)."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))


class Dense(nn.Conv1d):
    """A linear layer as a convolution of length 1: runtimes work it out row by row.

    A matrix product takes another kernel for a batch of one than for many, and other bits.
    """

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True) -> None:
        super().__init__(n_in, n_out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels) or (batch, channels, time), as `torch.nn.Linear` over channels."""
        if x.dim() == 2:
            return super().forward(x.unsqueeze(2)).squeeze(2)
        return super().forward(x)


class Squeeze(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018) whose mean sees valid frames alone."""

    def __init__(self, n_channels: int, n_hidden: int) -> None:
        super().__init__()
        self.down = Dense(n_channels, n_hidden)
        self.up = Dense(n_hidden, n_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, channels, time, bins), zero where invalid, and (batch, time): each channel
        times its weight."""
        share = mean_over_time(mask.unsqueeze(1)).clamp(min=_LEAST)
        mean = mean_over_time(functional.avg_pool2d(x, (1, x.shape[3])).squeeze(3)) / share
        weight = torch.sigmoid(self.up(torch.relu(self.down(mean))))
        return x * weight.unsqueeze(3)


class AttentivePooling(nn.Module):
    """Mean and deviation over time, weighted per channel (Okabe et al. 2018): valid frames only."""

    def __init__(self, n_channels: int, n_hidden: int) -> None:
        super().__init__()
        self.hidden = Dense(n_channels, n_hidden)
        self.score = Dense(n_hidden, n_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, channels, time) and (batch, time) to (batch, 2 channels)."""
        x, there = x.float(), mask.unsqueeze(1).float()
        score = self.score(torch.tanh(self.hidden(x))).float()
        weight = torch.softmax(score * there + _FAR_BELOW * (1.0 - there), 2) * there
        mean = mean_over_time(x * weight) * x.shape[2]
        spread = mean_over_time((x - mean).square() * weight) * x.shape[2]
        return torch.cat((mean, (spread + _LEAST).sqrt()), 1).squeeze(2)
