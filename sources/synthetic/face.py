"""The face of a simulated person: how brows, eyes and mouth follow the state, and how it moves."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from engine.types import Array
from sources.participant import LatentState
from sources.synthetic.blocks import blocks, checked_hz, person_rng
from sources.synthetic.cue import Cue, CueTracks
from sources.synthetic.drawing import SIZE, Looks, draw

__all__ = ["CUES", "SyntheticFace"]

_STREAM = 0xFACE  # keeps these draws apart from the person's others
_BLINKS_PER_BLOCK, _BLINK_S = 0.25, 0.3
_NOISE = 4.0  # of the camera, in levels of 0 to 255

# Lengths are in half widths of the picture, angles in slopes. What goes up with what follows
# the action units of Ekman and Friesen: a smile's corners rise, anger lowers and joins the brows,
# sadness lifts their inner ends, arousal opens eyes and mouth.
CUES: Mapping[str, Cue] = MappingProxyType(
    {
        "smile": Cue(0.02, 0.24, 0.0, person_sd=0.03, wander_sd=0.05, wander_s=2.0),
        "mouth": Cue(0.05, 0.0, 0.14, person_sd=0.015, wander_sd=0.03, wander_s=1.0),
        "eyes": Cue(0.076, 0.0, 0.07, person_sd=0.012, wander_sd=0.015, wander_s=2.0),
        "brows": Cue(0.0, 0.06, 0.06, person_sd=0.015, wander_sd=0.02, wander_s=2.0),
        "slant": Cue(0.0, 0.0, 0.35, -1.0, person_sd=0.06, wander_sd=0.10, wander_s=2.0),
    }
)


class SyntheticFace:
    """Makes a drawn face in colour, second by second; usually 15 pictures a second.

    Items are (height, width, red green blue), whole levels from 0 to 255. Geometry and colours
    are the person's; the head sways and nods a little, and the eyes blink.
    """

    kind = "face"
    unit = "level"
    channels: tuple[str, ...] = ("r", "g", "b")
    shape: tuple[int, ...] = (SIZE, SIZE, 3)

    def __init__(self, state: LatentState, rate_hz: float) -> None:
        checked_hz("face", rate_hz, 4.0, 120.0)
        self._blocks = blocks(state.person, _STREAM, rate_hz)
        rng = person_rng(state.person, _STREAM)
        self._cues = CueTracks(state, CUES, rng)
        self._looks = Looks.of(rng)
        self._sway_hz = rng.uniform(0.05, 0.25, 4)
        self._sway_phase = rng.uniform(0.0, 2 * np.pi, 4)
        self._sway = rng.uniform(0.5, 1.0, 4) * [0.05, 0.04, 0.08, 0.03]

    def next_block(self) -> Array:
        """The next second, uint8 (time, height, width, 3)."""
        rng, t = next(self._blocks)
        cues = self._cues.next_block(rng, t)
        cues["eyes"] = cues["eyes"] * (1.0 - self._blink(rng, t))
        turns = 2 * np.pi * self._sway_hz * t[:, None] + self._sway_phase
        pose = self._sway * np.sin(turns)  # right, down, tilt, nearer
        planes = draw(self._looks, cues, pose)
        planes += _NOISE * rng.standard_normal(planes.shape[1:], np.float32)
        out = np.empty((len(t), *self.shape), np.uint8)
        for colour, plane in enumerate(planes):
            out[..., colour] = np.clip(plane, 0.0, 255.0, out=plane)
        return out

    def _blink(self, rng: np.random.Generator, t: Array) -> Array:
        """(time,): how far the lids are shut, 0 to 1; never across blocks."""
        happens, where = rng.uniform(size=2)
        if happens >= _BLINKS_PER_BLOCK:
            return np.zeros(len(t))
        since = (t - t[0] - where * (1.0 - _BLINK_S)) / _BLINK_S
        return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.clip(since, 0.0, 1.0)))
