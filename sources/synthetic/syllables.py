"""Nonsense speech as a plan: which vowel begins when, how it is stressed, where one breathes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.types import Array

__all__ = ["Syllable", "Syllables"]

_SPEECH_SHARE = 0.8  # of a syllable is voiced; the rest is a closure
_PHRASE = (4, 11)  # syllables
_PAUSE_S = (0.2, 0.6)


@dataclass(frozen=True, slots=True)
class Syllable:
    """One vowel from `first_s` to `end_s`."""

    first_s: float
    end_s: float
    vowel: int
    accent: float  # how far its pitch goes up or down, in units of the range
    fall: float  # how far the phrase has sunk, in the same units
    stress: float  # how loud it is, about 1


class Syllables:
    """Plans speech second by second; what was begun in one goes on in the next."""

    def __init__(self, n_vowels: int) -> None:
        self._n_vowels = n_vowels
        self._said: list[Syllable] = []
        self._until_s, self._n_left, self._n_phrase = 0.0, 0, 1

    def next_block(self, rng: np.random.Generator, times_s: Array, pace: Array) -> list[Syllable]:
        """All syllables that sound between the first and the last of `times_s` (frames,).

        `pace` (frames,) is the logarithm of syllables a second, while they are said.
        """
        self._said = [s for s in self._said if s.end_s > times_s[0]]
        while self._until_s < times_s[-1]:
            speed = float(np.exp(np.interp(self._until_s, times_s, pace)))
            if self._n_left:
                self._said.append(self._syllable(rng, speed))
                self._n_left -= 1
            else:
                self._until_s += float(rng.uniform(*_PAUSE_S)) * 4.5 / speed
                self._n_left = self._n_phrase = int(rng.integers(*_PHRASE))
        return self._said

    def _syllable(self, rng: np.random.Generator, speed: float) -> Syllable:
        length_s = float(rng.lognormal(0.0, 0.2)) / speed
        first_s, self._until_s = self._until_s, self._until_s + length_s
        return Syllable(
            first_s,
            first_s + _SPEECH_SHARE * length_s,
            int(rng.integers(self._n_vowels)),
            float(rng.normal()),
            self._n_left / self._n_phrase - 0.5,
            float(rng.lognormal(0.0, 0.25)),
        )
