"""What stands where a sequence has no valid item: nothing that counts, or a value made up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.networks.demands import need_one_of
from engine.networks.masked import mean_over_valid

__all__ = ["PADDINGS", "Padding"]

PADDINGS = ("mask", "zero", "average", "own_average", "edge")


class Padding(nn.Module):
    """Fills what is invalid in a sequence, and says what counts from there on.

    `mask` leaves the mask as it is: the network reads valid items alone. The others fill invalid
    items and call every item valid, as networks without masks are trained: `zero` with 0 in the
    input's own unit, `average` with the training data's mean (the buffer `padding_mean`),
    `own_average` with the window's mean over its valid items, `edge` with the valid item before
    it (the first one, where there is none before). A window without a valid item gets zeros.
    """

    padding_mean: Tensor

    def __init__(self, network: str, padding: str, n_features: int) -> None:
        super().__init__()
        need_one_of(network, "padding", padding, PADDINGS)
        self._padding = padding
        self.register_buffer("padding_mean", torch.zeros(n_features))

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, features) and (batch, time) bool to the same."""
        if self._padding == "mask":
            return x, valid
        there = valid.unsqueeze(2)
        filling = torch.zeros_like(x)
        if self._padding == "average":
            filling = self.padding_mean.expand_as(x)
        elif self._padding == "own_average":
            known = torch.where(there, x, filling).transpose(1, 2)
            filling = mean_over_valid(known, valid.to(x.dtype)).unsqueeze(1).expand_as(x)
        elif self._padding == "edge":
            known = torch.where(there, x, filling)
            filling = known.gather(1, _nearest(valid).unsqueeze(2).expand_as(x))
        return torch.where(there, x, filling), torch.ones_like(valid)


def _nearest(valid: Tensor) -> Tensor:
    """(batch, time) bool to the index of the last valid item up to each, else of the first."""
    n_time = valid.shape[1]
    at = torch.arange(n_time, device=valid.device).unsqueeze(0)
    before = torch.where(valid, at, torch.full_like(at, -1))
    step = 1
    while step < n_time:  # a running maximum, in log2(time) strides
        before = torch.maximum(before, functional.pad(before, (step, 0), value=-1)[:, :n_time])
        step *= 2
    first = torch.where(valid, at, torch.full_like(at, n_time - 1)).amin(1, keepdim=True)
    return torch.where(before < 0, first, before)
