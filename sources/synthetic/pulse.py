"""The pulse wave of a simulated person: beats whose rate and rhythm follow the state."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from engine.types import Array
from sources.participant import LatentState
from sources.synthetic.blocks import blocks, checked_hz, person_rng
from sources.synthetic.cue import Cue, CueTracks

__all__ = ["CUES", "SyntheticPulse"]

_STREAM = 0xB09  # keeps these draws apart from the person's others
_BREATH_HZ = 0.25
_DEPTH_SPREAD = 0.4  # from one breath to the next, of the logarithm
_SLOW_HZ, _SLOW = 0.1, 0.01  # the vessels' own rhythm (Mayer waves) in the heart rate
_SYSTOLIC_S, _DICROTIC_S = (0.25, 0.07), (0.52, 0.10)  # humps: how far behind the beat, how wide
_REACH_S = 1.0  # no beat shows longer
_NOISE = 0.03
_MOVES_PER_BLOCK = 0.03

# Natural logarithms. The heart beats faster and the vessels narrow with arousal; breathing
# swings the heart rate most in who is at ease. How far is made up.
CUES: Mapping[str, Cue] = MappingProxyType(
    {
        "rate": Cue(np.log(1.2), 0.0, 0.45, person_sd=0.08, wander_sd=0.02, sampling_sd=0.03),
        "swing": Cue(
            np.log(0.05),
            2.4,
            -0.5,
            person_sd=0.25,
            wander_sd=0.15,
            sampling_sd=_DEPTH_SPREAD * _BREATH_HZ**-0.5,
        ),
        "height": Cue(0.0, 0.0, -0.8, person_sd=0.3, wander_sd=0.1, sampling_sd=0.05),
        "notch": Cue(np.log(0.4), 0.0, -0.6, person_sd=0.15, wander_sd=0.05, sampling_sd=0.1),
    }
)


class SyntheticPulse:
    """Makes a photoplethysmogram in arbitrary units, second by second; usually at 64 Hz.

    A beat comes whenever the integral of the heart rate has gone up by one (integral pulse
    frequency modulation). Each is two Gaussian humps, the pulse and its echo.
    """

    kind = "physio"
    unit = "au"
    channels: tuple[str, ...] = ("BVP",)
    shape: tuple[int, ...] = (1,)

    def __init__(self, state: LatentState, rate_hz: float) -> None:
        checked_hz("pulse", rate_hz, 16.0, 1024.0)
        self._rate_hz = rate_hz
        self._blocks = blocks(state.person, _STREAM, rate_hz)
        rng = person_rng(state.person, _STREAM)
        self._cues = CueTracks(state, CUES, rng)
        self._breath, self._slow, self._phase = rng.uniform(0.0, 1.0, 3)  # turns, turns, beats
        self._pace, self._depth = float(rng.lognormal(0.0, 0.1)), 1.0  # of breathing
        self._beats: list[tuple[float, float, float]] = []  # when (s), height, notch

    def next_block(self) -> Array:
        """The next second, float32 (time, 1)."""
        rng, t = next(self._blocks)
        cues = self._cues.next_block(rng, t)
        breath = self._breathe(rng, len(t))
        self._beat(t, cues, breath)
        wave = np.zeros(len(t))
        for at_s, height, notch in self._beats:
            since = t - at_s
            for (place_s, width_s), size in ((_SYSTOLIC_S, height), (_DICROTIC_S, height * notch)):
                wave += size * np.exp(-0.5 * ((since - place_s) / width_s) ** 2)
        wave += 0.1 * breath + self._move(rng, t) + _NOISE * rng.standard_normal(len(t))
        return np.asarray(wave[:, None].astype(np.float32))

    def _breathe(self, rng: np.random.Generator, n: int) -> Array:
        """(time,): the chest, about -1 to 1; each breath has a depth of its own."""
        pace_hz = _BREATH_HZ * self._pace * float(rng.lognormal(0.0, 0.1))
        turns = self._breath + pace_hz * np.arange(1, n + 1) / self._rate_hz
        depth, following = self._depth, float(rng.lognormal(0.0, _DEPTH_SPREAD))
        self._breath = float(turns[-1] % 1.0)
        if turns[-1] >= 1.0:
            self._depth = following
        return np.asarray(np.where(turns < 1.0, depth, following) * np.sin(2 * np.pi * turns))

    def _beat(self, t: Array, cues: Mapping[str, Array], breath: Array) -> None:
        """Forget the beats that are over and add those of the block at `t`."""
        self._beats = [beat for beat in self._beats if beat[0] > t[0] - _REACH_S]
        slow = _SLOW * np.sin(2 * np.pi * (_SLOW_HZ * t + self._slow))
        hz = np.exp(cues["rate"]) * (1.0 + np.exp(cues["swing"]) * breath + slow)
        before = self._phase + np.concatenate([[0.0], np.cumsum(hz) / self._rate_hz])
        self._phase = float(before[-1] % 1.0)
        for k in np.flatnonzero(np.diff(np.floor(before))):
            share = (np.floor(before[k + 1]) - before[k]) / (before[k + 1] - before[k])
            height, notch = (float(np.exp(cues[name][k])) for name in ("height", "notch"))
            self._beats.append((float(t[k] + share / self._rate_hz), height, notch))

    def _move(self, rng: np.random.Generator, t: Array) -> Array:
        """(time,): what a movement of the hand adds; never across blocks."""
        happens, hz, size = rng.uniform(), rng.uniform(1.0, 4.0), rng.uniform(0.5, 1.5)
        if happens >= _MOVES_PER_BLOCK:
            return np.zeros(len(t))
        envelope = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(len(t)) / len(t))
        return np.asarray(size * envelope * np.sin(2 * np.pi * hz * t))
