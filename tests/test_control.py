"""The control socket: every verb, everything that is no request, and the client's side."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgpack
import pytest
import zmq

from engine.commands import control as vagus_control
from engine.control import ERROR_CODES, VERBS, ControlError, ControlSocket, request
from engine.errors import ConfigError, DataError, ResourceError, UserError
from engine.publish import Publisher
from engine.wire import WireError
from tests.messages import served, throw, wait_for

Handler = Callable[[str, dict[str, Any]], Mapping[str, Any]]
Client = Callable[[int], "zmq.Socket[Any]"]
GOOD: dict[str, dict[str, Any]] = {
    "status": {},
    "pause": {"session": "p01"},
    "resume": {},
    "mark": {"value": "start"},
    "calibrate": {"stream": "eeg", "seconds": 30},
    "mute": {"stream": "eeg"},
    "unmute": {"session": "p01", "stream": "eeg"},
    "join": {"config": {"session": "p02", "streams": {}}},
    "leave": {"session": "p01"},
    "record": {"path": "out.mcap", "raw": True},
    "stop_record": {},
    "preview": {"on": True},
    "swap": {"stream": "eeg", "bundle": "simulated-eeg"},
    "fetch": {"kind": "prediction", "first": 0, "last": 7},
    "shutdown": {},
}


def ask(verb: Any = "status", args: Any = None, **changes: Any) -> dict[str, Any]:
    """A request, as a client in any language would write it."""
    return {"v": 1, "id": 5, "verb": verb, "args": {} if args is None else args, **changes}


def less(key: str) -> dict[str, Any]:
    return {name: value for name, value in ask().items() if name != key}


def repeat(verb: str, args: dict[str, Any]) -> dict[str, Any]:
    """A handler whose result is what it was asked."""
    return {"verb": verb, **args}


def never(verb: str, args: dict[str, Any]) -> dict[str, Any]:
    raise AssertionError(f"{verb} must not be handled")


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def control(context: zmq.Context[Any]) -> Iterator[ControlSocket]:
    control = ControlSocket(context, "tcp://127.0.0.1:0")
    yield control
    control.close()


@pytest.fixture
def client(context: zmq.Context[Any], control: ControlSocket) -> Iterator[Client]:
    """Opens sockets that are connected, and closed when the test is over."""
    opened = []

    def client(kind: int) -> zmq.Socket[Any]:
        socket = context.socket(kind)
        opened.append(socket)
        socket.connect(control.url)
        return socket

    yield client
    for socket in opened:
        socket.close(0)


@pytest.fixture
def exchange(client: Client, control: ControlSocket) -> Callable[..., Any]:
    """Send bytes or a map through a plain REQ socket; the decoded reply."""
    socket = client(zmq.REQ)

    def exchange(asked: Any, handle: Handler = never) -> dict[str, Any]:
        socket.send(asked if isinstance(asked, bytes) else msgpack.packb(asked))
        wait_for(control.socket)
        control.serve(handle)
        wait_for(socket)
        reply: dict[str, Any] = msgpack.unpackb(socket.recv())
        return reply

    return exchange


def test_the_table_has_an_example_of_every_verb() -> None:
    assert GOOD.keys() == VERBS.keys()


def test_the_commands_help_names_every_verb() -> None:
    told = re.split(r"[\s,;]+", vagus_control.__doc__ or "")
    assert set(VERBS) <= set(told)


class _Later:
    """An answer that is there after some turns."""

    def __init__(self, turns: int, error: Exception | None = None) -> None:
        self._turns, self._error = turns, error

    def ready(self) -> bool:
        self._turns -= 1
        return self._turns < 0

    def result(self) -> Mapping[str, Any]:
        if self._error is not None:
            raise self._error
        return {"x": 1}


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.parametrize(
    ("error", "code"),
    [(None, None), (ControlError("refused", "no"), "refused"), (DataError("no"), "failed")],
)
def test_an_answer_may_come_later_while_others_are_answered(
    client: Client,
    control: ControlSocket,
    turns: int,
    error: Exception | None,
    code: str | None,
) -> None:
    slow, quick = client(zmq.REQ), client(zmq.REQ)
    slow.send(msgpack.packb(ask("shutdown")))
    wait_for(control.socket)
    control.serve(lambda verb, args: _Later(turns, error))
    for turn in range(1, turns + 1):
        assert not slow.poll(0)
        quick.send(msgpack.packb(ask(id=turn)))
        wait_for(control.socket)
        control.serve(repeat)
        wait_for(quick)
        assert msgpack.unpackb(quick.recv())["id"] == turn
    wait_for(slow)
    reply = msgpack.unpackb(slow.recv())
    assert reply.get("result") == (None if error else {"x": 1})
    assert reply.get("error", {"code": None})["code"] == code
    assert control.counts == Counter({"ok": turns}) + Counter([code or "ok"])


def test_an_answer_to_a_client_that_left_meanwhile_harms_nobody(
    client: Client, control: ControlSocket, exchange: Callable[..., Any]
) -> None:
    gone = client(zmq.DEALER)
    gone.send_multipart([b"", msgpack.packb(ask())])
    wait_for(control.socket)
    control.serve(lambda verb, args: _Later(1))
    gone.close(0)
    assert exchange(ask(), repeat)["ok"] is True
    assert control.counts == {"ok": 2}


@pytest.mark.parametrize("verb", GOOD)
def test_a_request_that_fits_reaches_the_handler_as_it_is(
    exchange: Callable[..., Any], control: ControlSocket, verb: str
) -> None:
    reply = exchange(ask(verb, GOOD[verb]), repeat)
    assert reply == {"v": 1, "id": 5, "ok": True, "result": {"verb": verb, **GOOD[verb]}}
    assert control.counts == {"ok": 1}


@pytest.mark.parametrize("number", [0, -3, 2**63, "a-7", ""])
def test_the_reply_carries_the_id_of_the_request(
    exchange: Callable[..., Any], number: int | str
) -> None:
    assert exchange(ask(id=number), repeat)["id"] == number


def test_unknown_keys_of_a_request_are_ignored(exchange: Callable[..., Any]) -> None:
    assert exchange(ask(trace="x"), repeat)["ok"] is True


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (b"", "bad_request", "one frame with one msgpack map|no msgpack"),
        (b"\xc1", "bad_request", "the request: 1 bytes are no msgpack"),
        (b"\x81\xa2\xff\xfe\x01", "bad_request", "no msgpack"),
        (b"\x91" * 100_000, "bad_request", "recursion|deeper"),
        (msgpack.packb({"x": b"bytes"}), "bad_request", "holds a bytes"),
        ([1, 2], "bad_request", "expected a map, found a list"),
        (less("id"), "bad_request", "needs the key 'id', a whole number or text"),
        (less("v"), "bad_request", "needs the key 'v', the number 1"),
        (less("verb"), "bad_request", "needs the key 'verb', text"),
        (less("args"), "bad_request", "needs the key 'args', a map"),
        (ask(id=None), "bad_request", "'id': expected a whole number or text, found nothing"),
        (ask(id=1.5), "bad_request", "'id': expected a whole number or text, found the number 1.5"),
        (ask(v=2), "bad_request", "version 2; this engine knows 1"),
        (ask(v=True), "bad_request", "'v': expected the number 1, found true"),
        (ask(verb=3), "bad_request", "'verb': expected text, found the number 3"),
        (ask(args=[]), "bad_request", "'args': expected a map, found a list"),
        (ask("puase"), "unknown_verb", "no verb is called 'puase'; did you mean 'pause'"),
        (ask("transmogrify"), "unknown_verb", "'transmogrify'; known: status, pause"),
        (ask("x" * 500_000), "unknown_verb", r"no verb is called 'x{37}\.\.\.'; known"),
        (ask("mark"), "bad_argument", "mark needs 'value', text"),
        (ask("mark", {"value": 5}), "bad_argument", "mark: value: expected text, found the numb"),
        (ask("mark", {"value": None}), "bad_argument", "value: expected text, found nothing"),
        (ask("mark", {"vaule": "x"}), "bad_argument", "no argument 'vaule'; did you mean 'value'"),
        (ask("status", {"a": 1}), "bad_argument", "status has no argument 'a'; it takes none"),
        (ask("join", {"config": 5}), "bad_argument", "expected a config's name or path, or its"),
        (ask("record", {"path": "a", "raw": 1}), "bad_argument", "raw: expected true or false"),
        (
            ask("fetch", {"kind": "schema", "first": 0, "last": 1}),
            "bad_argument",
            "fetch: kind: expected one of prediction, event, marker, health, found the text 'sch",
        ),
        (
            ask("fetch", {"kind": "predictions", "first": 0, "last": 1}),
            "bad_argument",
            "did you mean 'prediction'",
        ),
        (
            ask("fetch", {"kind": "event", "first": -1, "last": 1}),
            "bad_argument",
            "first: expected a whole number from 0, found the number -1",
        ),
        (
            ask("fetch", {"kind": "event", "first": 0, "last": True}),
            "bad_argument",
            "last: expected a whole number from 0, found true",
        ),
        (ask("mark", {"value": "x" * (1 << 20)}), "too_large", r"10486\d\d bytes is too large"),
        (bytes(10 << 20), "too_large", "10485760 bytes is too large; at most 1048576"),
    ],
)
def test_what_is_no_proper_request_gets_an_error_and_does_nothing(
    exchange: Callable[..., Any], control: ControlSocket, asked: Any, code: str, said: str
) -> None:
    reply = exchange(asked)
    assert (reply["v"], reply["ok"], reply["error"]["code"]) == (1, False, code)
    assert re.search(said, reply["error"]["message"])
    assert reply["id"] in (5, None)
    assert control.counts == {code: 1}
    assert exchange(ask(), repeat)["ok"] is True


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ControlError("not_found", "no session 'x'"), "not_found", "no session 'x'"),
        (ControlError("busy", "is recording"), "busy", "is recording"),
        (ConfigError("a.yaml:1:1: wrong"), "failed", "a.yaml:1:1: wrong"),
        (DataError("x.edf is empty"), "failed", "x.edf is empty"),
        (ResourceError("disk full"), "failed", "disk full"),
    ],
)
def test_a_refusal_of_the_handler_is_told_with_its_code(
    exchange: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    code: str,
    said: str,
) -> None:
    def refuse(verb: str, args: dict[str, Any]) -> dict[str, Any]:
        raise error

    assert exchange(ask(), refuse)["error"] == {"code": code, "message": said}
    assert capfd.readouterr().err == ""


def test_a_handler_that_breaks_is_told_on_stderr_and_the_next_request_is_answered(
    exchange: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(verb: str, args: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("by zero")

    told = {"code": "failed", "message": "internal error: ZeroDivisionError: by zero"}
    assert exchange(ask(), broken)["error"] == told
    err = capfd.readouterr().err
    assert "control: status failed" in err
    assert "in broken" in err
    assert exchange(ask(), repeat)["ok"] is True


def test_a_result_that_cannot_be_sent_is_a_failure(
    exchange: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    reply = exchange(ask(), lambda verb, args: {"x": object()})
    assert reply["error"]["code"] == "failed"
    assert "TypeError" in capfd.readouterr().err


@pytest.mark.parametrize("route", [[], [b""], [b"another", b"route", b""]])
def test_a_dealer_is_answered_along_the_route_it_used(
    client: Client, control: ControlSocket, route: list[bytes]
) -> None:
    socket = client(zmq.DEALER)
    for number in range(3):
        socket.send_multipart([*route, msgpack.packb(ask(id=number))])
    numbers = []
    while len(numbers) < 3:
        if control.socket.poll(20):
            control.serve(repeat)
        while socket.poll(0):
            *back, reply = socket.recv_multipart()
            assert back == route
            numbers.append(msgpack.unpackb(reply)["id"])
    assert numbers == [0, 1, 2]


@pytest.mark.parametrize("frames", [[b""], [b"", b""], [b"a", b"b"], [b"", b"a", b"b"]])
def test_a_request_in_the_wrong_number_of_frames_is_a_bad_request(
    client: Client, control: ControlSocket, frames: list[bytes]
) -> None:
    socket = client(zmq.DEALER)
    socket.send_multipart(frames)
    wait_for(control.socket)
    control.serve(never)
    wait_for(socket)
    reply = msgpack.unpackb(socket.recv_multipart()[-1])
    assert reply["error"]["code"] == "bad_request"


def test_many_clients_are_answered_each_its_own(client: Client, control: ControlSocket) -> None:
    sockets = [client(zmq.REQ) for _ in range(20)]
    for number, socket in enumerate(sockets):
        socket.send(msgpack.packb(ask(id=number)))
    while control.counts["ok"] < 20:
        wait_for(control.socket)
        control.serve(repeat)
    for number, socket in enumerate(sockets):
        wait_for(socket)
        assert msgpack.unpackb(socket.recv())["id"] == number


def test_garbage_raises_nothing_and_valid_requests_are_still_answered(
    client: Client,
    control: ControlSocket,
    exchange: Callable[..., Any],
    count: Callable[[int], int],
) -> None:
    rng = random.Random(38)
    whole = [msgpack.packb(ask(verb, args)) for verb, args in GOOD.items()]
    dealer = client(zmq.DEALER)
    n, answered = count(200_000), 0
    for _ in range(n):
        dealer.send_multipart([garbage(rng, whole) for _ in range(rng.randrange(1, 4))])
        if rng.random() < 0.05:
            data = rng.randbytes(rng.randrange(1, 2000))
            throw(control.url, data, abruptly=rng.random() < 0.5)
        control.serve(repeat)
        answered += drain(dealer)
    while answered < n:
        dealer.poll(1)
        control.serve(repeat)
        answered += drain(dealer)
    assert control.counts.keys() <= {"ok", *ERROR_CODES}
    assert "failed" not in control.counts
    assert exchange(ask(), repeat)["ok"] is True


def drain(socket: zmq.Socket[Any]) -> int:
    """Read what is there; how many messages that were."""
    n = 0
    while socket.poll(0):
        socket.recv_multipart()
        n += 1
    return n


def garbage(rng: random.Random, whole: list[bytes]) -> bytes:
    """Random bytes, or a request of which some were changed."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(200))
    body = bytearray(rng.choice(whole))
    for _ in range(rng.randrange(1, 4)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body)


def test_the_client_gets_results_with_the_bytes_in_them(control: ControlSocket) -> None:
    with served(control.socket, lambda: control.serve(lambda verb, args: {"messages": [b"\xc1"]})):
        args = {"kind": "event", "first": 0, "last": 0}
        assert request(control.url, "fetch", args) == {"messages": [b"\xc1"]}


def test_the_client_raises_what_the_engine_refuses(control: ControlSocket) -> None:
    with (
        served(control.socket, lambda: control.serve(never)),
        pytest.raises(ControlError, match="did you mean 'pause'") as caught,
    ):
        request(control.url, "pauze", {})
    assert caught.value.code == "unknown_verb"


@pytest.mark.parametrize(
    ("code", "exit_code"), [("bad_argument", 2), ("not_found", 2), ("busy", 3), ("failed", 1)]
)
def test_a_refusal_has_the_exit_code_of_whose_move_is_next(code: str, exit_code: int) -> None:
    assert code in ERROR_CODES
    assert isinstance(ControlError(code, "x"), UserError)
    assert ControlError(code, "x").exit_code == exit_code


def test_the_client_says_how_to_start_an_engine_where_nobody_answers(
    context: zmq.Context[Any],
) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:0")  # the wrong one of the two addresses
    with pytest.raises(
        ResourceError, match=rf"{publisher.url}: nobody answers within 0.05 s; start an engine"
    ):
        request(publisher.url, "status", {}, 0.05)
    publisher.close()


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800"])
def test_the_client_refuses_what_cannot_be_sent(control: ControlSocket, value: Any) -> None:
    with pytest.raises(ControlError, match="mark: this cannot be sent"):
        request(control.url, "mark", {"value": value})


def test_the_client_refuses_what_is_no_address() -> None:
    with pytest.raises(ConfigError, match=r"control: expected tcp://host:port"):
        request("localhost", "status", {})


@pytest.mark.parametrize("reply", [b"\xc1", b"\x01", msgpack.packb({"id": 77, "ok": True})])
def test_the_client_refuses_what_is_no_reply(context: zmq.Context[Any], reply: bytes) -> None:
    stranger = context.socket(zmq.REP)
    port = stranger.bind_to_random_port("tcp://127.0.0.1")

    def answer() -> None:
        stranger.recv()
        stranger.send(reply)

    with served(stranger, answer), pytest.raises(WireError):
        request(f"tcp://127.0.0.1:{port}", "status", {})
    stranger.close(0)


def test_a_busy_address_is_told_as_that_of_the_control_socket(
    context: zmq.Context[Any], control: ControlSocket
) -> None:
    with pytest.raises(ResourceError, match=rf"^control {control.url} is in use by process \d+"):
        ControlSocket(context, control.url)
