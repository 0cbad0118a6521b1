"""Recurrent networks over masked sequences: LSTM, GRU, and LSTM in both directions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.networks.demands import need_at_least, need_one_of
from engine.networks.front import Front
from engine.networks.masked import Dense, chosen, last_valid, mean_over_valid, turned

__all__ = ["BiLstm", "Gru", "Lstm", "Recurrence", "Stem"]

_POOLS = ("mean", "last")
_STEM = 64  # channels


class Recurrence(nn.Module):
    """The states of a recurrent layer at every item, onward and, where wanted, also back.

    Backwards it begins at the last valid item, so padding behind never reaches a state. An
    invalid item between valid ones is read as zeros.
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        *,
        cell: type[nn.LSTM] | type[nn.GRU] = nn.LSTM,
        both: bool,
    ) -> None:
        super().__init__()
        self.width = 2 * n_hidden if both else n_hidden
        self.onward = cell(n_features, n_hidden, batch_first=True)
        self.back = cell(n_features, n_hidden, batch_first=True) if both else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, features), zero where invalid, and (batch, time) to (batch, time, width),
        zero where invalid."""
        states = _run(self.onward, x)
        if self.back is not None:
            order = turned(mask)
            states = torch.cat((states, chosen(_run(self.back, chosen(x, order)), order)), 2)
        return states * mask.unsqueeze(2)

    def final(self, states: Tensor, mask: Tensor) -> Tensor:
        """The states (batch, width) after the last item that each direction reads."""
        last = chosen(states, last_valid(mask)).squeeze(1)
        if self.back is None:
            return last
        half = self.width // 2
        return torch.cat((last[:, :half], states[:, 0, half:]), 1)


class Stem(nn.Module):
    """A convolution that steps by `stride` items, for windows too long to be read one by one."""

    def __init__(self, n_features: int, n_channels: int, stride: int) -> None:
        super().__init__()
        self._stride = stride
        self.layer = nn.Conv1d(n_features, n_channels, 2 * stride + 1, stride, stride, bias=False)
        self.norm = nn.BatchNorm1d(n_channels)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, features), (batch, time) to a `stride`-th of the time."""
        mask = mask[:, :: self._stride]
        x = torch.relu(self.norm(self.layer(x.transpose(1, 2)))) * mask.unsqueeze(1)
        return x.transpose(1, 2), mask


class _Recurrent(nn.Module):
    """Inputs (time, features) of one time axis, through a recurrent layer, to logits.

    `pool` reads the mean of the states over valid items, or the last state. `stem` steps over
    that many items by a convolution first; 1 leaves it out.
    """

    _name: str
    _cell: type[nn.LSTM] | type[nn.GRU]
    _both: bool

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        n_hidden: int = 128,
        pool: str = "mean",
        stem: int = 1,
        dropout: float = 0.3,
        padding: str = "mask",
        normalise: str = "training",
    ) -> None:
        super().__init__()
        need_one_of(self._name, "pool", pool, _POOLS)
        need_at_least(self._name, 1, n_hidden=n_hidden, stem=stem)
        self._pool = pool
        self.front = Front(self._name, shapes, padding, normalise)
        before = self.front.n_features
        self.stem = Stem(before, _STEM, stem) if stem > 1 else None
        self.recurrence = Recurrence(
            _STEM if stem > 1 else before, n_hidden, cell=self._cell, both=self._both
        )
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(self.recurrence.width, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, features)}, {input: (batch, time)} -> (batch, labels)."""
        x, mask = self.front(inputs, valid)
        if self.stem is not None:
            x, mask = self.stem(x, mask)
        states = self.recurrence(x, mask)
        if self._pool == "last":
            pooled = self.recurrence.final(states, mask)
        else:
            pooled = mean_over_valid(states.transpose(1, 2), mask)
        logits: Tensor = self.layer(self.dropout(pooled))
        return logits

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set the scales from the training part, {input: (rows, time, features)} and masks."""
        self.front.settle(inputs, valid)


class Lstm(_Recurrent):
    """One LSTM. 226 k parameters for (60, 310) and 5 labels, 87 k for (128, 40) and 2."""

    _name, _cell, _both = "lstm", nn.LSTM, False


class Gru(_Recurrent):
    """One GRU. 66 k parameters for (128, 40) and 2 labels."""

    _name, _cell, _both = "gru", nn.GRU, False


class BiLstm(_Recurrent):
    """One LSTM onward and one back. 175 k parameters for (128, 40) and 2 labels."""

    _name, _cell, _both = "bilstm", nn.LSTM, True


def _run(cell: nn.Module, x: Tensor) -> Tensor:
    # one row more than there are: for a batch of one row, runtimes take other kernels
    states: Tensor = cell(torch.cat((x, x[:1])))[0]
    return states[:-1]
