"""One stream's place in a session: planned from the start, a lane once its source is there."""

from __future__ import annotations

from typing import Any

from engine.account import Account
from engine.lane import Lane
from engine.marks import MarkLane
from engine.plan import StreamPlan
from engine.quality import Watch
from engine.repair import repaired
from engine.types import Chunk, Signal, Window

__all__ = ["Slot"]

_TOLERANCE_S = 1e-6
_EMPTY = {"voice": "no speech", "face": "no face"}  # what too few valid items mean


class Slot:
    """A stream's plan, state and lane. `state`: waiting, live, lost, ended or refused."""

    def __init__(self, stream: str, plan: StreamPlan, account: Account) -> None:
        self.stream, self.plan = stream, plan
        self.lane: Lane | MarkLane | None = None
        self.state = "waiting"
        self.signal: Signal | None = None  # in the window that was asked for last
        self._watch = Watch(plan.min_quality)
        self.stage = account.stage(stream, "timeline", self._held)

    def push(self, chunk: Chunk) -> None:
        """Hand a chunk to the lane; without a fitting source it is refused, and counted so."""
        if self.lane is None or self.state == "refused":
            self.stage.n_in += len(chunk)
            self.stage.drop("refused", len(chunk))
        else:
            self.lane.push(chunk)

    def end(self) -> None:
        """The source will give no more."""
        if self.lane is not None:
            self.lane.end()
        self.state = "ended"

    @property
    def begun(self) -> Lane | MarkLane | None:
        """The lane, if any item ever came."""
        return self.lane if self.lane is not None and self.lane.begun else None

    @property
    def over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.state in ("ended", "refused")

    def reached(self, tick: int) -> bool:
        """Whether the lane has come as far as `tick`."""
        return self.lane is not None and self.lane.next_tick > tick

    def window(self, tick: int, t: float, hop_s: float) -> Window | str:
        """The window of a tick that is being fired at `t`, or why there is none."""
        self.signal, lane = None, self.begun
        if lane is None or self.state == "refused":
            return "waiting" if self.state == "live" else self.state
        if self.reached(tick):
            window = lane.window(tick)
        elif self.state == "ended":
            if t - lane.end_s() > hop_s + _TOLERANCE_S:
                return "ended"
            window = lane.last_window()
        else:
            return "lost" if self.state == "lost" else "late"
        if window is None:
            return "filling"
        self.signal = window.signal
        if window.quality >= self.plan.min_quality:
            view = lane.view if isinstance(lane, Lane) else None
            made = window if view is None else repaired(window, view)
            if made is None and self.plan.min_quality == 0.0:
                return window  # whatever comes is wanted
            return made or "quality"
        empty = window.present < self.plan.min_quality
        return _EMPTY.get(lane.info.kind, "quality") if empty else "quality"

    def news(self, t: float) -> dict[str, Any] | None:
        """What is to be told of the signal at `t`, the tick whose window was asked for."""
        return None if self.signal is None else self._watch.news(t, self.signal)

    def _held(self) -> int:
        return self.lane.timeline.held() if self.lane is not None else 0
