"""How a simulated person feels: a seeded walk through valence and arousal, and its labels."""

from __future__ import annotations

import numpy as np

from engine.errors import ConfigError
from engine.types import Array

__all__ = ["LABELS", "LatentState"]

LABELS = ("angry", "calm", "happy", "sad")
_QUADRANTS = {"happy": (1, 1), "angry": (-1, 1), "sad": (-1, -1), "calm": (1, -1)}
_DWELL_S = (15.0, 30.0)
_TURN_S = 3.0  # a change of state takes this long, the label turns in its middle
_STRENGTH = (0.2, 0.4)  # how far a state lies from the neutral middle, per dimension
_STREAM = 0x5AFE  # keeps this walk apart from whatever else is drawn for a person


class LatentState:
    """The states of one person over time: a pure function of the number `person`.

    Each of the four quadrants comes once in four states, in random order, for 15 to 30 s; two
    objects of the same person agree, so sources share a state by sharing the number.
    """

    def __init__(self, person: int) -> None:
        if isinstance(person, bool) or not isinstance(person, int) or person < 0:
            raise ConfigError(f"person: {person!r}; need a whole number from 0 on")
        self.person = person
        self._rng = np.random.default_rng((person, _STREAM))
        self._bag: list[str] = []
        self._labels: list[str] = []
        self._begins_s = np.zeros(0)  # (states,)
        self._targets = np.zeros((0, 2))  # (states, valence and arousal), from the middle
        self._end_s = 0.0

    def state(self, t_s: float | Array) -> tuple[Array, Array]:
        """(valence, arousal) in [0, 1] at `t_s` (seconds from 0 on, any shape)."""
        t = np.asarray(t_s, np.float64)
        self._extend(float(t.max()) + _TURN_S)
        now = self._at(t)
        values = self._targets[now]
        # Within half a turn of an edge the state is under way from one target to the next.
        for edge in (now, now + 1):
            phase = 0.5 + (t - self._begins_s[edge]) / _TURN_S
            turning = (edge > 0) & (np.abs(phase - 0.5) < 0.5)
            if np.any(turning):
                before, after = self._targets[np.maximum(edge - 1, 0)], self._targets[edge]
                values = np.where(turning[..., None], _between(before, after, phase), values)
        return 0.5 + values[..., 0], 0.5 + values[..., 1]

    def label(self, t_s: float) -> str:
        """The canonical label of the quadrant at `t_s`."""
        self._extend(t_s + _TURN_S)
        return self._labels[int(self._at(np.asarray(t_s)))]

    def changes(self, first_s: float, end_s: float) -> list[tuple[float, str]]:
        """When a label begins within [first_s, end_s), and which."""
        self._extend(end_s)
        a, b = self._begins_s.searchsorted((first_s, end_s))
        return [(float(self._begins_s[k]), self._labels[k]) for k in range(a, b)]

    def _at(self, t: Array) -> Array:
        return np.asarray(self._begins_s.searchsorted(t, side="right") - 1)

    def _extend(self, until_s: float) -> None:
        """Draw states until one begins after `until_s`."""
        while not len(self._begins_s) or self._begins_s[-1] <= until_s:
            if not self._bag:
                self._bag = list(self._rng.permutation(LABELS))
                if self._labels and self._bag[0] == self._labels[-1]:
                    self._bag.reverse()  # a state that goes on is not a new one
            label = str(self._bag.pop(0))
            target = np.array(_QUADRANTS[label]) * self._rng.uniform(*_STRENGTH, 2)
            self._labels.append(label)
            self._targets = np.concatenate([self._targets, target[None]])
            self._begins_s = np.append(self._begins_s, self._end_s)
            self._end_s += float(self._rng.uniform(*_DWELL_S))


def _between(before: Array, after: Array, phase: Array) -> Array:
    """Targets (..., 2) to targets (..., 2), at `phase` (...) in 0 to 1.

    A dimension that keeps its sign goes over in a raised cosine; one that changes it passes the
    middle at phase 0.5, so that the quadrant turns when the label does.
    """
    swing = np.cos(np.pi * np.clip(phase, 0.0, 1.0))[..., None]
    through = np.where(swing > 0, before * swing, -after * swing)
    straight = after + (before - after) * (0.5 + 0.5 * swing)
    return np.where(before * after < 0, through, straight)
