"""Convolutions beside a recurrent network with attention, over masked spectrogram frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.networks.masked import (
    AttentivePooling,
    Dense,
    chosen,
    frame_shape,
    halved,
    normalise,
    turned,
)

__all__ = ["Parallel"]

_ATTENTION = 32


class Parallel(nn.Module):
    """Frames (time, bins) to logits: two readers of the same frames, one layer over both.

    The first is a stack of 3x3 convolutions of `channels`, each followed by a step of 2 in time
    and bins, pooled to mean and deviation. The second halves the time twice by a convolution to
    `width` channels and runs one LSTM of `n_hidden` in both directions; backwards it begins at
    the last valid frame, so that padding never reaches it. Frames are normalised per window and
    bin inside, and masked again after each layer.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        channels: Sequence[int] = (24, 48, 64, 80),
        width: int = 64,
        n_hidden: int = 96,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if not channels:
            raise ConfigError("parallel: channels are empty; need one number or more")
        self._name, n_bins = frame_shape("parallel", shapes)
        before = 1
        layers: list[nn.Module] = []
        norms: list[nn.Module] = []
        for n_channels in channels:
            layers.append(nn.Conv2d(before, n_channels, 3, 2, 1, bias=False))
            norms.append(nn.BatchNorm2d(n_channels))
            before = n_channels
        self.layers, self.norms = nn.ModuleList(layers), nn.ModuleList(norms)
        self.image_pool = AttentivePooling(before, _ATTENTION)
        self.slow = nn.ModuleList(
            [nn.Conv1d(n_bins, width, 5, 2, 2), nn.Conv1d(width, width, 5, 2, 2)]
        )
        self.recurrent = nn.LSTM(width, n_hidden, batch_first=True)
        self.sequence_pool = AttentivePooling(2 * n_hidden, _ATTENTION)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(2 * before + 4 * n_hidden, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, bins)}, {input: (batch, time)} -> (batch, labels)."""
        x = normalise(inputs[self._name], valid[self._name])
        mask = valid[self._name].to(x.dtype)
        both = torch.cat((self._image(x, mask), self._sequence(x, mask)), 1)
        logits: Tensor = self.layer(self.dropout(both))
        return logits

    def _image(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            mask = halved(mask)
            x = torch.relu(norm(layer(x))) * mask[:, None, :, None]
        pooled: Tensor = self.image_pool(x.mean(3), mask)
        return pooled

    def _sequence(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.transpose(1, 2)  # (batch, bins, time)
        for layer in self.slow:
            mask = halved(mask)
            x = torch.relu(layer(x)) * mask.unsqueeze(1)
        x = x.transpose(1, 2)  # (batch, time, width)
        back_to_front = turned(mask)
        # one batch of both ways: never of one row, for which runtimes take other kernels
        both = torch.stack((x, chosen(x, back_to_front))).flatten(0, 1)
        onward, back = self.recurrent(both)[0].unflatten(0, (2, -1)).unbind(0)
        read = torch.cat((onward, chosen(back, back_to_front)), 2)
        pooled: Tensor = self.sequence_pool(read.transpose(1, 2), mask)
        return pooled
