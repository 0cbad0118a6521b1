"""The loop: inbox, clock and sockets on one side, the pure sessions on the other."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import zmq

from engine.batcher import Batcher
from engine.bundle import Bundle
from engine.clock import Clock, MonotonicClock
from engine.config import Config
from engine.control import ControlSocket
from engine.desk import Desk
from engine.errors import AccountError, ConfigError, UserError
from engine.inbox import Inbox
from engine.keys import EngineKeys, Gate
from engine.loading import Swaps
from engine.outlet import Outlet
from engine.prepare import make_sinks, make_sources, plan
from engine.preview import Previews
from engine.publish import Publisher
from engine.recorder import Recorder
from engine.seat import Seat
from engine.session import Session
from engine.types import Message, Sink

__all__ = ["Engine"]

_LOOK_S = 0.25  # how often silent devices are looked for
_PHASE = 0.618  # of a second, between the healths of one session and the next


class Engine:
    """Runs sessions until they end or it is stopped; owns the sockets, the inbox, the batcher.

    A context manager: entering binds the sockets and starts the sources of `configs`, leaving
    drains, closes the recordings with their final account and frees the ports. The loop ends when
    all sessions have ended; with `together` False they run one after another. `sinks` get every
    message, beside those that the configs name.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        *,
        clock: Clock | None = None,
        together: bool = True,
        sinks: Iterable[Sink] = (),
    ) -> None:
        self.configs = list(configs)
        self._waiting = [] if together else self.configs[1:]
        self._sinks = list(sinks)
        self.run_id = uuid.uuid4().hex[:12]
        self.seats: dict[str, Seat] = {}
        self._clock = clock or MonotonicClock()
        self._stopping = threading.Event()
        self._inbox = Inbox()
        self._batcher = Batcher(self._infer_failed)
        self._bundles: dict[tuple[str, str], Bundle] = {}
        self._outlets: list[Outlet] = []
        self._due_s = 0.0  # when something is to be done that no item brings
        self._failure: UserError | None = None
        self._joined: Counter[str] = Counter()
        self._context = zmq.Context()
        self._gate: Gate | None = None
        self._rejected = 0
        self.previews = Previews()
        self.swaps = Swaps(self._inbox.wake)
        self.desk = Desk(self)

    def __enter__(self) -> Engine:
        first = self.configs[0]
        try:
            keys = self._keys(first)
            self.publisher = Publisher(self._context, first.publish, clock=self._clock, keys=keys)
            self.control = ControlSocket(self._context, first.control, keys)
            for sink in self._sinks:
                self._attach(sink)
            for config in self.configs[: len(self.configs) - len(self._waiting)]:
                self.join(config)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._drain()
        finally:
            self._close()

    def stop(self) -> None:
        """Ask the loop to end; safe from any thread and from a signal handler."""
        self._stopping.set()
        self._inbox.wake()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the loop while this is entered."""
        both = (signal.SIGINT, signal.SIGTERM)
        before = {s: signal.signal(s, lambda *_: self.stop()) for s in both}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)

    def loop(self, duration_s: float | None = None) -> None:
        """Run until stopped, done, or `duration_s` is over."""
        poller = zmq.Poller()
        poller.register(self.publisher.socket, zmq.POLLIN)
        poller.register(self.control.socket, zmq.POLLIN)
        poller.register(self._inbox.fileno(), zmq.POLLIN)
        end_s = None if duration_s is None else self._clock.now() + duration_s
        while not self._stopping.is_set():
            now_s = self._clock.now()
            if end_s is not None and now_s >= end_s:
                return
            if self.seats and self._all_done():
                if not self._waiting:
                    return
                for name in list(self.seats):
                    self.leave(name)
                self.join(self._waiting.pop(0))
            poller.poll(self._wait_ms(now_s, end_s))
            self.turn()
            if self._failure is not None:
                raise self._failure

    def turn(self) -> None:
        """One turn of the loop: what came in and follows from it, then what else is due."""
        for item in self._inbox.take():
            seat = self.seats.get(item.session)
            if seat is not None:
                seat.take(item)
                self.previews.take(item, seat)
                if seat.failure is not None and seat.session.done:
                    self._failure = seat.failure  # the user has to act: nothing can come of it
        self._run_batch()  # at once: whoever waits for a prediction waits for nothing else
        now_s = self._clock.now()
        if now_s >= self._due_s:
            self._tend(now_s)
        self.previews.serve(now_s, self.seats, self.publisher)
        self.publisher.serve()
        self.swaps.serve(self.seats)
        self.control.serve(self.desk)

    def _tend(self, now_s: float) -> None:
        """What time alone brings: late ticks, silent devices, each session's health in its turn."""
        for seat in self.seats.values():
            seat.advance(now_s)
            seat.look_at_recording()
        self._run_batch()
        due_s = now_s + _LOOK_S
        for seat in self.seats.values():
            if now_s >= seat.health_due_s:
                seat.health(now_s)
                self._prove(seat)
                self._tell_rejected()
            deadline_s = seat.session.deadline()
            due_s = min(due_s, seat.health_due_s, due_s if deadline_s is None else deadline_s)
        self._due_s = due_s  # deadlines only move away, so nothing is due before

    def join(self, config: Config) -> None:
        """Seat a session: load its bundles, open its log, start its sources."""
        if config.session in self.seats:
            raise ConfigError(f"session '{config.session}' runs already; choose another name")
        now_s, wall_s = self._clock.now(), time.time()
        planned = plan(config, self._run_of(config.session), now_s, wall_s - now_s, self._load)
        sources = make_sources(config, self._clock, now_s)
        recorder = Recorder(config, planned, self._clock)
        recording = config.recording
        if recording is not None:
            recorder.begin(recording.path, recording.raw)
        seat = Seat(
            config, planned, sources, self._inbox, self._batcher, self._clock, self._send, recorder
        )
        seat.health_due_s = now_s + _PHASE * len(self.seats) % 1.0
        self.seats[config.session] = seat
        self._due_s = 0.0
        for sink in make_sinks(config):
            self._attach(sink)
        seat.event("session.joined")
        if seat.log is not None and recording is not None:
            seat.event("recording.started", path=str(seat.log.path), raw=recording.raw)
        seat.start()

    def leave(self, name: str) -> None:
        """A session goes: its threads stop, what is under way counts as shutdown."""
        seat = self.seats[name]
        self._inbox.close(name)
        seat.stop()
        self._batcher.leave(seat.session)
        seat.event("session.left")
        seat.close()
        self.publisher.forget(name)
        self.previews.forget(name)
        del self.seats[name]

    def _run_of(self, name: str) -> str:
        """The run id of a session: its numbers start anew when it joins again, so the id does."""
        self._joined[name] += 1
        n = self._joined[name]
        return self.run_id if n == 1 else f"{self.run_id}-{n}"

    def _attach(self, sink: Sink) -> None:
        outlet = Outlet(sink)
        outlet.start()
        self._outlets.append(outlet)

    def _keys(self, config: Config) -> EngineKeys | None:
        """The keys that the sockets are guarded with; their gate opens before they do."""
        curve = config.security.curve if config.security is not None else None
        if curve is None:
            return None
        keys = EngineKeys.load(curve.secret, curve.clients)
        self._gate = Gate(self._context, keys)
        return keys

    def _tell_rejected(self) -> None:
        """Say once a second, in every session, who was turned away at the sockets."""
        counts = Counter(self.publisher.rejected) + Counter(self.control.rejected)
        if counts.total() > self._rejected:
            self._rejected = counts.total()
            for seat in self.seats.values():
                seat.event("subscriber.rejected", **counts)

    def _load(self, name: str, device: str) -> Bundle:
        if (name, device) not in self._bundles:
            self._bundles[name, device] = Bundle.load(name, device)
        return self._bundles[name, device]

    def _all_done(self) -> bool:
        return all(seat.session.done for seat in self.seats.values())

    def _wait_ms(self, now_s: float, end_s: float | None) -> int:
        """Until something is due, for the poller; items and messages wake it earlier."""
        due_s = min(self._due_s, self.previews.due_s, math.inf if end_s is None else end_s)
        return max(0, math.ceil(1e3 * (due_s - now_s)))

    def _run_batch(self) -> None:
        if not len(self._batcher):
            return
        added_s = self._clock.now()
        for session, prediction, arrived_s in self._batcher.run():
            self.seats[session.plan.session].finish(prediction, arrived_s, added_s)

    def _send(self, message: Message) -> bytes:
        for outlet in self._outlets:
            outlet.put(message)
        return self.publisher.send(message)

    def _infer_failed(self, session: Session, modality: str, why: str) -> None:
        self.seats[session.plan.session].infer_failed(modality, why)

    def _prove(self, seat: Seat) -> None:
        """The third law, every second; a broken one is our fault and is said aloud."""
        try:
            with self._inbox.frozen():
                seat.session.account.check()
        except AccountError as error:
            print(f"vagus: session {seat.name}: account broken: {error}", file=sys.stderr)

    def _drain(self) -> None:
        """Stop the sources, finish what they handed over, say goodbye."""
        for seat in self.seats.values():
            seat.stop()
        self.turn()
        now_s = self._clock.now()
        for seat in self.seats.values():
            seat.event("shutdown")
            seat.health(now_s)
            self._prove(seat)
            seat.close()

    def _close(self) -> None:
        self._inbox.shut()
        for outlet in self._outlets:
            outlet.close()
        for name in ("publisher", "control"):
            if hasattr(self, name):
                getattr(self, name).close()
        if self._gate is not None:
            self._gate.close()
        self._context.term()
