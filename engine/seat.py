"""One session at the engine's table: the pure core with its log, its threads and its timings."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engine.batcher import Batcher
from engine.bundle import Bundle
from engine.clock import Clock
from engine.config import Config
from engine.errors import BundleError, UserError
from engine.inbox import Inbox, Item
from engine.log import LogWriter
from engine.past import past
from engine.plan import SessionPlan, Tick
from engine.predictor import Predictor
from engine.reader import Reader
from engine.recorder import Ending, Recorder
from engine.session import Session
from engine.swap import prepare
from engine.types import Event, Health, Marker, Message, Numbered, Prediction, Source
from engine.version import __version__

__all__ = ["Seat"]

_STALL_S = 1.0
_HEALTH_S = 1.0
_INBOX_ITEMS = 1 << 16
_TIMINGS = 256


class Seat:
    """Feeds one session from the inbox, logs every input before it acts, sends what it makes.

    `send` publishes a message and returns its body. All methods belong to the loop's thread.
    """

    def __init__(
        self,
        config: Config,
        plan: SessionPlan,
        sources: dict[str, Source],
        inbox: Inbox,
        batcher: Batcher,
        clock: Clock,
        send: Callable[[Message], bytes],
        recorder: Recorder,
    ) -> None:
        self.config, self.recorder = config, recorder
        self._sources = sources
        self.session = Session(plan, self._emit)
        self._batcher, self._clock, self._inbox, self._send = batcher, clock, inbox, send
        self._arrived_s = 0.0
        self._shedding = False
        self._taken_s = 0.0
        self._silent: dict[str, float] = {}  # stream: when its last chunk came
        self._stalled: set[str] = set()
        self._timings: dict[str, deque[float]] = {}
        self.failure: UserError | None = None
        self._where: dict[str, str] = {}  # modality: where its bundle is, if it was swapped
        self._before: dict[str, tuple[Bundle, str]] = {}  # what an unproven one took over from
        self.health_due_s = 0.0
        batcher.join(self.session)
        account, name = self.session.account, plan.session
        for stream in sources:
            block = config.streams[stream].policy == "block"
            stage = inbox.open(name, stream, account, _INBOX_ITEMS, block)
            account.equal(
                f"{stream}: out of inbox = in of timeline",
                lambda stage=stage: stage.n_out,  # type: ignore[misc]
                lambda stream=stream: self.session.items_in(stream),  # type: ignore[misc]
            )
        self.readers = [
            Reader(name, s, source, inbox, clock, config.streams[s].policy == "latest")
            for s, source in sources.items()
        ]

    @property
    def log(self) -> LogWriter | None:
        """The recording under way."""
        return self.recorder.log

    @property
    def name(self) -> str:
        """The session's name."""
        return self.session.plan.session

    def offers(self) -> dict[str, Any]:
        """{stream: where and how a page may send to it} of the sources that wait for one."""
        told = {name: getattr(source, "offer", None) for name, source in self._sources.items()}
        return {name: offer for name, offer in told.items() if offer is not None}

    def start(self) -> None:
        """Let the devices be read."""
        for reader in self.readers:
            reader.start()

    def stop(self) -> None:
        """Ask the devices' threads to finish; they do within one read."""
        for reader in self.readers:
            reader.stop()

    def now(self) -> float:
        """The engine's time."""
        return self._clock.now()

    def event(self, code: str, stream: str | None = None, /, **detail: Any) -> None:
        """An event of a stream, or of the session as a whole, logged as a command so that replay
        has it too."""
        args = {} if stream is None else {"stream": stream}
        self.command("note", code=code, t=self._clock.now(), detail=detail, **args)

    def take(self, item: Item) -> None:
        """One item of the inbox: log it, then act on it."""
        self._arrived_s, self._taken_s = item.arrived_s, self._clock.now()
        if item.chunk is None:
            self._take_word(item)
            return
        stream = self.config.streams[item.stream]
        late_s = self._taken_s - item.arrived_s
        self._shedding = stream.policy == "latest" and late_s > stream.overload.stale_s
        self._silent[item.stream] = self._taken_s
        if item.stream in self._stalled:
            self._stalled.discard(item.stream)
            self.command("unstall", stream=item.stream)
        if self.log is not None:
            self.log.chunk(item.chunk)
        self.session.push(item.chunk)
        self._shedding = False

    def command(self, verb: str, **args: Any) -> None:
        """A command from whoever gives one: log it, then act on it."""
        if self.log is not None:
            self.log.command(verb, args)
        self.session.command(verb, **args)

    def swap(self, stream: str, bundle: Bundle, where: str) -> None:
        """Let another bundle, to be found at `where`, take a modality over; between two ticks.

        Raises BundleError, with nothing changed, where it does not fit the session.
        """
        predictor = self.session.predictor_of(stream)
        fresh = prepare(self.session, stream, bundle)
        self._before[predictor.name] = predictor.bundle, self.where(predictor)
        self._where[predictor.name] = where
        if self.log is not None:
            self.log.command("swap", {"stream": stream, "bundle": _named(bundle, where)})
        self.session.command("swap", stream=stream, swap=fresh)
        self.schema()

    def swapped(self, predictor: Predictor) -> dict[str, str] | None:
        """The bundle of a modality as a recording names it; None for the config's own."""
        where = self._where.get(predictor.name)
        return None if where is None else _named(predictor.bundle, where)

    def where(self, predictor: Predictor) -> str:
        """The name or the path of the bundle that a modality runs on."""
        named = self.config.streams[predictor.streams[0]].bundle
        return self._where.get(predictor.name, str(named))

    def infer_failed(self, modality: str, why: str) -> None:
        """A bundle could not be run; one that never could gives way to the one before."""
        self.command("fail", modality=modality, why=why)
        known = self._before.pop(modality, None)
        if known is None:
            return
        predictor = next(p for p in self.session.predictors if p.name == modality)
        stream = predictor.streams[0]
        self.event("bundle.refused", stream, bundle=self.where(predictor), why=why)
        self.swap(stream, *known)
        del self._before[modality]  # that one was proven

    def advance(self, now_s: float) -> None:
        """Let time pass, where that has an effect."""
        deadline_s = self.session.deadline()
        if deadline_s is not None and deadline_s <= now_s:
            self._arrived_s = self._taken_s = now_s
            if self.log is not None:
                self.log.advance(now_s)
            self.session.advance(now_s)
        for stream, since_s in self._silent.items():
            live = self.session.streams[stream] == "live" and stream not in self._stalled
            if live and now_s - since_s > _STALL_S:
                self._stalled.add(stream)
                self.command("stall", stream=stream, silent_s=now_s - since_s)

    def finish(self, prediction: Prediction, arrived_s: float, added_s: float) -> None:
        """Send a prediction with its latencies, in milliseconds since its newest sample came."""
        now_s = self._clock.now()
        latency_ms = {
            "wait": 1e3 * max(0.0, self._taken_s - arrived_s),
            "steps": 1e3 * max(0.0, added_s - self._taken_s),
            "infer": 1e3 * (now_s - added_s),
            "total": 1e3 * (now_s - arrived_s),
        }
        self.send(replace(prediction, latency_ms=latency_ms))
        if self._before:
            self._prove()
        for stage, ms in latency_ms.items():
            self._timings.setdefault(stage, deque(maxlen=_TIMINGS)).append(ms)

    def send(self, message: Numbered) -> None:
        """Publish one of the session's messages, and log it as sent."""
        body = self._send(message)
        self.session.sent(message)
        if self.log is not None:
            self.log.message(message.kind, body)

    def health(self, now_s: float) -> None:
        """Send the account, the lags and the latencies; the next is due in a second."""
        self.health_due_s = now_s + _HEALTH_S
        session = self.session
        seq = session.next_seq("health")
        counters = self._account()
        reached = {s: session.reached_s(s) for s in session.streams}
        states = session.streams
        degraded = [*session.degraded(), *(f"{s}: stalled" for s in sorted(self._stalled))]
        if self.recorder.failed:
            degraded.append(f"recording: {self.recorder.failed}")
        self.send(
            Health(
                run=session.plan.run,
                session=self.name,
                seq=seq,
                t=now_s,
                t_wall=session.t_wall(now_s),
                ready=all(states[s] in ("live", "ended") for s in session.predicting),
                degraded=degraded,
                counters=counters,
                lag_s={s: now_s - t for s, t in reached.items() if t is not None},
                latency_ms=_percentiles(self._timings),
            )
        )

    def record(self, template: str, raw: bool) -> LogWriter:
        """Begin a recording, where none is under way."""
        middle = any(slot.begun is not None for slot in self.session.slots.values())
        log = self.recorder.begin(template, raw, past(self.session, self.swapped), middle)
        self.event("recording.started", path=str(log.path), raw=raw)
        return log

    def stop_recording(self) -> Ending:
        """End the recording under way, with its final account."""
        assert self.log is not None
        self.event("recording.stopped", path=str(self.log.path), records=self.log.records)
        return self.recorder.end(self._account(), session=self.name)

    def look_at_recording(self) -> None:
        """Tell of a recording that its disk ended; the session goes on."""
        broken = self.recorder.look()
        if broken is not None:
            told = {"path": str(broken.path), "why": broken.failed, "written": broken.written}
            self.event("recording.full", **told)

    def close(self) -> None:
        """Close the log with the final account."""
        self.recorder.close(self._account())

    def _account(self) -> dict[str, Any]:
        with self._inbox.frozen():
            return self.session.account.snapshot()

    def schema(self) -> None:
        """Announce what the session is made of."""
        self._send(self.session.schema(f"vagus {__version__}"))

    def _emit(self, made: Tick | Event | Marker) -> None:
        if not isinstance(made, Tick):
            self.send(made)
        elif self._shedding:
            if self.log is not None:
                self.log.shed(made.number)
            self.session.shed(made)
        else:
            self._batcher.add(self.session, made, self._arrived_s)

    def _prove(self) -> None:
        """A bundle that gave a result needs the one before no more."""
        for predictor in self.session.predictors:
            standing = predictor.standing
            if standing is not None and standing.bundle is predictor.bundle:
                self._before.pop(predictor.name, None)

    def _take_word(self, item: Item) -> None:
        args = dict(item.args or {})
        if item.verb == "crash":
            error = args["error"]
            if isinstance(error, UserError):
                self.failure = error
            self.command("lost", stream=item.stream, why=f"{type(error).__name__}: {error}")
            return
        try:
            self.command(item.verb, stream=item.stream, **args)
        except BundleError as error:
            self.failure = error
        if item.verb == "connect":
            self._silent[item.stream] = self._taken_s
            self.schema()


def _named(bundle: Bundle, where: str) -> dict[str, str]:
    return {"id": bundle.id, "sha256": bundle.sha256, "where": where}


def _percentiles(timings: Mapping[str, deque[float]]) -> dict[str, dict[str, float]]:
    """{stage: {p50, p95, p99}}; all stages are equally long."""
    if not timings:
        return {}
    found = np.percentile(np.array(list(timings.values())), (50, 95, 99), axis=1)
    p50, p95, p99 = found.tolist()
    return {stage: {"p50": p50[i], "p95": p95[i], "p99": p99[i]} for i, stage in enumerate(timings)}
