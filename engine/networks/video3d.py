"""Clips of pictures read by convolutions over time and space at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import ConfigError
from engine.networks.demands import picture_shape
from engine.networks.masked import Dense, grouped, mean_over_valid
from engine.networks.pictures import standardised

__all__ = ["Video3d"]

_MOST = 4  # stages: each halves the pictures, and the smallest have 16 pixels


class Video3d(nn.Module):
    """Pictures (time, height, width, channels) through 3x3x3 convolutions, to logits.

    Each picture is standardised by itself. Every stage takes the larger of each 2x2 pixels, and
    from the second on of two frames. 293 k parameters for colour and 6 labels.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        channels: Sequence[int] = (16, 32, 64, 128),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self._name, item = picture_shape("video_3d", shapes)
        if not 1 <= len(channels) <= _MOST or min(channels) < 1:
            raise ConfigError(
                f"video_3d: channels must be 1 to {_MOST} numbers of 1 or more, "
                f"not {list(channels)}"
            )
        widths = [item[-1], *channels]
        self.layers = nn.ModuleList(
            [nn.Conv3d(a, b, 3, 1, 1, bias=False) for a, b in pairwise(widths)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm3d(n) for n in channels])
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(channels[-1], n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, height, width, channels)}, {input: (batch, time)} -> logits."""
        frames = inputs[self._name]
        mask = valid[self._name].to(frames.dtype)
        pictures = standardised(frames.flatten(0, 1))
        x = pictures.reshape(-1, frames.shape[1], *pictures.shape[1:])
        x = x.transpose(1, 2) * _on(mask)  # (batch, channels, time, height, width)
        for stage, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = torch.relu(norm(layer(x))) * _on(mask)
            step = 2 if stage else 1
            x = functional.pad(x, (0, 0, 0, 0, 0, -x.shape[2] % step))
            x = functional.max_pool3d(x, (step, 2, 2))
            mask = functional.max_pool1d(grouped(mask.unsqueeze(1), step), step).squeeze(1)
        pixels = tuple(x.shape[3:])
        items = functional.avg_pool3d(x, (1, *pixels)).flatten(2)  # (batch, channels, time)
        logits: Tensor = self.layer(self.dropout(mean_over_valid(items, mask)))
        return logits


def _on(mask: Tensor) -> Tensor:
    return mask[:, None, :, None, None]
