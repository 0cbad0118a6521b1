"""A small transformer over the items or patches of a masked sequence (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import ConfigError
from engine.networks.demands import need_at_least, need_one_of
from engine.networks.front import Front
from engine.networks.masked import Dense, grouped, mean_over_valid

__all__ = ["Layers", "Transformer"]

_POOLS = ("cls", "mean")
_FAR_BELOW = -1e4
_SLOWEST = 10_000.0  # of the positions' wavelengths


class Transformer(nn.Module):
    """Inputs (time, features) of one time axis, `patch` items to a token, to logits.

    Tokens know their place by sines. What is read at the end is a token of its own (`cls`) or
    the mean over valid ones. 87 k parameters for (60, 310) and 5 labels.
    """

    positions: Tensor

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        patch: int = 1,
        width: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        pool: str = "cls",
        dropout: float = 0.2,
        padding: str = "mask",
        normalise: str = "training",
    ) -> None:
        super().__init__()
        need_one_of("transformer", "pool", pool, _POOLS)
        need_at_least("transformer", 1, patch=patch, width=width, n_layers=n_layers,
                      n_heads=n_heads)  # fmt: skip
        if width % n_heads or width % 2:
            raise ConfigError(
                f"transformer: width must be even and divide by n_heads; {width} by {n_heads} "
                "does not"
            )
        self._patch = patch
        self.front = Front("transformer", shapes, padding, normalise)
        self.enter = nn.Conv1d(self.front.n_features, width, patch, patch)
        n_tokens = -(-self.front.n_time // patch)
        self.register_buffer("positions", _sines(n_tokens, width), persistent=False)
        self.summary = nn.Parameter(0.02 * torch.randn(1, 1, width)) if pool == "cls" else None
        self.layers = Layers(width, n_heads, n_layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(width, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, features)}, {input: (batch, time)} -> (batch, labels)."""
        x, mask = self.front(inputs, valid)
        x = self.enter(grouped(x.transpose(1, 2), self._patch)).transpose(1, 2)
        there = grouped(mask.unsqueeze(1), self._patch)
        mask = functional.max_pool1d(there, self._patch).squeeze(1)
        x = x + self.positions[: x.shape[1]]
        if self.summary is None:
            x = self.layers(x, mask) * mask.unsqueeze(2)
            pooled = mean_over_valid(x.transpose(1, 2), mask)
        else:
            x = torch.cat((self.summary.expand(x.shape[0], -1, -1), x), 1)
            mask = torch.cat((torch.ones_like(mask[:, :1]), mask), 1)
            pooled = self.layers(x, mask)[:, 0]
        logits: Tensor = self.layer(self.dropout(pooled))
        return logits

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set the scales from the training part, {input: (rows, time, features)} and masks."""
        self.front.settle(inputs, valid)


class Layers(nn.Module):
    """Attention and two dense layers, `n_layers` times, each normalised before, and at the end."""

    def __init__(self, width: int, n_heads: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(width, n_heads, dropout) for _ in range(n_layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, tokens, width) and (batch, tokens) to the same; invalid tokens are not read."""
        for layer in self.layers:
            x = layer(x, mask)
        done: Tensor = self.norm(x)
        return done


class _Layer(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self._n_heads = n_heads
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask = Dense(width, 3 * width)
        self.answer = Dense(width, width)
        self.wide = Dense(width, 2 * width)
        self.narrow = Dense(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self._attend(self.first_norm(x), mask))
        wide = functional.gelu(self.wide(self.second_norm(x).transpose(1, 2)))
        deeper: Tensor = x + self.dropout(self.narrow(wide).transpose(1, 2))
        return deeper

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        asked = self.ask(x.transpose(1, 2)).unflatten(1, (3, self._n_heads, -1))
        query, key, value = asked.unbind(1)  # (batch, heads, width / heads, tokens)
        score = query.transpose(2, 3) @ key / math.sqrt(query.shape[2])
        weight = torch.softmax(score + _FAR_BELOW * (1.0 - mask[:, None, None, :]), 3)
        told = value @ weight.transpose(2, 3)  # (batch, heads, width / heads, tokens)
        answer: Tensor = self.answer(told.flatten(1, 2))
        return answer.transpose(1, 2)


def _sines(n_tokens: int, width: int) -> Tensor:
    """Where a token stands (tokens, width): sines and cosines of ever longer waves."""
    at = torch.arange(n_tokens).unsqueeze(1)
    wave = _SLOWEST ** (-torch.arange(0, width, 2) / width)
    return torch.stack((torch.sin(at * wave), torch.cos(at * wave)), 2).flatten(1)
