"""Made-up messages of every kind, and sockets that are served while a test waits on them."""

from __future__ import annotations

import socket as sockets
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import zmq

from engine.types import Event, Health, Marker, Message, Prediction, Schema

RUN = "0123456789ab"
TIMEOUT_S = 20.0  # of anything a test waits for; never reached where the code is right


def schema(session: str = "p01", **changes: Any) -> Schema:
    keys: dict[str, Any] = {
        "run": RUN,
        "engine": "vagus 0.1.0",
        "session": session,
        "streams": {"eeg": {"kind": "eeg", "rate_hz": 128.0, "channels": ["Fp1"], "unit": "uV"}},
        "bundles": {"eeg": {"id": "sim", "sha256": "00", "labels": ["calm", "happy"]}},
        "fusion": "mean",
        "smoothing": "none",
        "hop_s": 0.5,
        "started_wall": None,
    }
    return Schema(**keys | changes)


def prediction(seq: int = 0, session: str = "p01", **changes: Any) -> Prediction:
    probabilities = {"calm": 0.25, "happy": 0.75}
    eeg = {"used": True, "bundle": "sim", "segment": 0, "first": 0, "last": 127, "filled": 1.0}
    keys: dict[str, Any] = {
        "run": RUN,
        "session": session,
        "seq": seq,
        "tick": seq,
        "t": 0.5 * seq,
        "t_wall": None,
        "label": "happy",
        "probabilities": probabilities,
        "confidence": 0.75,
        "dimensions": None,
        "modalities": {
            "eeg": {**eeg, "quality": 0.5, "probabilities": probabilities},
            "voice": {"used": False, "reason": "muted"},
        },
        "missing": ["voice"],
        "latency_ms": {"wait": 0.5, "steps": 0.25, "infer": 1.25, "total": 2.0},
        "truth": "calm",
    }
    return Prediction(**keys | changes)


def event(seq: int = 0, session: str = "p01", **changes: Any) -> Event:
    keys: dict[str, Any] = {"code": "source.lost", "stream": "eeg", "detail": {"why": "gone"}}
    return Event(RUN, session, seq, 1.5, 1.75e9, **keys | changes)


def marker(seq: int = 0, session: str = "p01", **changes: Any) -> Marker:
    keys: dict[str, Any] = {"stream": "control", "value": "start"}
    return Marker(RUN, session, seq, 2.5, None, **keys | changes)


def health(seq: int = 0, session: str = "p01", **changes: Any) -> Health:
    inbox = {"in": 12, "made": {}, "out": 8, "held": 1, "dropped": {"overrun": 3}}
    keys: dict[str, Any] = {
        "ready": True,
        "degraded": [],
        "counters": {"eeg": {"inbox": inbox}},
        "lag_s": {"eeg": 0.125},
        "latency_ms": {"total": {"p50": 1.0, "p95": 2.0, "p99": 4.0}},
    }
    return Health(RUN, session, seq, 3.0, None, **keys | changes)


def one_of_each() -> list[Message]:
    return [schema(), prediction(), event(), marker(), health()]


def wait_for(socket: zmq.Socket[Any], flags: int = zmq.POLLIN) -> None:
    assert socket.poll(1e3 * TIMEOUT_S, flags), "nothing came"


def throw(url: str, data: bytes, *, abruptly: bool) -> None:
    """Send bytes to a TCP address and hang up, politely or not."""
    host, port = url.removeprefix("tcp://").split(":")
    with sockets.create_connection((host, int(port)), TIMEOUT_S) as raw:
        if abruptly:  # a reset instead of a farewell
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(ConnectionError):  # cut off already
            raw.sendall(data)


@contextmanager
def served(socket: zmq.Socket[Any], serve: Callable[[], None]) -> Iterator[None]:
    """Call `serve` in a thread whenever `socket` is readable; what it raises fails the test."""
    stop = threading.Event()
    raised: list[BaseException] = []

    def loop() -> None:
        try:
            while not stop.is_set():
                if socket.poll(20):
                    serve()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(TIMEOUT_S)
    assert not raised, raised
    assert not thread.is_alive()
