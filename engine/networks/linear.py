"""Standardise, clip, one linear layer: logistic regression over a window's features."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.networks.front import statistics

__all__ = ["Linear"]


class Linear(nn.Module):
    """Logits of all inputs' values, side by side, after (x - mean) / scale clipped to +-`clip`.

    `mean` and `scale` (features,) are buffers, from training subjects alone. The clip bounds what
    an artefact in one channel can do to a prediction; None leaves it out.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], n_labels: int, *, clip: float | None = None
    ) -> None:
        super().__init__()
        if clip is not None and not clip > 0:
            raise ConfigError(f"linear: clip must be more than 0, or null, not {clip:g}")
        n_features = sum(prod(shape) for shape in shapes.values())
        self._names = tuple(shapes)
        self._clip = clip
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.layer = nn.Linear(n_features, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, ...)} -> (batch, labels); `valid` is not looked at."""
        z = (self._flat(inputs) - self.mean) / self.scale
        if self._clip is not None:
            z = z.clamp(-self._clip, self._clip)
        logits: Tensor = self.layer(z)
        return logits

    @torch.no_grad()
    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set `mean` and `scale` from the training part, {input: (rows, ...)}."""
        x = self._flat(inputs).unsqueeze(1)
        found = statistics(", ".join(self._names), x, x.new_ones(x.shape[:2], dtype=torch.bool))
        for buffer, value in zip((self.mean, self.scale), found, strict=True):
            buffer.copy_(value)

    def _flat(self, inputs: Mapping[str, Tensor]) -> Tensor:
        parts = [inputs[name].flatten(1) for name in self._names]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
