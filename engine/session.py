"""The pure core: inputs in, ticks and events out. No threads, no clocks, no sockets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engine.account import Account
from engine.adapt import UNCALIBRATED, State
from engine.errors import ConfigError
from engine.fusion import Fusion
from engine.lane import Grid
from engine.orders import ORDERS
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
)

__all__ = ["Session"]

_TOLERANCE_S = 1e-6
# Why a modality may be missing while nothing is wrong.
_IN_ORDER = {"filling", "waiting", "muted", "no speech", UNCALIBRATED}


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
        self.grid = Grid(plan.origin_s, plan.hop_s)
        self.tick = 1  # the next one
        self.now_s = -math.inf  # the latest time that `advance` told
        self.paused = False
        self._degraded: dict[str, str] = {}
        self._fusion = Fusion(plan)
        self._seq = dict.fromkeys(("prediction", "event", "marker", "health"), 0)
        self.slots = {n: Slot(n, stream, self.account) for n, stream in plan.streams.items()}
        self.predictors = predictors(plan, self.slots)
        self._waited = [slot for p in self.predictors for slot in p.slots.values()]
        self._open: Tick | None = None  # fired, and neither taken nor shed
        self._windows = {
            stream: self.account.stage(stream, "windows", partial(self._offered, stream))
            for predictor in self.predictors
            for stream in predictor.streams
        }
        self._unsent: set[tuple[str, int]] = set()
        self._before = 0  # numbers that were given in a past which is not known
        self._publish = self.account.stage("session", "publish", lambda: len(self._unsent))
        self.account.equal(
            "session: messages published = sequence numbers given",
            lambda: self._publish.n_in, lambda: sum(self._seq.values()) - self._before,
        )  # fmt: skip

    # -- the three inputs ---------------------------------------------------------------------

    def push(self, chunk: Chunk) -> None:
        """Take a chunk of a connected stream; fires the ticks that it completes."""
        self.slots[chunk.stream].push(chunk)

    def advance(self, now_s: float) -> None:
        """Fire the ticks whose patience is over, with the late streams missing."""
        self.now_s = now_s
        while (deadline := self.deadline()) is not None and deadline <= now_s:
            self._fire_one()

    def deadline(self) -> float | None:
        """When `advance` would next have an effect; None when it never will."""
        if self.done or not self.predictors:
            return None
        return self.grid.time(self.tick) + self.plan.patience_s

    def command(self, verb: str, **args: Any) -> None:
        """One of `engine.orders`, such as connect, end, pause, mute, calibrate."""
        order = ORDERS.get(verb)
        if order is None:
            raise ConfigError(f"a session knows no command '{verb}'")
        order(self, **args)

    # -- the results come back ----------------------------------------------------------------

    def finish(self, tick: Tick, results: Mapping[str, Array | None]) -> Prediction:
        """Fuse the results (labels,) per modality, None for a failed one, into a prediction."""
        seq = self.next_seq("prediction")
        return self._fusion.predict(tick, self.predictors, results, seq, self.t_wall(tick.t))

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

    def go_on(self, tick: int, numbers: Mapping[str, int], now_s: float) -> None:
        """Be in the middle of a session whose past is not known: which tick and which numbers
        come next."""
        self.tick, self.now_s = tick, now_s
        self._seq.update(numbers)
        self._before = sum(self._seq.values()) - self._publish.n_in
        for slot in self._waited:
            if slot.lane is not None:
                slot.lane.advance_to(tick)

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
        return self.slots[stream].stage.n_in

    @property
    def numbers(self) -> dict[str, int]:
        """{kind: the number that comes next}."""
        return dict(self._seq)

    @property
    def streams(self) -> dict[str, str]:
        """{stream: state}."""
        return {name: slot.state for name, slot in self.slots.items()}

    @property
    def predicting(self) -> list[str]:
        """The streams that predictions are made from."""
        return list(self._windows)

    def degraded(self) -> list[str]:
        """Why predictions are not as good as they could be."""
        return [f"{name}: {reason}" for name, reason in self._degraded.items()]

    def adaptation(self, stream: str) -> State | None:
        """What was learnt of a stream's person, for `adapt` in another session."""
        return self.predictor_of(stream).adapter(stream).state

    def reached_s(self, stream: str) -> float | None:
        """Up to where a stream has come, in engine seconds."""
        lane = self.slots[stream].begun
        return lane.end_s() if lane is not None else None

    def schema(self, engine: str) -> Schema:
        """What the session is made of."""
        infos = {n: s.lane.info for n, s in self.slots.items() if s.lane is not None}
        return Schema(
            run=self.plan.run,
            engine=engine,
            session=self.plan.session,
            streams={name: info.describe() for name, info in infos.items()},
            bundles={p.name: p.describe() for p in self.predictors},
            fusion=self.plan.fusion,
            smoothing=self._fusion.smoothing.method,
            hop_s=self.plan.hop_s,
            started_wall=self.t_wall(self.plan.origin_s),
        )

    # -- what its orders act on ---------------------------------------------------------------

    def latest_s(self) -> float:
        """The latest instant that the session knows of."""
        ends = [lane.end_s() for s in self.slots.values() if (lane := s.begun) is not None]
        return max([*ends, self.grid.time(self.tick - 1)])

    def event(
        self, code: str, stream: str | None, detail: dict[str, Any], t: float | None = None
    ) -> None:
        """Tell that something changed, at `t` or else at the latest instant."""
        t = self.latest_s() if t is None else t
        run, session, seq = self.plan.run, self.plan.session, self.next_seq("event")
        self._emit(Event(run, session, seq, t, self.t_wall(t), code, stream, detail))

    def marker(self, value: str, stream: str, t: float | None = None) -> None:
        """Tell of a marker, at `t` or else at the latest instant."""
        t = self.latest_s() if t is None else t
        run, session, seq = self.plan.run, self.plan.session, self.next_seq("marker")
        self._emit(Marker(run, session, seq, t, self.t_wall(t), stream, value))

    def fire(self) -> None:
        """Fire every tick that all lanes have reached."""
        while not self.done:
            tick, reached = self.tick, False
            for slot in self._waited:
                if slot.reached(tick):
                    reached = True
                elif slot.state in ("live", "waiting"):
                    return
            if not reached:
                return
            self._fire_one()

    def end_if_over(self) -> None:
        """Fire the last ticks once no stream will give more."""
        if self._waited and all(slot.over for slot in self._waited):
            self._fire_last()

    def predictor_of(self, stream: str) -> Predictor:
        """The predictor that a stream feeds; raises ConfigError where there is none."""
        for predictor in self.predictors:
            if stream in predictor.streams:
                return predictor
        known = ", ".join(self._windows) or "none"
        raise ConfigError(f"no prediction is made from a stream '{stream}'; known: {known}")

    # -- inside -------------------------------------------------------------------------------

    def _offered(self, stream: str) -> int:
        requests = self._open.requests if self._open is not None else ()
        return sum(w.stream == stream for r in requests for w in r.windows.values())

    def _fire_one(self) -> None:
        tick = self.tick
        t = self.grid.time(tick)
        self.tick = tick + 1
        if not self.paused:
            self._offer(tick, t)
        for slot in self._waited:
            if slot.lane is not None:
                slot.lane.advance_to(tick + 1)

    def _fire_last(self) -> None:
        """All streams ended: the ticks up to the end, and one at the end itself."""
        lanes = [lane for slot in self._waited if (lane := slot.begun) is not None]
        end = max((lane.end_s() for lane in lanes), default=0.0)
        while lanes and self.grid.time(self.tick) <= end + _TOLERANCE_S:
            self._fire_one()
        fell_on_grid = self.grid.time(self.tick - 1) >= end - _TOLERANCE_S
        if lanes and not fell_on_grid and not self.paused and any(
            lane.last_window() is not None for lane in lanes
        ):  # fmt: skip
            for lane in lanes:
                lane.catch_up()
            self._offer(self.tick, end, last=True)
            self.tick += 1
        self.done = True

    def _offer(self, number: int, t: float, last: bool = False) -> None:
        """Cut the windows of a tick and emit it."""
        requests, missing, faults = [], {}, {}
        for predictor in self.predictors:
            if number % predictor.turn and not last:
                continue  # between its turns the last result stands
            request = predictor.request(number, t, self.plan.hop_s)
            for slot in predictor.slots.values():
                if (news := slot.news(t)) is not None:
                    self.event("stream.quality", slot.stream, news, t)
            if isinstance(request, str):
                missing[predictor.name] = request
                faults[predictor.name] = predictor.faults()
                continue
            for window in request.windows.values():
                self._windows[window.stream].n_in += 1
            requests.append(request)
        self._watch(missing, t)
        truths = [s.lane.truth for s in self._waited if s.lane is not None]
        truth = next((label for label in truths if label is not None), None)
        tick = Tick(number, t, tuple(requests), missing, truth, faults)
        self._open = tick
        self._emit(tick)
        assert self._open is None, "the tick was neither taken nor shed"

    def _watch(self, missing: Mapping[str, str], t: float) -> None:
        """Tell once when a modality fails, and once when all are well again."""
        bad = {n: r for n, r in missing.items() if r not in _IN_ORDER}
        if bad.keys() != self._degraded.keys():
            fresh = bad.keys() - self._degraded.keys()
            for name in sorted(fresh):
                if bad[name] in ("quality", "no face"):
                    self.event("window.invalid", name, {}, t)
            code = "degraded" if bad else "recovered"
            self.event(code, None, {"missing": bad}, t)
        self._degraded = bad
