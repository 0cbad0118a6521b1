"""Random numbers as a pure function of seed, epoch and sample: no order, no state, any device."""

from __future__ import annotations

import math
from math import prod

import torch
from torch import Tensor

__all__ = ["Chance"]

# splitmix64 (Steele, Lea and Flood 2014), its unsigned constants as the signed ones of torch
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_BITS = 24  # what a float32 holds


class Chance:
    """Draws for each of some samples; a second draw is independent of the first.

    `samples` (n,) int64 are the samples' own numbers: what is drawn for one does not depend on
    which others are asked for beside it.
    """

    def __init__(self, seed: int, epoch: int, samples: Tensor) -> None:
        key = _mixed(torch.full_like(samples, seed) + _STEP)
        self._key = _mixed(_mixed(key + epoch) + samples)
        self._used = 0

    def uniform(self, *shape: int) -> Tensor:
        """(n, *shape) float32 in [0, 1)."""
        return _share(self._bits(shape) >> (64 - _BITS))

    def normal(self, *shape: int) -> Tensor:
        """(n, *shape) float32 of mean 0 and deviation 1, by Box and Muller (1958)."""
        bits = self._bits(shape)
        radius = (-2.0 * (1.0 - _share(bits >> (64 - _BITS))).log()).sqrt()
        return radius * (2.0 * math.pi * _share(bits >> (64 - 2 * _BITS))).cos()

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        n = prod(shape)
        place = torch.arange(self._used + 1, self._used + n + 1, device=self._key.device)
        self._used += n
        return _mixed(self._key[:, None] + place * _STEP).reshape(-1, *shape)


def _share(bits: Tensor) -> Tensor:
    """The lowest 24 bits as a number in [0, 1)."""
    return (bits & ((1 << _BITS) - 1)).float() / (1 << _BITS)


def _mixed(x: Tensor) -> Tensor:
    """splitmix64's finaliser: every bit of the result depends on every bit of `x`."""
    x = (x ^ _right(x, 30)) * _FIRST
    x = (x ^ _right(x, 27)) * _SECOND
    return x ^ _right(x, 31)


def _right(x: Tensor, n: int) -> Tensor:
    """A shift that brings zeros from the left, also for negative numbers."""
    return (x >> n) & ((1 << (64 - n)) - 1)
