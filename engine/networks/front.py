"""The first thing a sequence meets: its padding, and scales that were settled on training data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.errors import DataError
from engine.networks.demands import need_one_of, sequence_shapes
from engine.networks.masked import normalise as per_window
from engine.networks.padding import Padding

__all__ = ["NORMALISE", "Front", "Intake", "statistics"]

NORMALISE = ("training", "window", "none")
_ROWS = 256  # windows that are summed at a time: in float64 they are twice as large
_CONSTANT = 1e-6  # of its mean: a feature that varies less does not vary


class Intake(nn.Module):
    """One input, filled and standardised feature by feature; what is invalid becomes zero.

    `normalise: training` takes (x - mean) / scale with the buffers `mean` and `scale`, which
    `settle` sets; `window` standardises each window over its own valid items on top of that;
    `none` takes the values as they are.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: str, n_features: int, padding: str, normalise: str) -> None:
        super().__init__()
        need_one_of(network, "normalise", normalise, NORMALISE)
        self._normalise = normalise
        self.padding = Padding(network, padding, n_features)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, features), (batch, time) bool to the same, the mask as numbers."""
        x, valid = self.padding(x, valid)
        there = valid.unsqueeze(2)
        if self._normalise != "none":
            x = (x - self.mean) / self.scale
        x = torch.where(there, x, torch.zeros_like(x))  # also NaN, which no product takes away
        if self._normalise == "window":
            x = per_window(x, valid)
        return x, valid.to(x.dtype)

    @torch.no_grad()
    def settle(self, name: str, x: Tensor, valid: Tensor) -> None:
        """Set the buffers from training data (rows, time, features) and (rows, time)."""
        mean, scale = statistics(name, x, valid)
        self.padding.padding_mean.copy_(mean)
        if self._normalise != "none":
            self.mean.copy_(mean)
            self.scale.copy_(scale)


class Front(nn.Module):
    """Inputs (time, features) that share their time axis, as one sequence of all their features.

    An item counts where any input has it; an input that has not is zero there: its mean.
    """

    def __init__(
        self,
        network: str,
        shapes: Mapping[str, tuple[int, ...]],
        padding: str,
        normalise: str,
    ) -> None:
        super().__init__()
        widths = sequence_shapes(network, shapes)
        self._names = tuple(widths)
        self.n_time = next(iter(shapes.values()))[0]
        self.n_features = sum(widths.values())
        self.intakes = nn.ModuleList(
            [Intake(network, width, padding, normalise) for width in widths.values()]
        )

    def forward(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """To (batch, time, features), zero where invalid, and the mask (batch, time) of 0 and 1."""
        found = [
            intake(inputs[name], valid[name])
            for name, intake in zip(self._names, self.intakes, strict=True)
        ]
        x, mask = found[0]
        for more, there in found[1:]:
            x, mask = torch.cat((x, more), 2), torch.maximum(mask, there)
        return x, mask

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set all buffers from the training part, {input: (rows, time, features)} and masks."""
        for name, intake in zip(self._names, self.intakes, strict=True):
            assert isinstance(intake, Intake)
            intake.settle(name, inputs[name], valid[name])


def statistics(name: str, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (features,) over all valid items; the deviation of a constant is 1."""
    n_valid = int(valid.sum())
    if not n_valid:
        raise DataError(f"no item of the input '{name}' is valid in the training part")
    parts = list(zip(torch.split(x, _ROWS), torch.split(valid.unsqueeze(2), _ROWS), strict=True))
    nothing = torch.zeros((), dtype=torch.float64, device=x.device)
    total = sum((torch.where(m, p.double(), nothing).sum((0, 1)) for p, m in parts), nothing)
    mean = total / n_valid
    squares = sum(
        (torch.where(m, p.double() - mean, nothing).square().sum((0, 1)) for p, m in parts),
        nothing,
    )
    scale = (squares / n_valid).sqrt()
    return mean, torch.where(scale > _CONSTANT * mean.abs(), scale, torch.ones_like(scale))
