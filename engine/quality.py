"""How good a stream's signal is, window by window, and when that is worth a word."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from engine.judges import Judge, judge_of
from engine.steps.pointwise import Select
from engine.types import Array, Signal, Step, StreamInfo

__all__ = ["Meter", "Watch", "merged", "meter_of"]

_GOOD = 0.7
_LISTED = 0.5  # the mean severity from which on a fault is named
_EVERY_S = 5.0  # a stream's quality is told at most so often


class _Block(NamedTuple):
    """A judged block: items [first, end), severities (faults, channels), and its weight."""

    first: int
    end: int
    severity: Array
    weight: float


class Meter:
    """Judges a lane's items block by block, `after` so many of its steps.

    Blocks begin at fixed items of the segment, so `look` depends on the items alone. Those of the
    last `n_kept` items are remembered.
    """

    def __init__(self, judge: Judge, after: int, rate_hz: float, n_kept: int) -> None:
        self.after = after
        self._judge = judge
        n = judge.n_items
        recent_s = judge.recent_s
        self._n_recent = None if recent_s is None else max(n, round(recent_s * rate_hz))
        self._blocks: deque[_Block] = deque(maxlen=n_kept // n + 2)
        self._parts: list[tuple[Array, Array]] = []
        self._n_waiting = 0
        self._at = 0

    def begin(self, first: int) -> None:
        """A new segment, whose first item is `first`."""
        self._blocks.clear()
        self._parts, self._n_waiting, self._at = [], 0, first

    def push(self, x: Array, valid: Array) -> None:
        """Take items (time, *item) with their validity (time,)."""
        n, done = self._judge.n_items, 0
        while done < len(x):
            take = min(n - self._n_waiting, len(x) - done)
            self._parts.append((x[done : done + take], valid[done : done + take]))
            self._n_waiting += take
            done += take
            if self._n_waiting == n:
                self._close()
        # What waits must outlive the caller's arrays.
        self._parts = [(part.copy(), mask.copy()) for part, mask in self._parts]

    def look(self, first: int, last: int) -> Signal | None:
        """The quality of the items `first` to `last`, by the whole blocks within; None without
        any."""
        blocks = [b for b in self._blocks if first <= b.first and b.end <= last + 1]
        if not blocks:
            return None
        worst = _mean(blocks).T, 1.0 - _worst(blocks)
        recent = blocks
        if self._n_recent is not None:
            recent = [b for b in blocks if b.first >= blocks[-1].end - self._n_recent]
            worst = _mean(recent).T, worst[1]
        severities, goodness = worst
        faults = {
            channel: tuple(
                name for name, s in zip(self._judge.faults, row, strict=True) if s >= _LISTED
            )
            for channel, row in zip(self._judge.channels, severities, strict=True)
        }
        return Signal(float(goodness.mean()), {c: names for c, names in faults.items() if names})

    def _close(self) -> None:
        """Judge the block that is full."""
        n = self._n_waiting
        x = np.concatenate([part for part, _ in self._parts])
        valid = np.concatenate([mask for _, mask in self._parts])
        severity, weight = self._judge.look(x, valid)
        self._blocks.append(_Block(self._at, self._at + n, severity, weight))
        self._parts, self._n_waiting, self._at = [], 0, self._at + n
