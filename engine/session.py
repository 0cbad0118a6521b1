"""The pure core: inputs in, ticks and events out. No threads, no clocks, no sockets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engine.account import Account
from engine.errors import BundleError, ConfigError
from engine.fusion import Fusion
from engine.lane import Grid, Lane
from engine.plan import Request, SessionPlan, Tick
from engine.predictor import Predictor, predictors
from engine.slot import Slot
from engine.types import (
    Array,
    Chunk,
    Event,
    Marker,
    Numbered,
    Prediction,
    Schema,
    StreamInfo,
)
from engine.view import fit

__all__ = ["Session"]

_TOLERANCE_S = 1e-6
_IN_ORDER = {"filling", "waiting", "muted", "no speech"}  # missing, and nothing is wrong


class Session:
    """One person's streams, ticks and predictions, as a pure function of the inputs.

    Inputs: `push(chunk)`, `advance(now_s)`, `command(verb, ...)`. Ticks, events and markers go to
    `emit` as they arise. Whoever receives a tick takes or sheds it at once; the results of a taken
    tick's requests come back through `finish`, in the order of the ticks.
    """

    def __init__(self, plan: SessionPlan, emit: Callable[[Tick | Event | Marker], None]) -> None:
        self.plan = plan
        self.account = Account()
        self.done = False  # all streams ended and the last tick fired
        self._emit = emit
        self._grid = Grid(plan.origin_s, plan.hop_s)
        self._tick = 1  # the next one
        self._now_s = -math.inf  # the latest time that `advance` told
        self._paused = False
        self._degraded: dict[str, str] = {}
        self._fusion = Fusion(plan)
        self._seq = dict.fromkeys(("prediction", "event", "marker", "health"), 0)
        self._slots = {n: Slot(n, stream, self.account) for n, stream in plan.streams.items()}
        self._predictors = predictors(plan, self._slots)
        self._waited = [slot for p in self._predictors for slot in p.slots.values()]
        self._open: Tick | None = None  # fired, and neither taken nor shed
        self._windows = {
            stream: self.account.stage(stream, "windows", partial(self._offered, stream))
            for predictor in self._predictors
            for stream in predictor.streams
        }
        self._unsent: set[tuple[str, int]] = set()
        self._publish = self.account.stage("session", "publish", lambda: len(self._unsent))
        self.account.equal(
            "session: messages published = sequence numbers given",
            lambda: self._publish.n_in, lambda: sum(self._seq.values()),
        )  # fmt: skip

    # -- the three inputs ---------------------------------------------------------------------

    def push(self, chunk: Chunk) -> None:
        """Take a chunk of a connected stream; fires the ticks that it completes."""
        self._slots[chunk.stream].push(chunk)

    def advance(self, now_s: float) -> None:
        """Fire the ticks whose patience is over, with the late streams missing."""
        self._now_s = now_s
        while (deadline := self.deadline()) is not None and deadline <= now_s:
            self._fire_one()

    def deadline(self) -> float | None:
        """When `advance` would next have an effect; None when it never will."""
        if self.done or not self._predictors:
            return None
        return self._grid.time(self._tick) + self.plan.patience_s

    def command(self, verb: str, **args: Any) -> None:
        """One of connect, lost, end (of a stream); mark, pause, resume, mute, unmute."""
        handler = getattr(self, f"_do_{verb}", None)
        if handler is None:
            raise ConfigError(f"a session knows no command '{verb}'")
        handler(**args)

    # -- the results come back ----------------------------------------------------------------

    def finish(self, tick: Tick, results: Mapping[str, Array | None]) -> Prediction:
        """Fuse the results (labels,) per modality, None for a failed one, into a prediction."""
        seq = self.next_seq("prediction")
        return self._fusion.predict(tick, self._predictors, results, seq, self.t_wall(tick.t))

    def take(self, tick: Tick) -> list[tuple[Request, dict[str, Array], dict[str, Array]]]:
        """Hand a tick's windows over for running: per request fresh arrays, and the validity."""
        self._open = None
        for request in tick.requests:
            for window in request.windows.values():
                self._windows[window.stream].n_out += 1
        return [(request, *request.arrays()) for request in tick.requests]

    def shed(self, tick: Tick) -> None:
        """Give up a tick that is too old to be worth running; its windows count as stale."""
        self._open = None
        for request in tick.requests:
            for window in request.windows.values():
                self._windows[window.stream].drop("stale", 1)

    def next_seq(self, kind: str) -> int:
        """Give the next sequence number of `kind`."""
        seq = self._seq[kind]
        self._seq[kind] = seq + 1
        self._unsent.add((kind, seq))
        self._publish.n_in += 1
        return seq

    def sent(self, message: Numbered) -> None:
        """A message with a sequence number went out."""
        self._unsent.discard((message.kind, message.seq))
        self._publish.n_out += 1

    def t_wall(self, t: float) -> float | None:
        """Engine seconds to Unix seconds, where the wall clock is known."""
        return None if self.plan.wall_offset_s is None else t + self.plan.wall_offset_s

    def windows_out(self, stream: str) -> int:
        """Windows handed over for running, of one stream."""
        return self._windows[stream].n_out

    def items_in(self, stream: str) -> int:
        """Items that came in, of one stream."""
        return self._slots[stream].stage.n_in

    @property
    def streams(self) -> dict[str, str]:
        """{stream: state}."""
        return {name: slot.state for name, slot in self._slots.items()}

    @property
    def predicting(self) -> list[str]:
        """The streams that predictions are made from."""
        return list(self._windows)

    def degraded(self) -> list[str]:
        """Why predictions are not as good as they could be."""
        return [f"{name}: {reason}" for name, reason in self._degraded.items()]

    def reached_s(self, stream: str) -> float | None:
        """Up to where a stream has come, in engine seconds."""
        lane = self._slots[stream].begun
        return lane.end_s() if lane is not None else None

    def schema(self, engine: str) -> Schema:
        """What the session is made of."""
        infos = {n: s.lane.info for n, s in self._slots.items() if s.lane is not None}
        return Schema(
            run=self.plan.run,
            engine=engine,
            session=self.plan.session,
            streams={name: info.describe() for name, info in infos.items()},
            bundles={p.name: p.describe() for p in self._predictors},
            fusion=self.plan.fusion,
            smoothing=self._fusion.smoothing.method,
            hop_s=self.plan.hop_s,
            started_wall=self.t_wall(self.plan.origin_s),
        )

    # -- inside -------------------------------------------------------------------------------

    def _do_connect(self, stream: str, info: StreamInfo) -> None:
        """A source's first contact, or its return; another signature is refused with a diff."""
        slot = self._slots[stream]
        if slot.lane is not None:
            if different := slot.lane.info.difference(info):
                slot.state = "refused"
                self._event("source.refused", stream, {"why": different})
                return
            slot.state = "live"
            self._event("source.back", stream, {})
            return
        try:
            self._open_lane(stream, slot, info)
        except BundleError as error:
            slot.state = "refused"
            self._event("source.refused", stream, {"why": str(error)})
            self._end_if_over()
            raise
        slot.state = "live"
        self._event("source.connected", stream, {"kind": info.kind, "rate_hz": info.rate_hz})

    def _open_lane(self, stream: str, slot: Slot, info: StreamInfo) -> None:
        predictor = next((p for p in self._predictors if stream in p.streams), None)
        view = None
        if predictor is not None:
            key = next(key for key, s in predictor.slots.items() if s is slot)
            spec = predictor.bundle.inputs[key]
            view, entry = fit(stream, info, spec, predictor.bundle.id, slot.plan.channels)
            predictor.entries[key] = entry
        slot.lane = Lane(
            stream, info, view, self._grid, slot.plan.gaps, self.account, slot.stage,
            lambda code, t, detail: self._event(code, stream, detail, t),
            self._fire, lambda: self._now_s, self._tick,
        )  # fmt: skip

    def _do_lost(self, stream: str, why: str) -> None:
        self._slots[stream].state = "lost"
        self._event("source.lost", stream, {"why": why})
        self._fire()

    def _do_end(self, stream: str) -> None:
        self._slots[stream].end()
        self._fire()
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._waited and all(slot.over for slot in self._waited):
            self._fire_last()

    def _do_mark(self, value: str, t: float | None = None, stream: str = "control") -> None:
        t = self._now() if t is None else t
        run, session, seq = self.plan.run, self.plan.session, self.next_seq("marker")
        self._emit(Marker(run, session, seq, t, self.t_wall(t), stream, value))

    def _do_stall(self, stream: str, silent_s: float) -> None:
        self._event("source.stalled", stream, {"silent_s": silent_s})

    def _do_unstall(self, stream: str) -> None:
        self._event("source.back", stream, {})

    def _do_note(self, code: str, t: float, detail: dict[str, Any]) -> None:
        self._event(code, None, detail, t)

    def _do_fail(self, modality: str, why: str) -> None:
        self._event("degraded", modality, {"why": why})

    def _do_pause(self) -> None:
        self._paused = True

    def _do_resume(self) -> None:
        self._paused = False

    def _do_mute(self, stream: str) -> None:
        self._predictor_of(stream).muted = True

    def _do_unmute(self, stream: str) -> None:
        self._predictor_of(stream).muted = False

    def _predictor_of(self, stream: str) -> Predictor:
        for predictor in self._predictors:
            if stream in predictor.streams:
                return predictor
        known = ", ".join(self._windows) or "none"
        raise ConfigError(f"no prediction is made from a stream '{stream}'; known: {known}")

    def _offered(self, stream: str) -> int:
        requests = self._open.requests if self._open is not None else ()
        return sum(w.stream == stream for r in requests for w in r.windows.values())

    def _now(self) -> float:
        """The latest instant that the session knows of."""
        ends = [lane.end_s() for s in self._slots.values() if (lane := s.begun) is not None]
        return max([*ends, self._grid.time(self._tick - 1)])

    def _event(
        self, code: str, stream: str | None, detail: dict[str, Any], t: float | None = None
    ) -> None:
        t = self._now() if t is None else t
        run, session, seq = self.plan.run, self.plan.session, self.next_seq("event")
        self._emit(Event(run, session, seq, t, self.t_wall(t), code, stream, detail))

    def _fire(self) -> None:
        """Fire every tick that all lanes have reached."""
        while not self.done:
            tick, reached = self._tick, False
            for slot in self._waited:
                if slot.reached(tick):
                    reached = True
                elif slot.state in ("live", "waiting"):
                    return
            if not reached:
                return
            self._fire_one()

    def _fire_one(self) -> None:
        tick = self._tick
        t = self._grid.time(tick)
        self._tick = tick + 1
        if not self._paused:
            self._offer(tick, t)
        for slot in self._waited:
            if slot.lane is not None:
                slot.lane.advance_to(tick + 1)

    def _fire_last(self) -> None:
        """All streams ended: the ticks up to the end, and one at the end itself."""
        lanes = [lane for slot in self._waited if (lane := slot.begun) is not None]
        end = max((lane.end_s() for lane in lanes), default=0.0)
        while lanes and self._grid.time(self._tick) <= end + _TOLERANCE_S:
            self._fire_one()
        fell_on_grid = self._grid.time(self._tick - 1) >= end - _TOLERANCE_S
        if lanes and not fell_on_grid and not self._paused and any(
            lane.last_window() is not None for lane in lanes
        ):  # fmt: skip
            self._offer(self._tick, end, last=True)
            self._tick += 1
        self.done = True

    def _offer(self, number: int, t: float, last: bool = False) -> None:
        """Cut the windows of a tick and emit it."""
        requests, missing = [], {}
        for predictor in self._predictors:
            if number % predictor.turn and not last:
                continue  # between its turns the last result stands
            windows = predictor.cut(number, t, self.plan.hop_s)
            if isinstance(windows, str):
                missing[predictor.name] = windows
                continue
            for window in windows.values():
                self._windows[window.stream].n_in += 1
            name = predictor.name
            requests.append(Request(name, predictor.bundle, windows, predictor.entries))
        self._watch(missing)
        truths = [s.lane.truth for s in self._waited if s.lane is not None]
        truth = next((label for label in truths if label is not None), None)
        tick = Tick(number, t, tuple(requests), missing, truth)
        self._open = tick
        self._emit(tick)
        assert self._open is None, "the tick was neither taken nor shed"

    def _watch(self, missing: Mapping[str, str]) -> None:
        """Tell once when a modality fails, and once when all are well again."""
        bad = {n: r for n, r in missing.items() if r not in _IN_ORDER}
        if bad.keys() != self._degraded.keys():
            fresh = bad.keys() - self._degraded.keys()
            for name in sorted(fresh):
                if bad[name] in ("quality", "no face"):
                    self._event("window.invalid", name, {})
            code = "degraded" if bad else "recovered"
            self._event(code, None, {"missing": bad})
        self._degraded = bad
