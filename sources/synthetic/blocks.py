"""The seconds in which a simulated signal is made: their items, times and random numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.errors import ConfigError
from engine.types import Array

__all__ = ["blocks", "checked_hz", "person_rng"]


def checked_hz(kind: str, rate_hz: float, low_hz: float, high_hz: float) -> float:
    """`rate_hz`; raises ConfigError if a simulated `kind` cannot have it."""
    if not low_hz <= rate_hz <= high_hz:
        raise ConfigError(
            f"rate_hz: {rate_hz:g}; simulated {kind} needs {low_hz:g} to {high_hz:g} Hz"
        )
    return rate_hz


def blocks(person: int, number: int, rate_hz: float) -> Iterator[tuple[np.random.Generator, Array]]:
    """A generator of random numbers and the items' times (time,) in seconds, block after block.

    A block is the whole number of items nearest to a second. Its numbers depend on `person`, the
    signal's `number` and the block's place, so no block needs to know how another was read.
    """
    n, block = round(rate_hz), 0
    while True:
        rng = np.random.default_rng((person, number, block))
        yield rng, (block * n + np.arange(n)) / rate_hz
        block += 1


def person_rng(person: int, number: int) -> np.random.Generator:
    """Random numbers for what stays the same of a person's signal, apart from all its blocks'.

    The last 1 does that: a seed that is short counts as if it went on with zeros, so that
    without it these would be the numbers of block 0.
    """
    return np.random.default_rng((person, number, 0, 1))
