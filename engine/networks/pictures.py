"""Encoders of single pictures: two small convolutional networks, and a ResNet-18."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.networks.demands import need_at_least, need_one_of

__all__ = ["ENCODERS", "Encoder", "standardised"]

ENCODERS = ("small", "resnet18", "residual")
_STAGES = (64, 128, 256, 512)  # channels of a ResNet-18
_GROWTH = (1, 2, 4, 6)  # channels of `residual`, in first ones
_FLAT = 1e-4  # added to a picture's variance: an empty one stays zero


def standardised(pictures: Tensor) -> Tensor:
    """Each picture to mean 0 and deviation 1: (n, height, width, c) to (n, c, height, width)."""
    x = pictures.permute(0, 3, 1, 2)
    whole = x.flatten(1, 2).unsqueeze(1)  # (n, 1, c * height, width)
    size = tuple(whole.shape[2:])
    mean = functional.avg_pool2d(whole, size)  # as a pooling layer: see mean_over_time
    variance = functional.avg_pool2d((whole - mean).square(), size)
    return (x - mean) / (variance + _FLAT).sqrt()


class Encoder(nn.Module):
    """A picture (height, width, channels) to its embedding (width,), by itself standardised.

    `small` has four stages of two 3x3 convolutions and a pooling step, from `first` channels on,
    doubled each time: 293 k parameters from 16. `residual` has a block with a shortcut in each of
    four stages, behind a pooled stem: 222 k from 16, at a quarter of the work. `resnet18` (He et
    al. 2016) has 11.17 M.
    """

    def __init__(self, network: str, encoder: str, n_channels: int, first: int) -> None:
        super().__init__()
        need_one_of(network, "encoder", encoder, ENCODERS)
        need_at_least(network, 1, width=first)
        if encoder == "small":
            self.stages, self.width = _small(n_channels, first), 8 * first
        elif encoder == "residual":
            self.stages, self.width = _residual(n_channels, first), _GROWTH[-1] * first
        else:
            self.stages, self.width = _resnet18(n_channels), _STAGES[-1]

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, height, width, channels) to (n, width)."""
        x = self.stages(standardised(pictures))
        return functional.avg_pool2d(x, tuple(x.shape[2:])).flatten(1)


def _small(n_channels: int, first: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = n_channels
    for stage in range(4):
        after = first * 2**stage
        for n_in in (before, after):
            layers += [nn.Conv2d(n_in, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)]
            layers.append(nn.ReLU())
        layers.append(nn.MaxPool2d(2))
        before = after
    return nn.Sequential(*layers)


def _residual(n_channels: int, first: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(n_channels, first, 3, 1, 1, bias=False)]
    layers += [nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(2), _Block(first, first, 1)]
    for before, after in pairwise(_GROWTH):
        layers.append(_Block(before * first, after * first, 2))
    return nn.Sequential(*layers)


def _resnet18(n_channels: int) -> nn.Sequential:
    before = _STAGES[0]
    layers: list[nn.Module] = [nn.Conv2d(n_channels, before, 7, 2, 3, bias=False)]
    layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for after in _STAGES:
        layers += [_Block(before, after, 1 if before == after else 2), _Block(after, after, 1)]
        before = after
    return nn.Sequential(*layers)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) to the same behind the stride."""
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(y)) + self.shortcut(x))
