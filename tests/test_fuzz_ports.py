"""Random bytes on every port of a running engine: nothing escapes, nothing grows."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgpack
import psutil  # type: ignore[import-untyped]
import pytest
import zmq

from engine.control import ERROR_CODES, request
from engine.types import Prediction
from engine.verbs import VERBS
from sinks.subscribe import subscribe
from tests.bundles import write
from tests.engines import daemon, document, until

GREETING = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL" + bytes(48)  # of ZMTP 3.1
# libzmq walks through all of a socket's subscriptions whenever a client leaves: a flood of both,
# tens of thousands, keeps it busy. Only who may connect can do that.
N_TOPICS = 200
GREW_MIB = 12.0  # what a process's allocators may keep of all that


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on just now."""
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in opened]
    for one in opened:
        one.close()
    return ports


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def garbage(rng: random.Random) -> bytes:
    """What nobody should send: noise, and what begins as it should."""
    noise = rng.randbytes(rng.choice([1, 7, 64, 700, 5000]))
    verb, path = rng.choice(["GET", "POST", "BREW"]), rng.choice(["/", "/metrics", "/?token=x"])
    head = f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    return rng.choice([
        noise, GREETING + noise, GREETING[: rng.randrange(64)], head + noise, head + b"\r\n",
        head + upgrade + b"\r\n" + noise, head + b"X: " + noise.hex().encode() * 4,
    ])  # fmt: skip


def throw(port: int, rng: random.Random) -> None:
    """Connect, send garbage in pieces, and hang up in one of the ways to."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as raw:
        raw.settimeout(0.02)
        if rng.random() < 0.5:  # a reset instead of a farewell
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for _ in range(rng.randrange(1, 4)):
            raw.sendall(garbage(rng))
        if rng.random() < 0.2:
            raw.recv(1000)


def nearly(rng: random.Random) -> bytes:
    """A request in which something was changed, or one that asks for what cannot be."""
    verb = rng.choice([v for v in VERBS if v not in ("shutdown", "leave", "join", "record")])
    args: dict[str, Any] = {
        name: rng.choice([0, -1, 2**62, "x", "eeg", True, None, [], {}, "p1", 1.5, "prediction"])
        for name in VERBS[verb]
        if rng.random() < 0.9
    }
    body = bytearray(msgpack.packb({"v": 1, "id": 1, "verb": verb, "args": args}))
    if rng.random() < 0.5:
        body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body)


@contextmanager
def sockets(*opened: tuple[int, str]) -> Iterator[list[zmq.Socket[Any]]]:
    """Connected sockets of the kinds and to the addresses given."""
    with zmq.Context() as context:
        made = [context.socket(kind) for kind, _ in opened]
        for one, (_, url) in zip(made, opened, strict=True):
            one.linger = 0
            one.connect(url)
        try:
            yield made
        finally:
            for one in made:
                one.close(0)


def threaten(rng: random.Random, ports: list[int], control: str, publish: str, for_s: float) -> int:
    """Everything at once for so long; how many answers the control socket gave."""
    asked, answered, end_s = 0, 0, time.monotonic() + for_s
    topics = [rng.randbytes(rng.randrange(30)) for _ in range(N_TOPICS)]
    with sockets((zmq.DEALER, control), (zmq.XSUB, publish)) as (dealer, xsub):
        while time.monotonic() < end_s:
            throw(rng.choice(ports), rng)
            for _ in range(5):
                with suppress(zmq.Again):
                    dealer.send_multipart([b"", nearly(rng)], zmq.NOBLOCK)
                    asked += 1
                with suppress(zmq.Again):
                    kind = rng.choice([b"\x00", b"\x01", b"\x02", b""])
                    xsub.send(kind + rng.choice(topics), zmq.NOBLOCK)
            answered += answers(dealer, 0)
            while xsub.poll(0):
                xsub.recv_multipart()
        while answered < asked:
            more = answers(dealer, 10_000)
            assert more, "a request was not answered"
            answered += more
    return answered


def answers(dealer: zmq.Socket[Any], wait_ms: int) -> int:
    """How many replies are there, all of them proper ones; waits for the first."""
    n = 0
    while dealer.poll(0 if n else wait_ms):
        reply = msgpack.unpackb(dealer.recv_multipart()[-1])
        assert reply["ok"] or reply["error"]["code"] in ERROR_CODES
        n += 1
    return n


@pytest.mark.slow
def test_random_bytes_on_every_port_harm_nothing_and_leave_nothing_behind(
    tmp_path: Path, count: Callable[[int], int]
) -> None:
    bundle = write(tmp_path / "bundle")
    metrics, page, browser = free_ports(3)
    made = document(bundle, seconds=3600, sinks=[
        {"type": "metrics", "port": metrics},
        {"type": "websocket", "port": page, "token": "0" * 32},
    ], hop_s=0.1, purpose="research")  # fmt: skip
    made["streams"]["voice"] = {"source": {"type": "browser", "port": browser, "token": "0" * 32}}
    rng = random.Random(6)
    with daemon(made, tmp_path) as engine:
        process = psutil.Process(engine.process.pid)
        own = [int(url.rpartition(":")[2]) for url in (engine.publish, engine.control)]
        ports = [*own, metrics, page, browser]
        until(lambda: all(listens(port) for port in ports), "somebody who listens on each port")
        threaten(rng, ports, engine.control, engine.publish, count(20))
        before = engine.rss_mib(), process.num_fds(), process.num_threads()
        answered = threaten(rng, ports, engine.control, engine.publish, count(60))
        assert answered > 100
        until(lambda: process.num_fds() <= before[1] + 5, "the end of all connections")
        assert engine.rss_mib() - before[0] < GREW_MIB
        assert process.num_threads() <= before[2] + 2
        request(engine.control, "resume", {})
        request(engine.control, "unmute", {"stream": "eeg"})
        assert request(engine.control, "status", {})["sessions"]["p1"]["streams"]["eeg"] == "live"
        with urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as response:
            assert b"vagus_predictions" in response.read()
        with subscribe(engine.publish, "p1", ("prediction",), timeout_s=20) as heard:
            seqs = [m.seq for m in (next(heard) for _ in range(5)) if isinstance(m, Prediction)]
        assert seqs == list(range(seqs[0], seqs[0] + 5))
        request(engine.control, "shutdown", {})
        engine.process.wait(20)
    assert engine.process.returncode == 0
    said = (tmp_path / "p1.err").read_text()
    assert "Traceback" not in said, said
    assert "account broken" not in said
