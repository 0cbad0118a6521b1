"""Skin conductance of a simulated person: a slow level, and responses that tell the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from engine.types import Array
from sources.participant import LatentState
from sources.synthetic.blocks import blocks, checked_hz, person_rng
from sources.synthetic.cue import Cue, CueTracks

__all__ = ["CUES", "SyntheticSkin"]

_STREAM = 0x5C1  # keeps these draws apart from the person's others
_RISE_S = 0.7
_FORGET = 12.0  # recoveries after which a response is no longer counted in: under 1e-5 of it
_NOISE_US = 0.005
_TOUCHES_PER_BLOCK = 0.01

_PER_S = 0.5  # responses a second in the neutral middle
_SIZE_SPREAD, _RECOVERY_SPREAD = 0.35, 0.3  # from one response to the next, of logarithms

# Natural logarithms. Arousal brings responses and sweat, as in real people, if more of them;
# that what is unpleasant makes a response large and slow to recover, and the level high, is made
# up as far as it is needed for this signal alone to tell the states.
CUES: Mapping[str, Cue] = MappingProxyType(
    {
        "rate": Cue(
            np.log(_PER_S), 0.0, 2.8, person_sd=0.12, wander_sd=0.15, sampling_sd=_PER_S**-0.5
        ),
        "size": Cue(
            np.log(0.2),
            -3.2,
            person_sd=0.15,
            wander_sd=0.1,
            sampling_sd=_SIZE_SPREAD * _PER_S**-0.5,
        ),
        "recovery": Cue(
            np.log(2.0), -0.8, person_sd=0.12, sampling_sd=_RECOVERY_SPREAD * _PER_S**-0.5
        ),
        "level": Cue(np.log(4.0), -0.5, 0.8, person_sd=0.3, wander_sd=0.05, wander_s=20.0),
    }
)


@dataclass(frozen=True, slots=True)
class _Response:
    """One response: bi-exponential, `size_us` high at its peak."""

    onset_s: float
    size_us: float
    recovery_s: float

    def at(self, t: Array) -> Array:
        """Its share (time,) of the conductance at `t` (time,)."""
        since = np.maximum(t - self.onset_s, 0.0)
        return self._shape(since) * (self.size_us / self._shape(np.array(self._peak_s)))

    def over(self, t_s: float) -> bool:
        return t_s > self.onset_s + _FORGET * self.recovery_s

    @property
    def _peak_s(self) -> float:
        ratio = np.log(self.recovery_s / _RISE_S)
        return float(ratio * _RISE_S * self.recovery_s / (self.recovery_s - _RISE_S))

    def _shape(self, since_s: Array) -> Array:
        return np.asarray(np.exp(-since_s / self.recovery_s) - np.exp(-since_s / _RISE_S))


class SyntheticSkin:
    """Makes skin conductance in microsiemens, second by second.

    The usual rate is 8 Hz; wrist devices of the Empatica class send 4. Responses come as a
    Poisson process and are evaluated at the items' own times, so they have no seams.
    """

    kind = "physio"
    unit = "uS"
    channels: tuple[str, ...] = ("EDA",)
    shape: tuple[int, ...] = (1,)

    def __init__(self, state: LatentState, rate_hz: float) -> None:
        checked_hz("skin", rate_hz, 2.0, 256.0)
        self._blocks = blocks(state.person, _STREAM, rate_hz)
        rng = person_rng(state.person, _STREAM)
        self._cues = CueTracks(state, CUES, rng)
        self._responses: list[_Response] = []

    def next_block(self) -> Array:
        """The next second, float32 (time, 1)."""
        rng, t = next(self._blocks)
        cues = self._cues.next_block(rng, t)
        now = {name: float(values[0]) for name, values in cues.items()}
        self._responses = [r for r in self._responses if not r.over(float(t[0]))]
        self._responses += self._new(rng, float(t[0]), now)
        phasic = sum((response.at(t) for response in self._responses), np.zeros(len(t)))
        noise = _NOISE_US * rng.standard_normal(len(t))
        made = np.exp(cues["level"]) + phasic + noise - self._touch(rng, t)
        return np.asarray(made[:, None].astype(np.float32))

    def _new(
        self, rng: np.random.Generator, first_s: float, now: Mapping[str, float]
    ) -> list[_Response]:
        """The responses that begin in the second from `first_s` on."""
        n = int(rng.poisson(np.exp(now["rate"])))
        onsets_s = first_s + np.sort(rng.uniform(0.0, 1.0, n))
        sizes = np.exp(now["size"] + _SIZE_SPREAD * rng.standard_normal(n))
        recoveries = np.exp(now["recovery"] + _RECOVERY_SPREAD * rng.standard_normal(n))
        recoveries = np.maximum(recoveries, 1.2 * _RISE_S)
        return [_Response(*map(float, r)) for r in zip(onsets_s, sizes, recoveries, strict=True)]

    def _touch(self, rng: np.random.Generator, t: Array) -> Array:
        """(time,) uS lost while the electrode loosens for a moment; never across blocks."""
        happens, size_us = rng.uniform(), rng.uniform(0.1, 0.5)
        if happens >= _TOUCHES_PER_BLOCK:
            return np.zeros(len(t))
        return np.asarray(size_us * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(len(t)) / len(t))))
