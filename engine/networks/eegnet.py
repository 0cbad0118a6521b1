"""EEGNet: filters over time, then over channels, few parameters (Lawhern et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from engine.networks.demands import need_at_least
from engine.networks.front import Front
from engine.networks.masked import Dense, grouped

__all__ = ["EegNet"]

_FIRST, _SECOND = 4, 8  # items that become one, after each part
_SEPARABLE = 16  # items of the second filter over time
_LEAST = 1e-4


class EegNet(nn.Module):
    """A window (time, channels) to logits: `filters` over time, `depth` over channels for each.

    `kernel` items of the first filter are half a second at 128 Hz. The mean of every 4, then of
    every 8 items counts valid ones alone. Without the norm limits of the paper: weight decay
    does their work. 2.1 k parameters for (512, 32) and 2 labels.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        filters: int = 8,
        depth: int = 2,
        kernel: int = 64,
        dropout: float = 0.25,
        padding: str = "mask",
        normalise: str = "training",
    ) -> None:
        super().__init__()
        need_at_least("eegnet", 1, filters=filters, depth=depth, kernel=kernel)
        self.front = Front("eegnet", shapes, padding, normalise)
        n_maps = filters * depth
        self._kernel = kernel
        self._n_items = -(-self.front.n_time // _FIRST)
        self._n_items = -(-self._n_items // _SECOND)
        self.over_time = nn.Conv2d(1, filters, (1, kernel), bias=False)
        self.time_norm = nn.BatchNorm2d(filters)
        self.over_channels = nn.Conv2d(
            filters, n_maps, (self.front.n_features, 1), groups=filters, bias=False
        )
        self.channel_norm = nn.BatchNorm1d(n_maps)
        self.each = nn.Conv1d(n_maps, n_maps, _SEPARABLE, groups=n_maps, bias=False)
        self.mix = nn.Conv1d(n_maps, n_maps, 1, bias=False)
        self.mix_norm = nn.BatchNorm1d(n_maps)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(n_maps * self._n_items, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, channels)}, {input: (batch, time)} -> (batch, labels)."""
        x, mask = self.front(inputs, valid)
        x = x.transpose(1, 2).unsqueeze(1)  # (batch, filters, channels, time)
        x = self.time_norm(self.over_time(_around(x, self._kernel)))
        x = self.channel_norm(self.over_channels(x).squeeze(2))  # (batch, maps, time)
        x, mask = _means(functional.elu(x), mask, _FIRST)
        x = self.mix_norm(self.mix(self.each(_around(self.dropout(x), _SEPARABLE))))
        x, mask = _means(functional.elu(x), mask, _SECOND)
        # (batch, maps, items) -> (batch, maps * items), of a shorter window with zeros behind
        x = functional.pad(self.dropout(x), (0, self._n_items - x.shape[2])).flatten(1)
        logits: Tensor = self.layer(x)
        return logits

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set the scales from the training part, {input: (rows, time, channels)} and masks."""
        self.front.settle(inputs, valid)


def _around(x: Tensor, kernel: int) -> Tensor:
    """Zeros on both sides of the last axis, so that a filter of `kernel` gives as many items."""
    return functional.pad(x, ((kernel - 1) // 2, kernel // 2))


def _means(x: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The mean over the valid ones of every `size` items: (batch, maps, time) and its mask."""
    there = mask.unsqueeze(1)
    share = functional.avg_pool1d(grouped(there, size), size)
    mean = functional.avg_pool1d(grouped(x * there, size), size) / share.clamp(min=_LEAST)
    return mean, (share > 0).to(mask.dtype).squeeze(1)
