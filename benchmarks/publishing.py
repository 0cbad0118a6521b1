"""The prediction socket under load: what sending costs, and what a standing reader does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from statistics import median
from typing import Any, NamedTuple

import msgspec
import psutil  # type: ignore[import-untyped]
import zmq

from benchmarks.daemon import running
from benchmarks.result import Result, interleave, versions
from engine import wire
from engine.control import request
from engine.publish import Publisher
from engine.types import Prediction

__all__ = ["publishing", "stalled"]

RATE_HZ = 1000.0
N_READERS = 10
N_SESSIONS = 8
_RUN_S = 5.0
_BURST_S = 0.01  # sent in pieces of so long: a timer is no finer
_READY_S = 30.0
_FLOOD = 30_000  # messages of 1 kB: more than the socket and the system keep for a reader
_PARTS = ("vagus", "pyzmq", "msgspec")


def publishing(n_repeats: int = 5) -> Result:
    """The share of one core, all threads together, that 1000 predictions/s to 10 readers take.

    The peer sends bytes of the same size that it has ready, through the same kind of socket: it
    neither encodes nor keeps anything.
    """
    details: dict[str, Any] = {"rate_hz": RATE_HZ, "readers": N_READERS}

    def ours() -> float:
        with _publisher() as publisher, _readers(publisher.url, N_READERS) as readers:
            share, details["sent_hz"] = _paced(lambda i: publisher.send(_prediction(i)))
            details["received"] = readers.received / publisher.sent
            return share

    def bare() -> float:
        body, topic = wire.encode(_prediction(0)), wire.topic("p01", "prediction")
        details["body_bytes"] = len(body)
        with _publisher() as publisher, _readers(publisher.url, N_READERS):
            share, _ = _paced(lambda i: publisher.socket.send_multipart((topic, body)))
            return share

    found = interleave({"ours": ours, "bytes alone": bare}, n_repeats)
    mine = found.pop("ours")
    return Result("publishing", "% of one core", mine, found, versions(*_PARTS), details)


def stalled(n_repeats: int = 5) -> Result:
    """The median latency of an engine's predictions, newest sample to send, under 1000 markers/s
    while a reader stands still that has lost messages already.

    The peer is the same engine a moment before, with that reader reading.
    """
    config = {
        "session": "p",
        "publish": "tcp://127.0.0.1:*",
        "control": "tcp://127.0.0.1:*",
        "streams": {"eeg": {"source": {"type": "simulate"}, "bundle": "simulated-eeg"}},
    }
    names = [f"p-{i}" for i in range(1, N_SESSIONS + 1)]
    details: dict[str, Any] = {"sessions": N_SESSIONS}
    with (
        running(config, "--sessions", str(N_SESSIONS)) as (process, _, publish, control),
        _readers(publish, 1) as readers,
        _marks(control) as mark,
    ):

        def latency_ms() -> float:
            first = {name: len(_predictions(control, name, 0)) for name in names}
            _paced(mark)
            told = [p for name, n in first.items() for p in _predictions(control, name, n)]
            return float(median(p["latency_ms"]["total"] for p in told))

        def still() -> float:
            readers.process.send_signal(signal.SIGSTOP)
            try:
                for i in range(_FLOOD):
                    mark(i)
                before = process.memory_info().rss
                found = latency_ms()
                details["grew_mib"] = (process.memory_info().rss - before) / 2**20
                return found
            finally:
                readers.process.send_signal(signal.SIGCONT)

        found = interleave({"all reading": latency_ms, "ours": still}, n_repeats)
        details["rss_mib"] = process.memory_info().rss / 2**20
    mine = found.pop("ours")
    return Result("stalled", "ms from sample to send", mine, found, versions(*_PARTS), details)


def _prediction(i: int) -> Prediction:
    """One of two modalities and four labels."""
    labels = {"happy": 0.125, "angry": 0.25, "sad": 0.5, "calm": 0.125}
    about = {"used": True, "bundle": "simulated", "segment": 0, "first": i, "last": i + 511}
    told = {**about, "filled": 1.0, "quality": 1.0, "probabilities": labels}
    return Prediction(
        run="0123456789ab", session="p01", seq=i, tick=i, t=1e-3 * i, t_wall=1.7e9 + 1e-3 * i,
        label="sad", probabilities=labels, confidence=0.5, missing=[], truth="sad",
        dimensions={"valence": 0.25, "arousal": 0.5, "dominance": 0.5},
        modalities={"eeg": told, "voice": told},
        latency_ms={"wait": 0.5, "steps": 0.25, "infer": 1.25, "total": 2.0},
    )  # fmt: skip


def _paced(act: Callable[[int], object]) -> tuple[float, float]:
    """Call `act(i)` at RATE_HZ; the share of one core that this process took, in %, and the rate
    that was reached."""
    used, begin = os.times(), time.monotonic()
    n = 0
    while (past_s := time.monotonic() - begin) < _RUN_S:
        while n < past_s * RATE_HZ:
            act(n)
            n += 1
        time.sleep(_BURST_S)
    now, took_s = os.times(), time.monotonic() - begin
    spent_s = now.user + now.system - used.user - used.system
    return 100 * spent_s / took_s, n / took_s


def _predictions(control: str, session: str, first: int) -> list[Any]:
    """A session's, from number `first` on."""
    args = {"session": session, "kind": "prediction", "first": first, "last": 2**40}
    return [msgspec.msgpack.decode(b) for b in request(control, "fetch", args)["messages"]]


@contextmanager
def _marks(control: str) -> Iterator[Callable[[int], None]]:
    """Asks an engine for markers of 1 kB, without waiting for more than a few replies."""
    asked = {"v": 1, "id": 1, "verb": "mark", "args": {"session": "p-1", "value": "x" * 1024}}
    body = msgspec.msgpack.encode(asked)
    waiting = [0]
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(control)

        def mark(_: int) -> None:
            socket.send_multipart((b"", body))
            waiting[0] += 1
            while waiting[0] and socket.poll(0 if waiting[0] < 32 else None):
                socket.recv_multipart()
                waiting[0] -= 1

        yield mark


@contextmanager
def _publisher() -> Iterator[Publisher]:
    with zmq.Context() as context:
        publisher = Publisher(context, "tcp://127.0.0.1:*")
        try:
            yield publisher
        finally:
            publisher.close()


class _Readers(NamedTuple):
    """A process that reads, and how much it has read."""

    process: psutil.Process
    count: Any  # of ctypes: written there, read here

    @property
    def received(self) -> int:
        return int(self.count.value)


@contextmanager
def _readers(url: str, n: int) -> Iterator[_Readers]:
    """`n` readers of all that is published, in one other process, from when they are listening."""
    spawn = multiprocessing.get_context("spawn")
    listening, count = spawn.Event(), spawn.Value("q", 0, lock=False)
    process = spawn.Process(target=_read, args=(url, n, listening, count), daemon=True)
    process.start()
    try:
        if not listening.wait(_READY_S):
            raise RuntimeError("the readers did not start")
        yield _Readers(psutil.Process(process.pid), count)
    finally:
        process.kill()
        process.join()


def _read(url: str, n: int, listening: Event, count: Any) -> None:
    with zmq.Context() as context:
        poller = zmq.Poller()
        for _ in range(n):
            socket = context.socket(zmq.SUB)
            socket.subscribe(b"")
            socket.connect(url)
            poller.register(socket, zmq.POLLIN)
        poller.poll(1000)  # an engine's schema comes; a publisher alone has none
        listening.set()
        while True:
            for socket, _ in poller.poll():
                socket.recv_multipart()
                count.value += 1
