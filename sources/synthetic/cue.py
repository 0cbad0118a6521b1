"""Cues: what of a signal follows the state, how far, and how much else moves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.types import Array
from sources.participant import LatentState

__all__ = ["Cue", "CueTracks"]

_KNOT_S = 0.25  # a wandering cue has a value of its own so often, and runs straight between


@dataclass(frozen=True, slots=True)
class Cue:
    """A quantity: middle + the state's part + the person's own offset + what wanders by itself.

    The state's part is valence x v + arousal x a + both x v x a; v and a are distances from the
    neutral middle, -0.5 to 0.5. The offset has the standard deviation `person_sd` over people.
    The rest is an Ornstein-Uhlenbeck process of `wander_sd` that forgets within `wander_s`.
    `sampling_sd` makes nothing: it is the error of who reads the cue, as well as it can be
    done, from one second of signal, where events or noise carry it.
    """

    middle: float = 0.0
    valence: float = 0.0
    arousal: float = 0.0
    both: float = 0.0
    person_sd: float = 0.0
    wander_sd: float = 0.0
    wander_s: float = 5.0
    sampling_sd: float = 0.0

    def follows(self, valence: Array, arousal: Array) -> Array:
        """What the state, valence and arousal in 0 to 1, makes of it: the same shape."""
        v, a = valence - 0.5, arousal - 0.5
        return np.asarray(self.middle + self.valence * v + self.arousal * a + self.both * v * a)


class CueTracks:
    """The cues of one person over time, for a signal that is made block by block."""

    def __init__(
        self, state: LatentState, cues: Mapping[str, Cue], rng: np.random.Generator
    ) -> None:
        self._state, self._cues = state, cues
        own, wander = rng.standard_normal((2, len(cues)))
        self._own = own * [cue.person_sd for cue in cues.values()]
        self._sd = np.array([cue.wander_sd for cue in cues.values()])
        self._keep = np.exp([-_KNOT_S / cue.wander_s for cue in cues.values()])
        self._last = wander * self._sd  # (cues,), at the edge of the block to come

    def next_block(self, rng: np.random.Generator, t: Array) -> dict[str, Array]:
        """Each cue (time,) at `t` (time,), the times of the block that follows the last one."""
        n_knots = round(1 / _KNOT_S)
        knots = np.empty((n_knots + 1, len(self._cues)))
        knots[0] = self._last
        pushes = rng.standard_normal((n_knots, len(self._cues))) * self._sd
        for k, push in enumerate(pushes):
            knots[k + 1] = self._keep * knots[k] + np.sqrt(1.0 - self._keep**2) * push
        self._last = knots[-1]
        where, edges = np.linspace(0.0, n_knots, len(t), endpoint=False), np.arange(n_knots + 1)
        valence, arousal = self._state.state(t)
        return {
            name: cue.follows(valence, arousal) + own + np.interp(where, edges, knots[:, n])
            for n, ((name, cue), own) in enumerate(zip(self._cues.items(), self._own, strict=True))
        }
