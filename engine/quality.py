"""How good a stream's signal is, window by window, and when that is worth a word."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.judges import Judge, judge_of
from engine.steps.pointwise import Select
from engine.types import Array, Signal, Step, StreamInfo

__all__ = ["ALL", "Meter", "Watch", "meter_of", "named"]

ALL = "all"  # stands for the channels where each has the same fault
_GOOD = 0.7
_LISTED = 0.5  # the mean severity from which on a fault is named
_OFFSET = 4  # the share of a block by which blocks are shifted is one in so many
_EVERY_S = 5.0  # a stream's quality is told at most so often


class _Block(NamedTuple):
    """A judged block: items [first, end), severities (faults, channels) and its weight; the mean
    of its channels' worst severities, and the worst of all."""

    first: int
    end: int
    severity: Array
    weight: float
    bad: float
    most: float


class Meter:
    """Judges a lane's items block by block, as they are `after` so many of its steps.

    Blocks begin at fixed items of a segment and are judged whole, so `look` depends on the items
    alone and not on how they came. The first one begins a little behind the segment, so that
    blocks do not end where ticks do, when somebody waits for the prediction. The blocks of the
    last `n_kept` items are remembered.
    """

    def __init__(self, judge: Judge, after: int, rate_hz: float, n_kept: int) -> None:
        self.after = after
        self._judge = judge
        self._n_recent = None if judge.recent_s is None else round(judge.recent_s * rate_hz)
        self._blocks: deque[_Block] = deque(maxlen=n_kept // judge.n_items + 2)
        self._x: Array = np.zeros(0)
        self._valid = np.zeros(judge.n_items, bool)
        self._first = self._n = 0  # of the block that is being filled: its first item, how many
        self._skip = 0  # items in front of the first block that are still to come
        self._known: tuple[tuple[int, int], Signal] | None = None  # what stood between two items

    def begin(self, first: int) -> None:
        """A new segment, whose first item is `first`."""
        self._blocks.clear()
        self._known = None
        self._skip = self._judge.n_items // _OFFSET
        self._first, self._n = first + self._skip, 0

    def push(self, x: Array, valid: Array) -> None:
        """Take items (time, *item) with their validity (time,)."""
        n, done = self._judge.n_items, min(self._skip, len(x))
        self._skip -= done
        if len(self._x) != n:
            self._x = np.zeros((n, *x.shape[1:]), x.dtype)
        while done < len(x):
            take = min(n - self._n, len(x) - done)
            self._x[self._n : self._n + take] = x[done : done + take]
            self._valid[self._n : self._n + take] = valid[done : done + take]
            self._n += take
            done += take
            if self._n == n:
                end = self._first + n
                severity, weight = self._judge.look(self._x, self._valid)
                worst = severity.max(axis=0)
                told = float(worst.mean()), float(worst.max())
                self._blocks.append(_Block(self._first, end, severity, weight, *told))
                self._first, self._n = end, 0

    def look(self, first: int, last: int) -> Signal | None:
        """The quality of the items `first` to `last` by the whole blocks among them; None where
        there is none yet."""
        blocks = [b for b in self._blocks if first <= b.first and b.end <= last + 1]
        if not blocks:
            return None
        span = blocks[0].first, blocks[-1].end
        if self._known is None or self._known[0] != span:
            self._known = span, self._signal(blocks)
        return self._known[1]

    def _signal(self, blocks: Sequence[_Block]) -> Signal:
        weights = [b.weight for b in blocks]
        if not any(weights):
            weights = [1.0] * len(blocks)
        bad = sum(w * b.bad for w, b in zip(weights, blocks, strict=True)) / sum(weights)
        since = 0 if self._n_recent is None else blocks[-1].end - self._n_recent
        recent = [b for b in blocks if b.first >= since] or blocks[-1:]
        if max(b.most for b in recent) < _LISTED:
            return Signal(1.0 - bad, {})
        return Signal(1.0 - bad, self._faults(_severities(recent) >= _LISTED))

    def _faults(self, found: Array) -> dict[str, tuple[str, ...]]:
        """{channel: faults} of (faults, channels); what all channels have stands under `all`."""
        names, channels = self._judge.faults, self._judge.channels
        shared: Array = np.logical_and(found.all(axis=1), len(channels) > 1)
        own = found & ~shared[:, None]
        rows = zip((ALL, *channels), (shared, *own.T), strict=True)
        return {c: tuple(names[i] for i in np.flatnonzero(row)) for c, row in rows if row.any()}


class Watch:
    """Tells when a stream's quality changes its class (good, poor, bad) or its faults, at most
    every few seconds; what changes in between is told then, if it still stands."""

    def __init__(self, min_quality: float) -> None:
        self._min_quality = min_quality
        self._told: tuple[str, dict[str, list[str]]] = ("good", {})
        self._told_s = -np.inf

    def news(self, t: float, signal: Signal) -> dict[str, Any] | None:
        """What is to be told at `t`, or None."""
        good, bad = signal.quality >= _GOOD, signal.quality < self._min_quality
        now = "bad" if bad else "good" if good else "poor", named([signal])
        if now == self._told or t - self._told_s < _EVERY_S:
            return None
        was, self._told, self._told_s = self._told[0], now, t
        return {"class": now[0], "was": was, "quality": signal.quality, "faults": now[1]}


def named(signals: Iterable[Signal]) -> dict[str, list[str]]:
    """{channel: [faults]} of all `signals`, as the wire says it."""
    found: dict[str, list[str]] = {}
    for signal in signals:
        for channel, names in signal.faults.items():
            told = found.setdefault(channel, [])
            told += [name for name in names if name not in told]
    return found


def meter_of(info: StreamInfo, steps: Sequence[Step], rate_hz: float, n_kept: int) -> Meter | None:
    """The meter of a stream whose items go through `steps`; None where there is nothing to judge.

    Signals are judged as they came, as soon as the wanted channels are selected; a face where it
    is cut out, or else its whole picture.
    """
    infos = [info, *(step.info for step in steps)]
    after = 1 if steps and isinstance(steps[0], Select) else 0
    if info.kind == "face":
        units = [seen.unit for seen in infos]
        after = next((units.index(unit) for unit in ("crop", "level") if unit in units), 0)
    judge = judge_of(infos[after])
    return None if judge is None else Meter(judge, after, rate_hz, n_kept)


def _severities(blocks: Sequence[_Block]) -> Array:
    """The mean severities (faults, channels) of blocks by their weights."""
    weights = np.array([b.weight for b in blocks])
    if not weights.any():
        weights = np.ones(len(blocks))
    rows = np.stack([b.severity for b in blocks])  # (blocks, faults, channels)
    mean: Array = np.einsum("b,bfc->fc", weights, rows) / weights.sum()
    return mean
