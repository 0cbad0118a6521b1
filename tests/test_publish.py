"""The prediction socket: who gets what, who joins late, who falls behind, who sends garbage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import msgpack
import pytest
import zmq

from engine import wire
from engine.clock import SettableClock
from engine.errors import ResourceError
from engine.publish import Publisher
from tests.messages import event, one_of_each, prediction, schema, throw, wait_for

Frames = list[bytes]


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(100.0)


@pytest.fixture
def publisher(context: zmq.Context[Any], clock: SettableClock) -> Iterator[Publisher]:
    publisher = Publisher(context, "tcp://127.0.0.1:0", clock=clock)
    yield publisher
    publisher.close()


@pytest.fixture
def listen(context: zmq.Context[Any], publisher: Publisher) -> Iterator[Callable[..., Any]]:
    """Subscribe with a plain socket, and wait until the publisher was told; serves on demand."""
    opened = []

    def listen(selection: bytes = b"vagus/1/", *, serve: bool = True) -> zmq.Socket[Any]:
        socket = context.socket(zmq.SUB)
        opened.append(socket)
        socket.connect(publisher.url)
        socket.subscribe(selection)
        wait_for(publisher.socket)
        if serve:
            publisher.serve()
        return socket

    yield listen
    for socket in opened:
        socket.close(0)


def next_of(socket: zmq.Socket[Any]) -> Frames:
    wait_for(socket)
    return list(socket.recv_multipart())


def all_until(socket: zmq.Socket[Any], publisher: Publisher, session: str = "p01") -> list[Frames]:
    """What came before a last event that is sent now."""
    publisher.send(event(10**6, session, code="shutdown"))
    got = []
    while msgpack.unpackb((frames := next_of(socket))[1]).get("code") != "shutdown":
        got.append(frames)
    return got


def kinds_of(frames: list[Frames]) -> list[str]:
    return [topic.decode().removeprefix("vagus/1/") for topic, _ in frames]


def test_a_plain_subscriber_reads_every_kind_with_msgpack(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    socket = listen()
    for message in one_of_each():
        publisher.send(message)
        topic, body = next_of(socket)
        assert topic == f"vagus/1/p01/{message.kind}".encode()
        assert msgpack.unpackb(body) == msgpack.unpackb(wire.encode(message))
    assert publisher.sent == 5


def test_sending_returns_the_body_as_it_was_sent(publisher: Publisher) -> None:
    assert publisher.send(prediction(3)) == wire.encode(prediction(3))


def test_a_session_is_not_selected_by_one_that_begins_alike(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    with_slash, without = listen(b"vagus/1/p1/"), listen(b"vagus/1/p1")
    publisher.send(prediction(0, "p10"))
    publisher.send(prediction(0, "p1"))
    assert next_of(with_slash)[0] == b"vagus/1/p1/prediction"
    assert next_of(without)[0] == b"vagus/1/p10/prediction"


def test_who_joins_late_gets_the_schema_and_the_last_prediction_as_identical_bytes(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    publisher.send(schema())
    publisher.send(prediction(0))
    last = publisher.send(prediction(1))
    publisher.send(event())
    socket = listen(b"vagus/1/p01/")
    got = [next_of(socket), next_of(socket)]
    assert kinds_of(got) == ["p01/schema", "p01/prediction"]
    assert got[1][1] == last
    assert publisher.repeated == 2


def test_an_equal_subscription_is_answered_too_and_everybody_hears_it(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    first = listen(b"vagus/1/p01/")
    publisher.send(schema())
    publisher.send(prediction())
    second = listen(b"vagus/1/p01/")
    assert publisher.received_subscriptions == 2
    assert [f[0] for f in all_until(second, publisher)] == [
        b"vagus/1/p01/schema",
        b"vagus/1/p01/prediction",
    ]
    heard = [next_of(first) for _ in range(4)]
    assert heard[:2] == heard[2:]


def test_only_what_was_subscribed_to_is_repeated(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    for session in ("p1", "p10"):
        publisher.send(schema(session))
        publisher.send(prediction(0, session))
    listen(b"vagus/1/p1/health")
    assert publisher.repeated == 0
    assert kinds_of(all_until(listen(b"vagus/1/p10/"), publisher, "p10")) == [
        "p10/schema",
        "p10/prediction",
    ]
    listen(b"vagus/1/p1/schema")
    assert publisher.repeated == 3
    listen(b"vagus/1/p1")
    assert publisher.repeated == 7


def test_a_session_without_messages_has_nothing_to_repeat(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    publisher.send(event())
    listen()
    assert (publisher.received_subscriptions, publisher.repeated) == (1, 0)


def test_a_session_is_repeated_five_times_a_second_and_the_rest_once_later(
    publisher: Publisher, clock: SettableClock, listen: Callable[..., Any]
) -> None:
    publisher.send(schema())
    for n in range(1, 9):
        listen()
        clock.set(100.0 + 0.1 * n)  # ... 100.8
        assert publisher.repeated == min(n, 5)
    publisher.serve()
    assert publisher.repeated == 5
    clock.set(101.0)  # the first one is a second old
    publisher.serve()
    assert publisher.repeated == 6  # for three who wait
    clock.set(102.5)
    publisher.serve()
    assert publisher.repeated == 6


def test_the_limit_of_repeats_is_each_sessions_own(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    publisher.send(schema("a"))
    for _ in range(8):
        listen(b"vagus/1/a/")
    publisher.send(schema("b"))
    listen(b"vagus/1/b/")
    assert publisher.repeated == 6


def test_subscriptions_that_wait_together_are_answered_once(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    publisher.send(schema())
    publisher.send(prediction())
    socket = listen(b"vagus/1/p01/schema", serve=False)
    publisher.serve()
    socket.subscribe(b"vagus/1/p01/prediction")
    socket.subscribe(b"vagus/1/p01/schema")
    socket.subscribe(b"vagus/1/p01/")
    while publisher.received_subscriptions < 4:
        wait_for(publisher.socket)
        publisher.serve()
    assert len(all_until(socket, publisher)) == publisher.repeated
    assert publisher.repeated <= 1 + 2 + 1 + 2


def test_fetch_gives_the_kept_bodies_oldest_first(publisher: Publisher) -> None:
    bodies = [publisher.send(prediction(n)) for n in range(10)]
    publisher.send(event(3))
    assert publisher.fetch("p01", "prediction", 3, 6) == (bodies[3:7], [])
    assert publisher.fetch("p01", "prediction", 0, 10**12) == (bodies, [])
    assert publisher.fetch("p01", "prediction", 6, 3) == ([], [])
    assert publisher.fetch("p01", "marker", 0, 9) == ([], [])
    assert publisher.fetch("p02", "prediction", 0, 9) == ([], [])


def test_fetch_names_what_is_no_longer_kept(context: zmq.Context[Any]) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:0", retain=4)
    bodies = [publisher.send(prediction(n)) for n in (0, 1, 2, 3, 4, 5, 8, 9)]
    assert publisher.fetch("p01", "prediction", 2, 20) == (bodies[-4:], [[2, 3], [6, 7]])
    assert publisher.fetch("p01", "prediction", 0, 2) == ([], [[0, 2]])
    assert publisher.fetch("p01", "prediction", 10, 20) == ([], [])
    publisher.close()


def test_what_is_kept_is_bounded_in_bytes_but_the_last_is_always_there(
    context: zmq.Context[Any],
) -> None:
    size = len(wire.encode(prediction(0)))
    publisher = Publisher(context, "tcp://127.0.0.1:0", retain_bytes=3 * size)
    for n in range(6):
        publisher.send(prediction(n))
    assert publisher.fetch("p01", "prediction", 0, 5)[1] == [[0, 2]]
    large = publisher.send(prediction(6, label="x" * 4 * size))
    assert publisher.fetch("p01", "prediction", 0, 6) == ([large], [[0, 5]])
    publisher.close()


def test_a_session_that_is_forgotten_is_not_repeated_and_may_come_again(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    publisher.send(schema())
    publisher.send(prediction(7))
    publisher.forget("p01")
    listen()
    assert publisher.repeated == 0
    assert publisher.fetch("p01", "prediction", 0, 9) == ([], [])
    body = publisher.send(prediction(0))
    assert publisher.fetch("p01", "prediction", 0, 9) == ([body], [])
    publisher.forget("nobody")


def test_numbers_that_begin_again_replace_what_was_kept(publisher: Publisher) -> None:
    publisher.send(prediction(5))
    again = [publisher.send(prediction(n)) for n in (0, 1)]
    assert publisher.fetch("p01", "prediction", 0, 9) == (again, [])


def test_a_reader_that_does_not_read_loses_messages_and_slows_nobody(
    context: zmq.Context[Any],
) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:0", high_water=100, retain_bytes=1 << 30)
    lazy, quick = context.socket(zmq.SUB), context.socket(zmq.SUB)
    for socket, room in ((lazy, 10), (quick, 0)):
        socket.rcvhwm = room
        socket.connect(publisher.url)
        socket.subscribe(b"vagus/1/p01/")
    while publisher.received_subscriptions < 2:
        wait_for(publisher.socket)
        publisher.serve()
    n, detail = 3000, {"why": "x" * 10_000}  # more than the kernel's buffers take
    for seq in range(n):
        publisher.send(event(seq, detail=detail))  # raises if it would have to wait
        publisher.serve()
        next_of(quick)
    got = [seq_of(frames) for frames in drain(lazy)]
    lost = [(a + 1, b - 1) for a, b in pairwise([*got, n]) if b != a + 1]
    assert 0 < len(got) < n
    assert lost, "a hole shows in the numbers"
    bodies = [
        body for first, last in lost for body in publisher.fetch("p01", "event", first, last)[0]
    ]
    assert sorted(got + [msgpack.unpackb(body)["seq"] for body in bodies]) == list(range(n))
    lazy.close(0)
    quick.close(0)
    publisher.close()


def seq_of(frames: Frames) -> int:
    seq = msgpack.unpackb(frames[1])["seq"]
    assert isinstance(seq, int)
    return seq


def drain(socket: zmq.Socket[Any]) -> list[Frames]:
    """All that is on its way to a reader that starts to read."""
    got = []
    while socket.poll(300):
        got.append(list(socket.recv_multipart()))
    return got


def test_garbage_on_the_port_reaches_nobody_and_subscribers_still_hear(
    context: zmq.Context[Any],
    publisher: Publisher,
    clock: SettableClock,
    count: Callable[[int], int],
) -> None:
    rng = random.Random(38)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    publisher.send(schema())
    for _ in range(count(20_000)):
        start = greeting[: rng.randrange(len(greeting) + 1)] if rng.random() < 0.5 else b""
        data = start + rng.randbytes(rng.randrange(1, 2000))
        throw(publisher.url, data, abruptly=rng.random() < 0.5)
        publisher.serve()
    socket = context.socket(zmq.SUB)
    socket.connect(publisher.url)
    socket.subscribe(b"vagus/1/p01/")
    while not socket.poll(0):
        publisher.socket.poll(20)
        clock.set(clock.now() + 1.0)  # bytes that happen to be subscriptions count for the limit
        publisher.serve()
    assert next_of(socket) == [b"vagus/1/p01/schema", wire.encode(schema())]
    socket.close(0)


def test_garbage_from_subscribers_is_counted_and_those_who_send_too_much_cut_off(
    context: zmq.Context[Any],
    publisher: Publisher,
    clock: SettableClock,
    count: Callable[[int], int],
) -> None:
    rng = random.Random(39)
    publisher.send(schema())
    socket = context.socket(zmq.XSUB)
    socket.sndhwm = 0
    socket.connect(publisher.url)
    n = count(500_000)
    for _ in range(n):
        socket.send(bytes([rng.randrange(256)]) + rng.randbytes(rng.randrange(200)))
    socket.send(b"\x01vagus/1/p01/")
    while publisher.ignored < 0.9 * n or not socket.poll(0):
        publisher.socket.poll(20)
        clock.set(clock.now() + 1.0)
        publisher.serve()
    assert next_of(socket) == [b"vagus/1/p01/schema", wire.encode(schema())]
    monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    socket.send(b"\x02" + bytes(1 << 20))
    wait_for(monitor)
    socket.disable_monitor()
    monitor.close(0)
    socket.close(0)


def test_a_busy_address_is_told_as_that_of_the_publish_socket(
    context: zmq.Context[Any], publisher: Publisher
) -> None:
    with pytest.raises(ResourceError, match=rf"^publish {publisher.url} is in use by process \d+"):
        Publisher(context, publisher.url)
