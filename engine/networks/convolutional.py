"""Convolutions over the time of a masked sequence, alone and in front of an LSTM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import ConfigError
from engine.networks.demands import need_at_least
from engine.networks.front import Front
from engine.networks.masked import Dense, grouped, mean_over_valid
from engine.networks.recurrent import Recurrence

__all__ = ["Cnn", "CnnLstm"]

_HALF = 2  # a pooling step


class _Convolutions(nn.Module):
    """Convolutions with batch normalisation and ReLU, masked again after each."""

    def __init__(self, n_features: int, channels: Sequence[int], kernel: int) -> None:
        super().__init__()
        widths = [n_features, *channels]
        self.layers = nn.ModuleList(
            [nn.Conv1d(a, b, kernel, 1, kernel // 2, bias=False) for a, b in pairwise(widths)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm1d(n) for n in channels])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, features, time) and (batch, time) to (batch, channels, time)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x))) * mask.unsqueeze(1)
        return x


class Cnn(nn.Module):
    """Two convolutions over time and the mean over valid items.

    141 k parameters for (60, 310) and 5 labels.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        channels: Sequence[int] = (64, 128),
        kernel: int = 5,
        dropout: float = 0.5,
        padding: str = "mask",
        normalise: str = "training",
    ) -> None:
        super().__init__()
        _check("cnn", channels, kernel)
        self.front = Front("cnn", shapes, padding, normalise)
        self.convolutions = _Convolutions(self.front.n_features, channels, kernel)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(channels[-1], n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, features)}, {input: (batch, time)} -> (batch, labels)."""
        x, mask = self.front(inputs, valid)
        pooled = mean_over_valid(self.convolutions(x.transpose(1, 2), mask), mask)
        logits: Tensor = self.layer(self.dropout(pooled))
        return logits

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set the scales from the training part, {input: (rows, time, features)} and masks."""
        self.front.settle(inputs, valid)


class CnnLstm(nn.Module):
    """Two convolutions, the larger of every two items, one LSTM, its mean over valid items.

    106 k parameters for (60, 310) and 5 labels.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        channels: Sequence[int] = (64, 64),
        kernel: int = 3,
        n_hidden: int = 64,
        dropout: float = 0.3,
        padding: str = "mask",
        normalise: str = "training",
    ) -> None:
        super().__init__()
        _check("cnn_lstm", channels, kernel)
        need_at_least("cnn_lstm", 1, n_hidden=n_hidden)
        self.front = Front("cnn_lstm", shapes, padding, normalise)
        self.convolutions = _Convolutions(self.front.n_features, channels, kernel)
        self.recurrence = Recurrence(channels[-1], n_hidden, both=False)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(n_hidden, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, features)}, {input: (batch, time)} -> (batch, labels)."""
        x, mask = self.front(inputs, valid)
        x = self.convolutions(x.transpose(1, 2), mask)  # never negative: zeros lose to what counts
        x = functional.max_pool1d(grouped(x, _HALF), _HALF)
        mask = functional.max_pool1d(grouped(mask.unsqueeze(1), _HALF), _HALF).squeeze(1)
        states = self.recurrence(x.transpose(1, 2), mask)
        pooled = mean_over_valid(states.transpose(1, 2), mask)
        logits: Tensor = self.layer(self.dropout(pooled))
        return logits

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set the scales from the training part, {input: (rows, time, features)} and masks."""
        self.front.settle(inputs, valid)


def _check(network: str, channels: Sequence[int], kernel: int) -> None:
    if not channels or min(channels) < 1:
        raise ConfigError(f"{network}: channels must be numbers of 1 or more, not {list(channels)}")
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"{network}: kernel must be odd, to lie around an item, not {kernel}")
