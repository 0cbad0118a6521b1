"""Networks over log-mel frames: recurrent with attention, and two-dimensional convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import ConfigError
from engine.networks.demands import need_at_least
from engine.networks.front import Front
from engine.networks.masked import (
    AttentivePooling,
    Dense,
    frame_shape,
    grouped,
    halved,
    mean_over_valid,
)
from engine.networks.recurrent import Recurrence

__all__ = ["SpeechCnn", "SpeechRnn"]

_ATTENTION = 32


class SpeechRnn(nn.Module):
    """Two convolutions that halve the time, a GRU, and attentive mean and deviation.

    Frames (time, bins) are normalised per window and bin. 96 k parameters for 64 bins and 8
    labels.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        width: int = 64,
        n_hidden: int = 96,
        dropout: float = 0.3,
        padding: str = "mask",
    ) -> None:
        super().__init__()
        _, n_bins = frame_shape("speech_rnn", shapes)
        need_at_least("speech_rnn", 1, width=width, n_hidden=n_hidden)
        self.front = Front("speech_rnn", shapes, padding, "window")
        self.slow = nn.ModuleList(
            [nn.Conv1d(n_bins, width, 5, 2, 2), nn.Conv1d(width, width, 5, 2, 2)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm1d(width), nn.BatchNorm1d(width)])
        self.recurrence = Recurrence(width, n_hidden, cell=nn.GRU, both=False)
        self.pool = AttentivePooling(n_hidden, _ATTENTION)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(2 * n_hidden, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, bins)}, {input: (batch, time)} -> (batch, labels)."""
        x, mask = self.front(inputs, valid)
        x = x.transpose(1, 2)
        for layer, norm in zip(self.slow, self.norms, strict=True):
            mask = halved(mask)
            x = torch.relu(norm(layer(x))) * mask.unsqueeze(1)
        states = self.recurrence(x.transpose(1, 2), mask)
        pooled = self.pool(states.transpose(1, 2), mask)
        logits: Tensor = self.layer(self.dropout(pooled))
        return logits

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set the scales from the training part, {input: (rows, time, bins)} and masks."""
        self.front.settle(inputs, valid)


class SpeechCnn(nn.Module):
    """3x3 convolutions, each with the larger of every 2x2 values, and the mean over valid frames.

    Frames (time, bins) are normalised per window and bin. 98 k parameters for 8 labels.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        channels: Sequence[int] = (16, 32, 64, 128),
        dropout: float = 0.3,
        padding: str = "mask",
    ) -> None:
        super().__init__()
        _, n_bins = frame_shape("speech_cnn", shapes)
        if not channels or min(channels) < 1 or n_bins < 2 ** len(channels):
            raise ConfigError(
                f"speech_cnn: channels must be numbers of 1 or more, at most "
                f"{n_bins.bit_length() - 1} for {n_bins} bins, not {list(channels)}"
            )
        self.front = Front("speech_cnn", shapes, padding, "window")
        widths = [1, *channels]
        self.layers = nn.ModuleList(
            [nn.Conv2d(a, b, 3, 1, 1, bias=False) for a, b in pairwise(widths)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) for n in channels])
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(channels[-1], n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, bins)}, {input: (batch, time)} -> (batch, labels)."""
        x, mask = self.front(inputs, valid)
        x = x.unsqueeze(1)  # (batch, channels, time, bins)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x))) * mask[:, None, :, None]
            x = functional.max_pool2d(functional.pad(x, (0, 0, 0, x.shape[2] % 2)), 2)
            mask = functional.max_pool1d(grouped(mask.unsqueeze(1), 2), 2).squeeze(1)
        frames = functional.avg_pool2d(x, (1, x.shape[3])).squeeze(3)
        logits: Tensor = self.layer(self.dropout(mean_over_valid(frames, mask)))
        return logits

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set the scales from the training part, {input: (rows, time, bins)} and masks."""
        self.front.settle(inputs, valid)
