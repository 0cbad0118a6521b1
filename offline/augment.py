"""What makes training windows differ from each other as sessions, rooms and devices do.

Each takes windows `x` (n, time, *item) or feature rows (n, features), `valid` (n, time), a `Chance`
to draw from and what is `Typical` of the training part, and gives windows and masks. What a window
becomes depends on seed, epoch and its own number, never on the others of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.types import Array
from offline.chance import Chance

__all__ = [
    "AUGMENTS",
    "GIVEN",
    "Typical",
    "channel_drop",
    "colour",
    "coloured_noise",
    "crop",
    "cutout",
    "flip",
    "gain",
    "light",
    "mixing",
    "noise",
    "sign_flip",
    "spec_augment",
    "speed",
    "time_mask",
    "turn",
]

_NEPER_PER_DB = math.log(10.0) / 10.0  # of a power's natural logarithm
_Windows: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Typical:
    """Mean and deviation (*item) of an input over the training part."""

    mean: Tensor
    sd: Tensor


def noise(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *,
    amount: float = 0.1, share: float = 1.0,
) -> _Windows:  # fmt: skip
    """White noise of `amount` typical deviations on a `share` of the windows."""
    loud = amount * (chance.uniform() < share).float()
    return x + _wide(loud, x) * typical.sd * chance.normal(*x.shape[1:]), valid


def channel_drop(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *, share: float = 0.1
) -> _Windows:
    """Every channel (last axis) stands at its mean with the chance `share`: a lost electrode."""
    lost = chance.uniform(x.shape[-1]) < share
    return torch.where(_between(lost, x), typical.mean, x), valid


def gain(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *, db: float = 6.0
) -> _Windows:
    """Another amplitude, by up to `db` either way."""
    return x * _wide(10.0 ** (_either_way(chance) * db / 20.0), x), valid


def sign_flip(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *, share: float = 0.5
) -> _Windows:
    """A `share` of the windows upside down."""
    return x * _wide(torch.where(chance.uniform() < share, -1.0, 1.0), x), valid


def time_mask(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *,
    longest: float = 0.2, n: int = 1,
) -> _Windows:  # fmt: skip
    """`n` stretches of up to the share `longest` of the window become invalid, and typical."""
    for _ in range(n):
        gone = _stretch(valid.shape[1], longest * valid.shape[1], chance)
        valid = valid & ~gone
        x = torch.where(_after(gone, x), typical.mean, x)
    return x, valid


def speed(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *,
    slowest: float = 0.9, fastest: float = 1.1,
) -> _Windows:  # fmt: skip
    """Time runs faster or slower, by linear interpolation; what then lacks is invalid."""
    n_time = valid.shape[1]
    factor = slowest + (fastest - slowest) * chance.uniform()
    at = factor[:, None] * torch.arange(n_time, device=x.device)
    before = at.long().clamp(max=n_time - 1)
    after = (before + 1).clamp(max=n_time - 1)
    row = torch.arange(len(x), device=x.device)[:, None]
    there = (at <= n_time - 1) & valid[row, before] & valid[row, after]
    part = _after(at - before, x)
    return _after(there.float(), x) * ((1 - part) * x[row, before] + part * x[row, after]), there


def colour(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical | None = None, *,
    tilt_db: float = 6.0, gain_db: float = 6.0,
) -> _Windows:  # fmt: skip
    """Log power (n, time, bins) from another distance and microphone: a level and a slope."""
    ramp = torch.linspace(-1.0, 1.0, x.shape[2], device=x.device)
    level = gain_db * _either_way(chance)[:, None] + tilt_db * _either_way(chance)[:, None] * ramp
    return x + _NEPER_PER_DB * level[:, None, :], valid


def coloured_noise(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical | None = None, *,
    share: float = 0.35, loudest_db: float = 8.0, softest_db: float = 40.0,
) -> _Windows:  # fmt: skip
    """Log power (n, time, bins) with noise of a random slope under a `share` of the windows.

    The signal-to-noise ratio is between `loudest_db` and `softest_db`, over valid frames.
    """
    power, mask = x.exp(), valid[:, :, None]
    n_bins = x.shape[2]
    level = (power * mask).sum((1, 2)) / (mask.sum((1, 2)) * n_bins).clamp(min=1)
    ramp = torch.linspace(-1.0, 1.0, n_bins, device=x.device)
    spectrum = ((3.0 * chance.uniform()[:, None] - 2.0) * ramp).exp()
    spectrum = spectrum / spectrum.mean(1, keepdim=True)
    snr_db = loudest_db + (softest_db - loudest_db) * chance.uniform()
    loud = level * 10.0 ** (-snr_db / 10.0) * (chance.uniform() < share)
    # the power of noise in one bin and frame, near its mean: a gamma variable of shape 3
    steady = -(1.0 - chance.uniform(3, *x.shape[1:])).log().sum(1) / 3.0
    mixed = (power + (loud[:, None] * spectrum)[:, None, :] * steady).log()
    return torch.where(loud[:, None, None] > 0, mixed, x), valid


def spec_augment(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical | None = None, *,
    n: int = 2, longest: int = 25, widest: int = 8,
) -> _Windows:  # fmt: skip
    """SpecAugment (Park et al. 2019): stretches of time become invalid, bands lose their shape."""
    n_bins = x.shape[2]
    for _ in range(n):
        rich = valid.sum(1, keepdim=True) > 3 * longest
        valid = valid & ~(rich & _stretch(valid.shape[1], longest, chance))
        width = 1 + (chance.uniform() * widest).long().clamp(max=n_bins - 1)
        low = (chance.uniform() * (n_bins - width + 1)).long()
        at = torch.arange(n_bins, device=x.device)
        band = (at >= low[:, None]) & (at < (low + width)[:, None])
        mean = (x * band[:, None, :]).sum((1, 2)) / (width * x.shape[1])
        x = torch.where(band[:, None, :], mean[:, None, None], x)
    return x, valid


def flip(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *, share: float = 0.5
) -> _Windows:
    """A `share` of the windows of pictures (n, time, height, width, colours) in the mirror."""
    return torch.where(_wide(chance.uniform() < share, x), x.flip(3), x), valid


def crop(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *, pixels: int = 4
) -> _Windows:
    """Pictures moved by up to `pixels`, all of a window alike; the edge is repeated."""
    for axis in (2, 3):
        moved = ((2 * pixels + 1) * chance.uniform()).long() - pixels
        at = torch.arange(x.shape[axis], device=x.device) + moved[:, None]
        at = at.clamp(0, x.shape[axis] - 1)
        shape = [len(x), *(-1 if i == axis else 1 for i in range(1, x.dim()))]
        x = x.gather(axis, at.reshape(shape).expand_as(x))
    return x, valid


def turn(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *,
    degrees: float = 12.0, zoom: float = 0.12,
) -> _Windows:  # fmt: skip
    """Pictures turned by up to `degrees` and larger or smaller by up to the share `zoom`, all of a
    window alike; the edge is repeated."""
    angle = _either_way(chance) * math.radians(degrees)
    size = (_either_way(chance) * math.log1p(zoom)).exp()
    rows = [[angle.cos(), -angle.sin(), 0 * angle], [angle.sin(), angle.cos(), 0 * angle]]
    place = torch.stack([torch.stack(row, 1) for row in rows], 1) * size[:, None, None]
    # (n, time, height, width, colours) -> (n, time * colours, height, width)
    flat = x.permute(0, 1, 4, 2, 3).flatten(1, 2)
    grid = functional.affine_grid(place, list(flat.shape), align_corners=False)
    turned = functional.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return turned.reshape(*x.shape[:2], x.shape[4], *x.shape[2:4]).permute(0, 1, 3, 4, 2), valid


def light(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *,
    contrast: float = 0.2, brightness: float = 0.2,
) -> _Windows:  # fmt: skip
    """Pictures in another light: contrast by a share, brightness in typical deviations."""
    mean, sd = typical.mean.mean(), typical.sd.mean()
    factor = _wide(1.0 + contrast * _either_way(chance), x)
    return mean + factor * (x - mean) + _wide(brightness * _either_way(chance), x) * sd, valid


def cutout(
    x: Tensor, valid: Tensor, chance: Chance, typical: Typical, *,
    side: int = 12, share: float = 0.5,
) -> _Windows:  # fmt: skip
    """A typical square hides part of a `share` of the pictures (DeVries and Taylor 2017)."""
    hidden = _wide(chance.uniform() < share, x)
    for axis in (2, 3):
        low = (chance.uniform() * (x.shape[axis] + side)).long() - side
        at = torch.arange(x.shape[axis], device=x.device)
        inside = (at >= low[:, None]) & (at < (low + side)[:, None])
        shape = [len(x), *(-1 if i == axis else 1 for i in range(1, x.dim()))]
        hidden = hidden & inside.reshape(shape)
    return torch.where(hidden, typical.mean, x), valid


def mixing(n: int, rng: np.random.Generator, alpha: float) -> tuple[Array, Array]:
    """Mixup (Zhang et al. 2018): the share of each row (n,) float32, and its partner (n,)."""
    partner = rng.permutation(n)
    if not alpha:
        return np.ones(n, np.float32), partner
    share = rng.beta(alpha, alpha, n)
    return np.maximum(share, 1.0 - share).astype(np.float32), partner


AUGMENTS: Mapping[str, Callable[..., _Windows]] = {
    made.__name__: made
    for made in (
        noise, channel_drop, gain, sign_flip, time_mask, speed, colour, coloured_noise,
        spec_augment, flip, crop, turn, light, cutout,
    )
}  # fmt: skip
GIVEN = ("x", "valid", "chance", "typical")  # what is not for a config to say


def _stretch(n_time: int, longest: float, chance: Chance) -> Tensor:
    """(n, time) bool: one stretch each, of a length up to `longest`."""
    length = (chance.uniform() * (min(longest, n_time) + 1)).long().clamp(max=n_time)
    first = (chance.uniform() * (n_time - length + 1)).long()
    at = torch.arange(n_time, device=length.device)
    return (at >= first[:, None]) & (at < (first + length)[:, None])


def _either_way(chance: Chance) -> Tensor:
    """(n,) in [-1, 1)."""
    return 2.0 * chance.uniform() - 1.0


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """(n,) so that it spreads over all of `x`."""
    return values.reshape(-1, *[1] * (x.dim() - 1))


def _after(values: Tensor, x: Tensor) -> Tensor:
    """(n, time) so that it spreads over the items of `x`."""
    return values.reshape(*values.shape, *[1] * (x.dim() - 2))


def _between(values: Tensor, x: Tensor) -> Tensor:
    """(n, channels) so that it spreads over all axes between."""
    return values.reshape(len(values), *[1] * (x.dim() - 2), values.shape[1])
