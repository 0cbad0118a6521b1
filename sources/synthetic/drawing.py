"""Draws faces with numpy alone: soft-edged shapes, painted over each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.types import Array

__all__ = ["SIZE", "Looks", "draw"]

SIZE = 64
_PIXEL = 2.0 / SIZE  # the picture reaches from -1 to 1, rightward and downward
_EYE_ROWS, _MOUTH_ROWS = slice(12, 40), slice(34, 60)  # where these are, however the head sways
_SKINS = np.array([(250, 220, 195), (224, 172, 125), (165, 110, 72), (98, 62, 42)], float)
_HAIRS = np.array([(35, 28, 26), (95, 60, 35), (190, 140, 70), (150, 65, 35), (150, 150, 150)])
_WHITE, _DARK = np.array([245.0, 245.0, 240.0]), np.array([40.0, 28.0, 26.0])
_LIP, _INSIDE = np.array([175.0, 70.0, 75.0]), np.array([75.0, 20.0, 25.0])


@dataclass(frozen=True, slots=True)
class Looks:
    """One person's geometry, in half widths of the picture, and colours (3,)."""

    width: float
    height: float
    eyes_apart: float
    eyes_down: float
    mouth_down: float
    mouth_width: float
    brow: float  # thickness
    hairline: float
    skin: Array
    hair: Array
    iris: Array
    shirt: Array
    wall: Array

    @classmethod
    def of(cls, rng: np.random.Generator) -> Looks:
        """Somebody."""
        tone = rng.uniform(0.0, len(_SKINS) - 1.0)
        skin = [np.interp(tone, np.arange(len(_SKINS)), column) for column in _SKINS.T]
        return cls(
            width=rng.uniform(0.56, 0.66),
            height=rng.uniform(0.74, 0.82),
            eyes_apart=rng.uniform(0.24, 0.29),
            eyes_down=rng.uniform(-0.16, -0.09),
            mouth_down=rng.uniform(0.38, 0.45),
            mouth_width=rng.uniform(0.24, 0.31),
            brow=rng.uniform(0.03, 0.05),
            hairline=rng.uniform(-0.56, -0.46),
            skin=np.array(skin),
            hair=_HAIRS[rng.integers(len(_HAIRS))] * rng.uniform(0.8, 1.1),
            iris=rng.uniform((40, 50, 40), (90, 110, 150)),
            shirt=rng.uniform(40.0, 220.0, 3),
            wall=rng.uniform(150.0, 235.0, 3),
        )


def draw(looks: Looks, cues: Mapping[str, Array], pose: Array) -> Array:
    """float32 (3, time, SIZE, SIZE), red green and blue, about 0 to 255.

    `cues` has (time,) each of smile, mouth, eyes, brows and slant; `pose` (time, 4) says how far
    the head is to the right, down, tilted (radians) and nearer (a share).
    """
    x, y = _places(pose)
    planes = np.empty((3, *x.shape), np.float32)
    planes[:] = looks.wall[:, None, None, None]
    _head(planes, looks, x, y)
    rows = np.s_[:, _EYE_ROWS]
    _eyes(planes[:, :, _EYE_ROWS], looks, cues, np.abs(x[rows]), y[rows])
    rows = np.s_[:, _MOUTH_ROWS]
    _mouth(planes[:, :, _MOUTH_ROWS], looks, cues, x[rows], y[rows])
    return planes


def _places(pose: Array) -> tuple[Array, Array]:
    """Where each pixel lies on the head: rightward and downward, (time, SIZE, SIZE) each."""
    right, down, tilt, nearer = pose.astype(np.float32).T[:, :, None, None]
    line = (np.arange(SIZE, dtype=np.float32) + 0.5) * np.float32(_PIXEL) - 1
    x, y = line[None, None, :] - right, line[None, :, None] - down - np.float32(0.04)
    cos, sin = np.cos(tilt) / (1 + nearer), np.sin(tilt) / (1 + nearer)
    return cos * x + sin * y, cos * y - sin * x


def _paint(planes: Array, colour: Array, cover: Array) -> None:
    """Lay a colour (3,) over `planes` where `cover` (time, rows, columns) is 1."""
    for plane, level in zip(planes, colour.astype(np.float32), strict=True):
        plane += cover * (level - plane)


def _cover(outside: Array) -> Array:
    """1 well inside a shape, 0 outside, between over a pixel; overwrites what it is given."""
    outside *= np.float32(-1 / _PIXEL)
    outside += np.float32(0.5)
    return np.asarray(np.clip(outside, 0.0, 1.0, out=outside))


def _ellipse(x: Array, y: Array, width: Array | float, height: Array | float) -> Array:
    """The cover of an ellipse with these half axes around the origin."""
    small = np.minimum(width, height).astype(np.float32)
    away = np.square(x / np.float32(width)) if np.ndim(width) == 0 else np.square(x / width)
    away = away + np.square(y / height)
    np.sqrt(away, out=away)
    away -= np.float32(1.0)
    away *= small
    return _cover(away)


def _head(planes: Array, looks: Looks, x: Array, y: Array) -> None:
    """Shoulders, hair, ears, face, fringe, nose."""
    shade = 0.82 * looks.skin
    low = np.s_[:, SIZE * 3 // 4 :]
    _paint(planes[:, *low], looks.shirt, _ellipse(x[low], y[low] - 1.35, 0.95, 0.55))
    _paint(planes[:, *low], shade, _ellipse(x[low], y[low] - 0.75, 0.24, 0.34))
    _paint(planes, looks.hair, _ellipse(x, y + 0.12, looks.width + 0.1, looks.height + 0.04))
    middle = np.s_[:, SIZE // 4 : SIZE * 3 // 4]
    ears = _ellipse(np.abs(x[middle]) - looks.width, y[middle], 0.1, 0.15)
    _paint(planes[:, *middle], shade, ears)
    below_fringe = _cover(np.float32(looks.hairline) + 0.25 * x * x - y)
    _paint(planes, looks.skin, _ellipse(x, y, looks.width, looks.height) * below_fringe)
    _paint(planes[:, *middle], shade, _ellipse(x[middle], y[middle] - 0.13, 0.055, 0.07))


def _eyes(planes: Array, looks: Looks, cues: Mapping[str, Array], x: Array, y: Array) -> None:
    """Both eyes and brows at once: `x` is the distance from the middle line."""
    opened, lifted, slant = (_column(cues[name]) for name in ("eyes", "brows", "slant"))
    x = x - np.float32(looks.eyes_apart)
    down = y - np.float32(looks.eyes_down)
    lid = _ellipse(x, down, 0.145, np.maximum(opened, 0.0) + np.float32(0.03))
    _paint(planes, _DARK, lid)
    white = _ellipse(x, down, 0.125, np.maximum(opened, 0.004))
    _paint(planes, _WHITE, white)
    _paint(planes, looks.iris, white * _ellipse(x, down, 0.08, 0.08))
    _paint(planes, _DARK, white * _ellipse(x, down, 0.042, 0.042))
    _paint(planes, _WHITE, white * _ellipse(x + 0.03, down + 0.03, 0.02, 0.02))
    # The inner end sinks with the slant; the brow bends down at both ends.
    line = down + np.float32(0.2) + lifted + slant * x - np.float32(1.2) * x * x
    brow = np.maximum(np.abs(line) - np.float32(looks.brow), np.abs(x) - np.float32(0.155))
    _paint(planes, 0.8 * looks.hair, _cover(brow))


def _mouth(planes: Array, looks: Looks, cues: Mapping[str, Array], x: Array, y: Array) -> None:
    """Lips, what is between them, and teeth."""
    smile, opened = _column(cues["smile"]), np.maximum(_column(cues["mouth"]), 0.0)
    across = x / (np.float32(looks.mouth_width) + np.float32(0.3) * smile)
    square = across * across
    line = y - np.float32(looks.mouth_down) + smile * (2 * square - 1)
    gap = opened * np.maximum(1 - square, 0)
    ends = (np.abs(across) - 1) * np.float32(looks.mouth_width)
    inside = np.abs(line) - gap
    lips = _cover(np.maximum(inside - np.float32(0.035), ends))
    _paint(planes, 0.6 * looks.skin + 0.4 * _LIP - 25.0, lips)
    hollow = _cover(inside) * lips
    _paint(planes, _INSIDE, hollow)
    teeth = hollow * _cover(line + np.float32(0.25) * gap)
    _paint(planes, _WHITE, teeth * np.minimum(opened * 12, 1))


def _column(values: Array) -> Array:
    """(time,) as float32 (time, 1, 1)."""
    return np.asarray(values.astype(np.float32)[:, None, None])
