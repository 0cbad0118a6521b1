"""Portraits: shaded faces in colour that a detector of real faces finds, with a free expression.

Beside `drawing`, whose faces are small and flat, these are made for whatever looks for faces
first: shadow in the eye sockets, a bright bridge of the nose, light cheeks, a dark mouth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from engine.types import Array

__all__ = ["Expression", "Sitter", "portrait"]

_SKINS = np.array([(196, 214, 242), (140, 180, 226), (92, 128, 180), (62, 86, 126)], float)
_HAIRS = np.array([(26, 28, 35), (35, 60, 95), (60, 120, 170), (40, 60, 120), (150, 150, 150)])
_WHITE, _DARK = (205, 212, 216), (28, 26, 34)
_POINTS = 24  # of a curve
_SHIFT = 4  # binary places of a coordinate: edges fall between pixels
_NOISE = 35  # of the camera: the larger, the less of it


@dataclass(frozen=True, slots=True)
class Expression:
    """How a face is moved, each about -1 to 1, 0 at rest; named after the action units of Ekman
    and Friesen that it stands for."""

    smile: float = 0.0  # corners of the mouth: lifted (12) or sunk (15)
    open: float = 0.0  # the jaw: dropped (26) or the lips pressed (24)
    wide: float = 0.0  # eyes: wide (5) or narrowed (7)
    brows: float = 0.0  # brows: raised (1 + 2) or lowered (4)
    slant: float = 0.0  # inner ends of the brows: drawn down and together (4) or lifted (1)
    wrinkle: float = 0.0  # the nose (9), and with it the upper lip (10)

    def values(self) -> tuple[float, ...]:
        """The numbers in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Sitter:
    """One person's looks: colours (3,) blue green red, and lengths in half heads."""

    skin: Array
    hair: Array
    iris: Array
    shirt: Array
    wall: Array
    width: float
    eyes_apart: float
    mouth_down: float
    mouth_width: float
    brow: float  # thickness
    hairline: float

    @classmethod
    def of(cls, rng: np.random.Generator) -> Sitter:
        """Somebody."""
        tone = rng.uniform(0.0, len(_SKINS) - 1.0)
        skin = [np.interp(tone, np.arange(len(_SKINS)), column) for column in _SKINS.T]
        return cls(
            skin=np.array(skin),
            hair=_HAIRS[rng.integers(len(_HAIRS))] * rng.uniform(0.7, 1.0),
            iris=rng.uniform((40, 50, 40), (130, 110, 90)),
            shirt=rng.uniform(40.0, 200.0, 3),
            wall=rng.uniform(120.0, 220.0, 3),
            width=rng.uniform(0.72, 0.80),
            eyes_apart=rng.uniform(0.32, 0.37),
            mouth_down=rng.uniform(0.46, 0.52),
            mouth_width=rng.uniform(0.27, 0.33),
            brow=rng.uniform(0.045, 0.065),
            hairline=rng.uniform(-0.72, -0.62),
        )


def portrait(
    sitter: Sitter,
    expression: Expression,
    size: tuple[int, int],
    rng: np.random.Generator,
    pose: Sequence[float] = (0.0, 0.0, 0.0),
) -> Array:
    """A picture of `size` (width, height) pixels: (height, width, 3) uint8, blue green red.

    `pose` says how far the head is to the right and down, in half heads, and tilted, in radians.
    The head takes seven tenths of the picture's height; `rng` gives the camera's noise.
    """
    import cv2

    place = _Place(*size)
    picture: Array = np.empty((place.height, place.width, 3), np.uint8)
    picture[:] = np.clip(sitter.wall, 0, 255).astype(np.uint8)
    _head(picture, place, sitter)
    lit = picture * _light(place, sitter.width, sitter.eyes_apart)
    picture = np.minimum(lit, 255).astype(np.uint8)
    _eyes(picture, place, sitter, expression)
    _nose(picture, place, sitter, expression)
    _mouth(picture, place, sitter, expression)
    right, down, tilt = pose
    turn: Array = cv2.getRotationMatrix2D((place.x, place.y), -np.degrees(tilt), 1.0)
    turn[:, 2] += np.array([right, down]) * place.half
    picture = cv2.warpAffine(picture, turn, size, borderMode=cv2.BORDER_REPLICATE)
    picture = cv2.GaussianBlur(picture, (0, 0), max(0.4, 0.004 * place.height))
    some, other = rng.integers(0, 256, (2, *picture.shape), np.uint8).astype(np.int16)
    grain = (some - other) // _NOISE  # 104 / _NOISE levels, at a tenth of what Gaussian ones take
    return np.asarray(np.clip(picture + grain, 0, 255).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the head is in a picture of `width` and `height` pixels."""

    width: int
    height: int

    @property
    def x(self) -> float:
        """Its middle, in pixels rightward."""
        return self.width / 2.0

    @property
    def y(self) -> float:
        """Its middle, in pixels downward."""
        return 0.52 * self.height

    @property
    def half(self) -> float:
        """Half its height in pixels: the unit in which a face is drawn."""
        return 0.35 * self.height

    def points(self, x: Array, y: Array) -> Array:
        """Places on the head, in half heads rightward and downward, as cv2 takes them."""
        points = np.stack([self.x + self.half * x, self.y + self.half * y], axis=-1)
        return np.asarray(np.round(points * 2**_SHIFT).astype(np.int32))


@lru_cache(maxsize=64)
def _light(place: _Place, width: float, eyes_apart: float) -> Array:
    """(height, width, 1): the light from the front on a face so wide, 1 being its colour as it is.

    Eye sockets and flanks lie in the dark; nose, cheeks and forehead are bright.
    """
    y, x = np.mgrid[0 : place.height, 0 : place.width]
    x, y = (x - place.x) / place.half, (y - place.y) / place.half

    def spot(at_x: float, at_y: float, wide: float, high: float) -> Array:
        return np.asarray(np.exp(-(((x - at_x) / wide) ** 2) - ((y - at_y) / high) ** 2))

    light = 0.16 * spot(0.0, -0.05, 0.07, 0.3) + 0.08 * spot(0.0, -0.45, 0.4, 0.14)
    light -= 0.14 * spot(0.0, 0.98, 0.5, 0.12)
    for side in (-1, 1):
        light -= 0.48 * spot(side * eyes_apart, -0.2, 0.24, 0.15)
        light += 0.14 * spot(side * 0.38, 0.2, 0.2, 0.16)
        light -= 0.22 * spot(side * (width - 0.02), 0.2, 0.12, 0.7)
    inside = 1.0 / (1.0 + np.exp(40.0 * (np.hypot(x / (width + 0.04), y / 1.02) - 1.0)))
    return np.asarray(np.maximum(1.0 + light * inside, 0.0).astype(np.float32)[..., None])


def _fill(
    picture: Array, place: _Place, colour: Sequence[float] | Array, x: Array, y: Array
) -> None:
    import cv2

    levels = tuple(float(level) for level in np.clip(colour, 0, 255))
    cv2.fillPoly(picture, [place.points(x, y)], levels, cv2.LINE_AA, _SHIFT)


def _oval(x: float, y: float, width: float, height: float) -> tuple[Array, Array]:
    turn = np.linspace(0.0, 2 * np.pi, 2 * _POINTS, endpoint=False)
    return x + width * np.cos(turn), y + height * np.sin(turn)


def _band(x: Array, middle: Array, thick: Array | float) -> tuple[Array, Array]:
    """The outline of what lies within `thick` of the curve `middle`."""
    return np.concatenate([x, x[::-1]]), np.concatenate([middle - thick, (middle + thick)[::-1]])


def _head(picture: Array, place: _Place, sitter: Sitter) -> None:
    """Shoulders, neck, hair, ears, face, fringe."""
    shade = 0.72 * sitter.skin
    _fill(picture, place, sitter.shirt, *_oval(0.0, 1.75, 1.25, 0.75))
    _fill(picture, place, shade, *_oval(0.0, 1.0, 0.36, 0.42))
    _fill(picture, place, sitter.hair, *_oval(0.0, -0.16, sitter.width + 0.12, 0.98))
    for side in (-1, 1):
        _fill(picture, place, shade, *_oval(side * sitter.width, 0.02, 0.10, 0.2))
    turn = np.linspace(0.0, 2 * np.pi, 4 * _POINTS, endpoint=False)
    x = sitter.width * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.9
    y = 0.98 * np.sin(turn)
    x = x * np.where(y > 0.3, 1.0 - 0.25 * np.maximum(y - 0.3, 0.0), 1.0)  # towards the chin
    hairline = sitter.hairline + 0.22 * (x / sitter.width) ** 2
    _fill(picture, place, sitter.skin, x, np.maximum(y, hairline))


def _eyes(picture: Array, place: _Place, sitter: Sitter, face: Expression) -> None:
    """Both eyes and brows."""
    opened = max(0.054 + 0.026 * face.wide - 0.010 * face.wrinkle, 0.01)
    across = np.linspace(-1.0, 1.0, _POINTS)
    arch = np.sqrt(np.maximum(1.0 - across**2, 0.0))
    for side in (-1, 1):
        x = side * sitter.eyes_apart + 0.155 * across
        _fill(picture, place, _DARK, *_band(x, -0.16 + 0.0 * x, (opened + 0.03) * arch + 0.004))
        _fill(picture, place, _WHITE, *_band(x, -0.155 + 0.0 * x, opened * arch))
        tall = min(0.075, opened)
        _fill(picture, place, sitter.iris, *_oval(side * sitter.eyes_apart, -0.155, 0.08, tall))
        tall = min(0.035, opened)
        _fill(picture, place, _DARK, *_oval(side * sitter.eyes_apart, -0.155, 0.035, tall))
        inner = -side * across  # 1 at the nose, -1 at the temple
        level = -0.32 - 0.06 * face.brows + 0.02 * face.wrinkle
        line = level + 0.085 * face.slant * inner + 0.035 * across**2
        x = side * (sitter.eyes_apart - 0.03 * face.slant) + 0.2 * across
        taper = sitter.brow * (0.55 + 0.45 * arch)
        _fill(picture, place, 0.55 * sitter.hair, *_band(x, line, taper))


def _nose(picture: Array, place: _Place, sitter: Sitter, face: Expression) -> None:
    """Nostrils, and the folds of a wrinkled nose."""
    across = np.linspace(-1.0, 1.0, _POINTS)
    up = 0.03 * face.wrinkle
    for side in (-1, 1):
        nostril = _oval(side * 0.075, 0.235 - up, 0.035, 0.022)
        _fill(picture, place, 0.35 * sitter.skin, *nostril)
        if face.wrinkle > 0.0:
            x = side * 0.13 + 0.06 * across
            fold = 0.1 + 0.12 * (side * across + 0.5) * 0.5
            thick = 0.016 * face.wrinkle * (1.0 - across**2)
            _fill(picture, place, 0.6 * sitter.skin, *_band(x, fold, thick))
    x = 0.13 * across
    _fill(picture, place, 0.68 * sitter.skin, *_band(x, 0.265 - up - 0.03 * across**2, 0.014))


def _mouth(picture: Array, place: _Place, sitter: Sitter, face: Expression) -> None:
    """Lips, what is between them, and teeth."""
    across = np.linspace(-1.0, 1.0, _POINTS)
    wide = sitter.mouth_width * (1.0 + 0.22 * face.smile - 0.12 * max(face.open, 0.0))
    line = sitter.mouth_down + 0.11 * face.smile * (0.5 - across**2) - 0.03 * face.wrinkle
    gap = 0.11 * max(face.open, 0.0) * np.sqrt(np.maximum(1.0 - across**2, 0.0))
    thick = (0.048 + 0.014 * min(face.open, 0.0)) * (1.0 - 0.6 * across**2)
    line = line + 0.5 * gap  # a jaw drops
    x = wide * across
    lips = 0.5 * sitter.skin + 0.25 * np.array([60.0, 50.0, 140.0])
    _fill(picture, place, lips, *_band(x, line, gap + thick))
    if face.open > 0.0:
        inner = 0.88 * x
        _fill(picture, place, (30, 18, 60), *_band(inner, line, gap))
        if face.smile > 0.0:
            _fill(picture, place, _WHITE, *_band(inner, line - 0.55 * gap, 0.4 * gap))
    else:
        _fill(picture, place, (30, 22, 66), *_band(x, line, 0.012 * (1.0 - across**2) + 0.003))
