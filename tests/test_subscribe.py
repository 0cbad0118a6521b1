"""Subscribers that lose messages and fetch them again, that wait without blocking, join late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from engine import wire
from engine.control import ControlError, ControlSocket
from engine.daemon import Engine
from engine.errors import ResourceError
from engine.publish import Publisher
from engine.types import Event, Message, Prediction, Schema
from sinks.subscribe import AsyncSubscription, Hole, Subscription, subscribe, subscribe_async
from tests.messages import RUN, TIMEOUT_S, event, prediction, schema, served, wait_for
from tests.test_live import bundle, config, running  # noqa: F401 (bundle is a fixture)

NOBODY = "tcp://127.0.0.1:9"
LARGE = {"why": "x" * 10_000}


class Desk:
    """A publisher of little patience for the slow, and the control socket that fetches from it."""

    def __init__(self, context: zmq.Context[Any], retain: int) -> None:
        self.publisher = Publisher(
            context, "tcp://127.0.0.1:0", high_water=100, retain=retain, retain_bytes=1 << 30
        )
        self.control = ControlSocket(context, "tcp://127.0.0.1:0")
        self.asked: list[tuple[int, int]] = []

    def fetch(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        if args["session"] != "p01":
            raise ControlError("not_found", f"no session '{args['session']}'")
        self.asked.append((args["first"], args["last"]))
        messages, missing = self.publisher.fetch("p01", args["kind"], args["first"], args["last"])
        return {"messages": messages, "missing": missing}

    @contextmanager
    def answering(self) -> Iterator[None]:
        with served(self.control.socket, lambda: self.control.serve(self.fetch)):
            yield

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.publisher.send(message)

    def greet(self) -> None:
        """Until somebody has subscribed."""
        wait_for(self.publisher.socket)
        self.publisher.serve()

    def show(self, *messages: Event) -> None:
        """Send what nobody can fetch."""
        for message in messages:
            self.publisher.pass_on("p01", "event", wire.encode(message))


@pytest.fixture
def desk() -> Iterator[Callable[..., Desk]]:
    context = zmq.Context()
    made: list[Desk] = []

    def open_desk(retain: int = 10_000) -> Desk:
        made.append(Desk(context, retain))
        return made[-1]

    yield open_desk
    for one in made:
        one.publisher.close()
        one.control.close()
    context.destroy(linger=0)


def drowned(desk: Desk, n: int = 4000) -> Event:
    """Send more than a reader that does not read can hold; one more shows it what it lost."""
    desk.send(*(event(seq, detail=LARGE) for seq in range(n)))
    return event(n, detail=LARGE)


def test_a_reader_that_fell_behind_gets_all_messages_in_their_order(
    desk: Callable[..., Desk],
) -> None:
    at = desk()
    with Subscription(
        at.publisher.url, "p01", ("event",), TIMEOUT_S, fetch_from=at.control.url, high_water=10
    ) as slow:
        at.greet()
        last = drowned(at)
        with at.answering():
            got: list[Message] = []
            while (message := slow.read(0.3)) is not None:
                got.append(message)
            assert len(got) < 4000
            at.send(last)
            got += [next(slow) for _ in range(4001 - len(got))]
        assert [message.seq for message in got if isinstance(message, Event)] == [*range(4001)]
        assert slow.n_fetched > 0
        assert (slow.n_lost, slow.holes, slow.fetch_failure) == (0, [], None)
    assert all(last - first < 256 for first, last in at.asked)


async def follow(at: Desk, until: int, **how: Any) -> tuple[list[int], AsyncSubscription]:
    """The numbers of the events up to `until`, of which an engine shows 2 and 900."""
    subscription = subscribe_async(at.publisher.url, "p01", ("event",), TIMEOUT_S, **how)
    await asyncio.to_thread(at.greet)
    at.show(event(2), event(900))
    got: list[int] = []
    async with subscription:
        async for message in subscription:
            assert isinstance(message, Event)
            got.append(message.seq)
            if message.seq == until:
                break
    assert [message async for message in subscription] == []
    return got, subscription


def test_an_asynchronous_reader_gets_what_it_missed_in_order_too(
    desk: Callable[..., Desk],
) -> None:
    at = desk()
    at.send(*(event(seq) for seq in range(900)))  # before anybody listens
    with at.answering():
        got, subscription = asyncio.run(follow(at, 900, fetch_from=at.control.url))
    assert got == [*range(2, 901)]
    assert (subscription.n_fetched, subscription.n_lost) == (897, 0)


def test_an_asynchronous_reader_that_fetches_nothing_is_told_its_holes(
    desk: Callable[..., Desk],
) -> None:
    told: list[Hole] = []
    got, subscription = asyncio.run(follow(desk(), 900, on_hole=told.append))
    assert got == [2, 900]
    assert told == subscription.holes == [("p01", "event", 3, 899)]
    assert subscription.n_lost == 897


def test_other_tasks_go_on_while_an_asynchronous_reader_waits() -> None:
    async def wait() -> int:
        subscription = subscribe_async(NOBODY)
        reader = asyncio.create_task(anext(subscription))
        turns = 0
        while turns < 1000:
            await asyncio.sleep(0)
            turns += 1
        assert not reader.done()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert [message async for message in subscription] == []  # it is closed
        return turns

    assert asyncio.run(wait()) == 1000


def test_an_asynchronous_reader_that_never_heard_anything_says_so() -> None:
    async def wait() -> None:
        await anext(subscribe_async(NOBODY, "p07", timeout_s=0.02))

    with pytest.raises(ResourceError, match=r"^no message of session 'p07' came from tcp://127"):
        asyncio.run(wait())


def test_what_the_engine_does_not_keep_any_more_stays_a_hole(desk: Callable[..., Desk]) -> None:
    at = desk(retain=300)
    at.send(*(event(seq) for seq in range(900)))
    with subscribe(
        at.publisher.url, "p01", ("event",), TIMEOUT_S, fetch_from=at.control.url
    ) as reader:
        at.greet()
        at.show(event(2), event(900))
        with at.answering():
            got = [next(reader) for _ in range(302)]
    assert [m.seq for m in got if isinstance(m, Event)] == [2, *range(600, 901)]
    assert reader.holes == [("p01", "event", 3, 599)]
    assert (reader.n_lost, reader.n_fetched) == (597, 300)


def test_messages_of_another_run_fill_no_hole(desk: Callable[..., Desk]) -> None:
    at = desk()
    at.send(*(event(seq) for seq in range(4)))
    with subscribe(
        at.publisher.url, "p01", ("event",), TIMEOUT_S, fetch_from=at.control.url
    ) as reader:
        at.greet()
        new = [Event("next", "p01", seq, 0.0, None, "degraded", None, {}) for seq in (0, 3)]
        at.show(event(3), *new)
        with at.answering():
            assert [next(reader) for _ in range(3)] == [event(3), *new]
    assert RUN != "next"
    assert reader.holes == [("p01", "event", 1, 2)]


@pytest.mark.parametrize(
    ("session", "fetch_from", "error", "said"),
    [("p02", "", ControlError, "no session 'p02'"), ("p01", NOBODY, ResourceError, "nobody ans")],
)
def test_an_engine_that_gives_nothing_leaves_the_hole_and_the_reason(
    desk: Callable[..., Desk], session: str, fetch_from: str, error: type, said: str
) -> None:
    at = desk()
    with subscribe(
        at.publisher.url, kinds=("event",), timeout_s=TIMEOUT_S,
        fetch_from=fetch_from or at.control.url,
    ) as reader:  # fmt: skip
        at.greet()
        at.send(event(0, session), event(3, session))
        with at.answering():
            assert [next(reader), next(reader)] == [event(0, session), event(3, session)]
    assert reader.holes == [(session, "event", 1, 2)]
    assert isinstance(reader.fetch_failure, error)
    assert said in str(reader.fetch_failure)


def test_an_asynchronous_reader_who_joins_late_begins_with_schema_and_prediction(
    desk: Callable[..., Desk],
) -> None:
    at = desk()
    at.send(schema(), *(prediction(seq) for seq in range(3)))

    async def join() -> list[Message]:
        async with subscribe_async(at.publisher.url, timeout_s=TIMEOUT_S) as late:
            await asyncio.to_thread(at.greet)
            return [await anext(late), await anext(late)]

    assert asyncio.run(join()) == [schema(), prediction(2)]


def test_a_reader_whose_line_was_cut_gets_every_prediction_of_a_running_engine(
    bundle: Any,  # noqa: F811
) -> None:
    """The engine runs in real time; the line is dead for a second."""
    with (
        running(config(bundle, seconds=6, hop_s=0.02)) as engine,
        Subscription(
            engine.publisher.url, "p1", ("schema", "prediction"), TIMEOUT_S,
            fetch_from=engine.control.url,
        ) as cut,
    ):  # fmt: skip
        assert isinstance(next(cut), Schema)
        got = [next(cut) for _ in range(20)]
        cut._socket.disconnect(engine.publisher.url)
        _until_published(engine, 100)
        got += iter(lambda: cut.read(0.0), None)  # what was on its way
        n = len(got)
        cut._socket.connect(engine.publisher.url)
        got += [next(cut) for _ in range(100)]
    seqs = [message.seq for message in got if isinstance(message, Prediction)]
    assert seqs == [*range(seqs[0], seqs[0] + n + 100)]
    assert cut.n_fetched > 10
    assert cut.n_lost == 0


def _until_published(engine: Engine, n: int) -> None:
    for message in subscribe(engine.publisher.url, kinds=("prediction",), timeout_s=TIMEOUT_S):
        if isinstance(message, Prediction) and message.seq >= n:
            return
