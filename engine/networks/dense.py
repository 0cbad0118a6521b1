"""Dense layers over a window's features, or over a window laid out flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import ConfigError
from engine.networks.front import Intake
from engine.networks.masked import Dense

__all__ = ["Dnn"]


class Dnn(nn.Module):
    """All inputs' values, standardised and side by side, through layers of `hidden` units.

    An input is (features,) or (time, *item); each feature is standardised over all items of the
    training data, and what is invalid is zero, its mean. Each layer has batch normalisation,
    ReLU and dropout. 293 k parameters for 310 features and 5 labels.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        hidden: Sequence[int] = (512, 256),
        dropout: float = 0.5,
        padding: str = "mask",
        normalise: str = "training",
    ) -> None:
        super().__init__()
        if not shapes or any(not prod(shape) for shape in shapes.values()):
            raise ConfigError(
                "dnn reads inputs of one value or more, (features,) or (time, *item); "
                f"it was given {', '.join(f'{n} {s}' for n, s in shapes.items()) or 'none'}"
            )
        if not hidden or min(hidden) < 1:
            raise ConfigError(f"dnn: hidden must be numbers of 1 or more, not {list(hidden)}")
        self._shapes = dict(shapes)
        self.intakes = nn.ModuleList(
            [Intake("dnn", prod(s[1:]) if s[1:] else s[0], padding, normalise)
             for s in shapes.values()]
        )  # fmt: skip
        before = sum(prod(shape) for shape in shapes.values())
        layers: list[nn.Module] = []
        for n_units in hidden:
            layers += [Dense(before, n_units, bias=False), nn.BatchNorm1d(n_units), nn.ReLU()]
            layers.append(nn.Dropout(dropout))
            before = n_units
        self.layers = nn.Sequential(*layers)
        self.layer = Dense(before, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, ...)}, {input: (batch, time)} -> (batch, labels)."""
        parts = []
        for (name, shape), intake in zip(self._shapes.items(), self.intakes, strict=True):
            x, _ = intake(*_items(inputs[name], valid.get(name)))
            x = x.flatten(1)
            parts.append(functional.pad(x, (0, prod(shape) - x.shape[1])))  # of a shorter window
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        logits: Tensor = self.layer(self.layers(x))
        return logits

    def settle(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Set the scales from the training part, {input: (rows, ...)} and {input: (rows, time)}."""
        for name, intake in zip(self._shapes, self.intakes, strict=True):
            assert isinstance(intake, Intake)
            intake.settle(name, *_items(inputs[name], valid.get(name)))


def _items(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """(batch, features) as one valid item; (batch, time, *item) as (batch, time, features)."""
    if x.dim() == 2:
        return x.unsqueeze(1), x.new_ones((x.shape[0], 1), dtype=torch.bool)
    assert valid is not None
    return x.flatten(2), valid
