"""A reader that stands still under load: the engine goes on, and the reader gets what it missed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from engine.control import request
from tests.bundles import write
from tests.engines import DEADLINE_S, Daemon, daemon, document

# Reads markers with the client that users have, and says at each "say ..." what came so far.
READER = """
import json, sys
from sinks.subscribe import Subscription
publish, control = sys.argv[1:]
with Subscription(
    publish, kinds=("marker",), timeout_s=60, fetch_from=control, high_water=100
) as heard:
    first, n, ordered, last = None, 0, True, -1
    for message in heard:
        first = message.seq if first is None else first
        n, ordered, last = n + 1, ordered and message.seq > last, message.seq
        if message.value.startswith("say"):
            told = {"value": message.value, "first": first, "last": last, "n": n}
            told |= {"ordered": ordered, "lost": heard.n_lost, "fetched": heard.n_fetched}
            print(json.dumps(told), flush=True)
"""
KEPT = 10_000  # messages that the socket keeps for one reader; the system keeps some beside
PAD = "x" * 4096
MIB = 1 << 20


class Reader:
    """The reader's process, which can be made to stand still."""

    def __init__(self, process: subprocess.Popen[str], mark: Callable[..., None]) -> None:
        self._process, self._mark = process, mark
        assert process.stdout is not None
        self._out = process.stdout
        self._poller = zmq.Poller()
        self._poller.register(self._out, zmq.POLLIN)
        self._asked = 0

    def told(self) -> dict[str, Any]:
        """What came so far. The question may be lost as well, so it is asked again."""
        self._asked += 1
        for again in range(round(DEADLINE_S / 0.1)):
            self._mark(f"say {self._asked}.{again}")
            while self._poller.poll(100):
                told: dict[str, Any] = json.loads(self._out.readline())
                if told["value"].startswith(f"say {self._asked}."):
                    return told
        pytest.fail("the reader says nothing")

    @contextmanager
    def standing(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        yield
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def reading(engine: Daemon, mark: Callable[..., None]) -> Iterator[Reader]:
    command = [sys.executable, "-c", READER, engine.publish, engine.control]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            yield Reader(process, mark)
        finally:
            process.kill()


@contextmanager
def marking(engine: Daemon) -> Iterator[Callable[..., None]]:
    """mark(value, n) has `n` markers put, as fast as the engine answers."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(engine.control)

        def mark(value: str, n: int = 1) -> None:
            asked = {"v": 1, "id": 1, "verb": "mark", "args": {"value": value}}
            body, waiting = msgspec.msgpack.encode(asked), 0
            for left in range(n, -1, -1):
                if left:
                    socket.send_multipart((b"", body))
                    waiting += 1
                while waiting > (32 if left else 0):
                    assert socket.poll(round(1e3 * DEADLINE_S)), "the engine does not answer"
                    assert msgspec.msgpack.decode(socket.recv_multipart()[-1])["ok"]
                    waiting -= 1

        yield mark


def predictions(engine: Daemon) -> list[Any]:
    got = request(engine.control, "fetch", {"kind": "prediction", "first": 0, "last": 2**40})
    return [msgspec.msgpack.decode(body) for body in got["messages"]]


@pytest.mark.slow
def test_a_reader_that_stands_still_gets_all_it_missed_and_the_engine_stays_as_it_is(
    tmp_path: Path,
) -> None:
    made = document(write(tmp_path / "bundle", hop_s=0.05), seconds=3600)
    with daemon(made, tmp_path) as engine, marking(engine) as mark:
        with reading(engine, mark) as reader:
            reader.told()  # it is there
            before_mib = engine.rss_mib()
            for more in range(300, 4000, 300):  # what the system keeps is known to nobody
                with reader.standing():
                    mark(PAD, KEPT + more)
                told = reader.told()
                if told["fetched"] or told["lost"]:
                    break
            assert told["fetched"] > 0, "it never lost any"
            assert told["lost"] == 0
            assert told["ordered"]
            assert told["n"] == told["last"] - told["first"] + 1
            with reader.standing():
                mark(PAD, 2 * KEPT)
                full_mib = engine.rss_mib()
                mark(PAD, KEPT)  # there is no room for any of these
                assert engine.rss_mib() - full_mib < 8
                assert full_mib - before_mib < KEPT * len(PAD) / MIB + 40
            told = reader.told()
        assert told["lost"] > KEPT / 2  # too old to be kept: told, and not there
        assert told["ordered"]
        assert told["n"] + told["lost"] == told["last"] - told["first"] + 1
        got = predictions(engine)
        assert [p["seq"] for p in got] == list(range(len(got)))
        assert [p["tick"] for p in got] == list(range(1, len(got) + 1))
        status = request(engine.control, "status", {})["sessions"]["p1"]
        assert status["degraded"] == []
