"""One stream through timeline, steps and ring, with a mark wherever it reaches a tick."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from engine.account import Account, Stage
from engine.heldgrid import HeldGrid
from engine.quality import meter_of
from engine.ring import Ring
from engine.timeline import GapPolicy, Notify, Run, Timeline
from engine.types import Array, Chunk, Notes, Signal, Step, StreamInfo, Window

__all__ = ["Grid", "Lane", "View", "grid_hz"]

_SLACK_S = 1.0  # how far a lane may run ahead of a slower one before its windows are copied
_END_TOLERANCE_S = 1e-6
_UNSEEN_HZ = 15.0  # the grid of a camera that is only recorded


@dataclass(frozen=True, slots=True)
class Grid:
    """The ticks of a session: t_k = origin + k * hop, from k = 1."""

    origin_s: float
    hop_s: float

    def time(self, tick: int) -> float:
        """The end of tick's windows, in seconds of the engine's clock."""
        return self.origin_s + tick * self.hop_s


@dataclass(frozen=True, slots=True)
class View:
    """What a predictor wants of a stream: steps to run, and how much of their output it sees.

    `n_items` of the steps' output make a full window, `n_min` the smallest one that is given.
    """

    steps: Sequence[Step]
    info: StreamInfo  # of the steps' output
    n_items: int
    n_min: int


@dataclass(slots=True)
class _Mark:
    """Where a lane stood when it reached a tick."""

    tick: int
    segment: int
    last: int  # source index
    end: int  # ring position
    n_source: int  # source items of the segment up to here
    notes: Notes  # of the steps, on the last item
    signal: Signal | None
    kept: tuple[Array, Array] | None = None  # a copy, once the ring needed the room


class Lane:
    """A stream with its state: the pure path from chunks to the windows of a session's ticks.

    `fire` is called each time a tick was reached; `advance_to` tells which tick comes next.
    Counts the stage `timeline`, given as `counted`, and where there is a view `steps`.
    """

    def __init__(
        self,
        stream: str,
        info: StreamInfo,
        view: View | None,
        grid: Grid,
        gaps: GapPolicy,
        account: Account,
        counted: Stage,
        notify: Notify,
        fire: Callable[[], None],
        now: Callable[[], float],
        next_tick: int = 1,
    ) -> None:
        self.stream, self.info, self.view = stream, info, view
        self.next_tick = next_tick  # the first tick that this lane has not reached
        self.ended = False
        self.truth: str | None = None
        self._grid, self._fire = grid, fire
        self._marks: deque[_Mark] = deque()
        self._truths: deque[tuple[int, str | None]] = deque()
        self.timeline = _timeline(info, view, gaps, counted, notify, now)
        account.equal(
            f"{stream}: last index = first + out of timeline",
            self.timeline.span,
            lambda: counted.n_out,
        )
        if view is None:
            return
        self._segment = -1
        self._first = self._next = self._floor = 0  # source indices: begun, next, oldest needed
        self._see(view)
        self._stage = account.stage(stream, "steps", lambda: self._next - self._floor)
        account.equal(
            f"{stream}: out of timeline = in of steps",
            lambda: counted.n_out,
            lambda: self._stage.n_in,
        )

    def push(self, chunk: Chunk) -> None:
        """Take `chunk`; fires every tick that it completes."""
        self.timeline.push(chunk, self._take)

    def end(self) -> None:
        """No more items will come; a tick that falls on the very end is reached."""
        self.timeline.end(self._take)
        self.ended = True
        if self.view is None or self.timeline.fit is None:
            return
        if self._grid.time(self.next_tick) <= self.end_s() + _END_TOLERANCE_S:
            self._mark(self._next - 1, self._ring.n_pushed)
            self._fire()

    @property
    def notes(self) -> Notes:
        """What the steps noted of the item that was processed last."""
        return self._notes if self.view is not None else {}

    def change(self, view: View) -> None:
        """See the stream through another view from the next item on: nothing of the items that
        came is in its windows, also not in those of ticks that were reached already."""
        self._stage.n_out += self._next - self._floor
        self._first = self._floor = self._next
        self._marks.clear()
        self._see(view)
        if self._meter is not None:
            self._meter.begin(self._next)

    def end_s(self) -> float:
        """Where the next item would stand: the end of what came, in seconds."""
        return self.timeline.time(self.timeline.next_index)

    @property
    def begun(self) -> bool:
        """Whether any item ever came."""
        return self.timeline.fit is not None

    def advance_to(self, tick: int) -> None:
        """Ticks before `tick` are over: forget their marks, do not reach them any more."""
        while self._marks and self._marks[0].tick < tick:
            self._marks.popleft()
        self.next_tick = max(self.next_tick, tick)

    def window(self, tick: int) -> Window | None:
        """The window of `tick`, or None while too little has come or the lane did not reach it."""
        mark = next((m for m in self._marks if m.tick == tick), None)
        return None if mark is None else self._cut(mark)

    def last_window(self) -> Window | None:
        """The window that ends with the very last item."""
        if self._segment < 0:
            return None
        last = self._next - 1
        n_source = last + 1 - self._first
        end, signal = self._ring.n_pushed, self._signal(last)
        return self._cut(_Mark(0, self._segment, last, end, n_source, self._notes, signal))

    def catch_up(self) -> None:
        """Let the truth be that of the very last item, which may lie behind the last tick."""
        if self._truths:
            self.truth = self._truths[-1][1]
            self._truths.clear()

    def _take(self, run: Run) -> None:
        """Process one run and mark every tick that it reaches.

        Where the steps give one item for each, the run goes through them in one piece and the
        marks point into it; otherwise it is cut at the ticks.
        """
        if self.view is None:
            self.truth = run.truth[-1][1] if run.truth else self.truth
            return
        if run.segment != self._segment:
            self._begin(run)
        if run.truth:
            self._truths.extend(run.truth)
        at = done = run.first
        end = at + len(run.data)
        while True:
            edge = max(run.knot.first_after(self._grid.time(self.next_tick)), at)
            hit = max(edge - 1, at) < end
            need = edge if hit else end
            upto = min(end, need + self._slack) if self._steady else need
            if done < upto:
                whole = done == run.first and upto == end
                part = slice(None) if whole else slice(done - run.first, upto - run.first)
                self._process(run.data[part], run.valid[part])
                done = upto
            if not hit:
                return
            self._mark(edge - 1, self._ring.n_pushed - (done - edge))
            at = edge
            self._fire()

    def _see(self, view: View) -> None:
        """All that depends on the view alone, with nothing in it yet."""
        self.view = view
        ratio = Fraction(1)
        for step in view.steps:
            ratio *= step.ratio
        self._span = -(-view.n_items * ratio.denominator // ratio.numerator)  # in source items
        # The notes of some steps go with a window: those on the very item that a mark stands on.
        self._noted = [step for step in view.steps if getattr(step, "noted", False)]
        self._steady = not self._noted and all(step.ratio == 1 for step in view.steps)
        self._notes: Notes = {}
        self._slack = max(1, int(_SLACK_S * (view.info.rate_hz or 0)))
        self._ring = Ring(view.n_items + self._slack, view.info.shape)
        rate_hz = grid_hz(self.info, view)
        n_kept = self._span + math.ceil(_SLACK_S * rate_hz)
        self._meter = meter_of(self.info, view.steps, rate_hz, n_kept)

    def _begin(self, run: Run) -> None:
        """A new segment: nothing of the one before may reach into it."""
        assert self.view is not None
        for mark in self._marks:
            self._keep(mark)
        self._stage.n_out += self._next - self._floor
        self._segment = run.segment
        self._first = self._next = self._floor = run.first
        self._ring.clear()
        self.catch_up()
        for step in self.view.steps:
            step.reset()
        self._notes = {}
        if self._meter is not None:
            self._meter.begin(run.first)

    def _process(self, x: Array, valid: Array) -> None:
        assert self.view is not None
        n = len(x)
        self._stage.n_in += n
        self._next += n
        meter = self._meter
        for done, step in enumerate(self.view.steps):
            if meter is not None and meter.after == done:
                meter.push(x, valid)
            x, valid, notes = step(x, valid)
            if notes and step in self._noted:
                self._notes = notes
        if meter is not None and meter.after == len(self.view.steps):
            meter.push(x, valid)
        ring, n_out = self._ring, len(x)
        for mark in self._marks:  # usually none: only when another lane is late
            if mark.end - self.view.n_items < ring.n_pushed + n_out - ring.capacity:
                self._keep(mark)
        if n_out:
            ring.push(x, valid)
        floor = self._next - self._span
        if floor > self._floor:
            self._stage.n_out += floor - self._floor
            self._floor = floor

    def _mark(self, last: int, end: int) -> None:
        """The present tick is reached: its window ends with the source item `last`, at the ring's
        position `end`."""
        truths = self._truths
        while truths and truths[0][0] <= last:
            self.truth = truths.popleft()[1]
        n_source = last + 1 - self._first
        signal = self._signal(last)
        mark = _Mark(self.next_tick, self._segment, last, end, n_source, self._notes, signal)
        self._marks.append(mark)
        self.next_tick += 1

    def _signal(self, last: int) -> Signal | None:
        """What is thought of the signal in the window that ends with the source item `last`."""
        if self._meter is None:
            return None
        return self._meter.look(max(self._first, last + 1 - self._span), last)

    def _keep(self, mark: _Mark) -> None:
        """Copy the mark's items before the ring overwrites them."""
        assert self.view is not None
        if mark.kept is None:
            data, valid = self._ring.window(min(mark.end, self.view.n_items), mark.end)
            mark.kept = data.copy(), valid.copy()

    def _cut(self, mark: _Mark) -> Window | None:
        view = self.view
        assert view is not None
        n = min(mark.end, view.n_items)
        if n < view.n_min:
            return None
        data, valid = mark.kept if mark.kept is not None else self._ring.window(n, mark.end)
        if n < view.n_items:  # the items first, invalid zeros behind
            whole = np.zeros((view.n_items, *data.shape[1:]), data.dtype)
            mask = np.zeros(view.n_items, bool)
            whole[:n], mask[:n] = data, valid
            data, valid = whole, mask
        first = mark.last + 1 - min(self._span, mark.n_source)
        n_valid = int(np.count_nonzero(valid))
        return Window(
            self.stream, mark.segment, first, mark.last, data, valid, n, n_valid, mark.notes,
            mark.signal,
        )  # fmt: skip


def grid_hz(info: StreamInfo, view: View | None) -> float:
    """The rate of the grid on which a stream's items reach the steps of `view`."""
    held = info.rate_hz is None or info.kind == "face"
    if held and view is not None and view.info.rate_hz is not None:
        return view.info.rate_hz / float(math.prod(step.ratio for step in view.steps))
    return info.rate_hz or _UNSEEN_HZ


def _timeline(
    info: StreamInfo,
    view: View | None,
    gaps: GapPolicy,
    counted: Stage,
    notify: Notify,
    now: Callable[[], float],
) -> Timeline | HeldGrid:
    """A device's own grid of items; the view's, held, for a stream without one, and for pictures
    that come faster or slower than the view's."""
    rate_hz = grid_hz(info, view)
    if rate_hz == info.rate_hz:
        return Timeline(info, gaps, counted, notify, now)
    return HeldGrid(info, rate_hz, counted, notify)
