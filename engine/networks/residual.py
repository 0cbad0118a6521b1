"""A small residual network with squeeze-and-excitation over masked spectrogram frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.networks.masked import AttentivePooling, Dense, Squeeze, frame_shape, halved, normalise

__all__ = ["Residual"]

_REDUCTION = 8  # of a squeeze
_ATTENTION = 32


class Residual(nn.Module):
    """Frames (time, bins) to logits: a stem, residual blocks, attentive mean and deviation.

    `channels` are those of the blocks; `strides` their steps in (time, bins). Frames are
    normalised per window and bin inside, and masked again after each layer, so invalid frames
    and padding never count. `dropout` acts in training alone.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        channels: Sequence[int] = (32, 48, 64, 64),
        strides: Sequence[Sequence[int]] = ((2, 2), (1, 2), (2, 1), (1, 2)),
        width: int = 96,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if len(channels) != len(strides) or any(s[0] not in (1, 2) for s in strides):
            raise ConfigError(
                f"residual: {len(channels)} channels and {len(strides)} strides; need as many, "
                "of 1 or 2 in time"
            )
        self._name, n_bins = frame_shape("residual", shapes)
        self.stem = nn.Conv2d(1, channels[0], 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels[0])
        n_bins = -(-n_bins // 2)
        blocks: list[_Block] = []
        before = channels[0]
        for n_channels, (in_time, in_bins) in zip(channels, strides, strict=True):
            blocks.append(_Block(before, n_channels, (in_time, in_bins)))
            n_bins = -(-n_bins // in_bins)
            before = n_channels
        self.blocks = nn.ModuleList(blocks)
        self.merge = Dense(before * n_bins, width)
        self.pool = AttentivePooling(width, _ATTENTION)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(2 * width, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, bins)}, {input: (batch, time)} -> (batch, labels)."""
        x = normalise(inputs[self._name], valid[self._name]).unsqueeze(1)
        mask = halved(valid[self._name]).to(x.dtype)
        x = torch.relu(self.stem_norm(self.stem(x))) * mask[:, None, :, None]
        for block in self.blocks:
            x, mask = block(x, mask)
        # (batch, channels, time, bins) -> (batch, channels * bins, time)
        frames = x.transpose(2, 3).flatten(1, 2)
        pooled = self.pool(torch.relu(self.merge(frames)), mask)
        logits: Tensor = self.layer(self.dropout(pooled))
        return logits


class _Block(nn.Module):
    """Two 3x3 convolutions and a squeeze beside a shortcut; time is masked after each."""

    def __init__(self, n_in: int, n_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self._stride = stride
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(n_out)
        self.squeeze = Squeeze(n_out, max(4, n_out // _REDUCTION))
        self.shortcut: nn.Module = nn.Identity()
        if n_in != n_out or stride != (1, 1):
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, channels, time, bins) and (batch, time) to the same behind the stride."""
        after = halved(mask) if self._stride[0] == 2 else mask
        there = after[:, None, :, None]
        y = torch.relu(self.first_norm(self.first(x))) * there
        y = self.squeeze(self.second_norm(self.second(y)) * there, after)
        return torch.relu(y + self.shortcut(x)) * there, after
