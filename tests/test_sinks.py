"""The client, the terminal, JSON lines, and the command `watch`."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import zmq
from rich.console import Console

import sinks
from engine import cli, wire
from engine.clock import SettableClock
from engine.control import ControlSocket, request
from engine.errors import ConfigError, ResourceError
from engine.publish import Publisher
from engine.types import Message, Prediction
from sinks import ConsoleSink, Hole, JsonlSink, Subscription, subscribe
from sinks.strip import strip
from tests.messages import (
    TIMEOUT_S,
    event,
    health,
    marker,
    one_of_each,
    prediction,
    schema,
    served,
    wait_for,
)

VAGUS = Path(sys.executable).parent / "vagus"


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def publisher(context: zmq.Context[Any]) -> Iterator[Publisher]:
    publisher = Publisher(context, "tcp://127.0.0.1:0")
    yield publisher
    publisher.close()


@pytest.fixture
def listen(context: zmq.Context[Any], publisher: Publisher) -> Iterator[Callable[..., Any]]:
    """A subscription to `publisher`, of which it knows already."""
    opened = []

    def listen(
        session: str | None = None, kinds: tuple[str, ...] = wire.KINDS, **how: Any
    ) -> Subscription:
        n = publisher.received_subscriptions + (1 if session is None else len(kinds))
        how = {"timeout_s": TIMEOUT_S, "context": context, **how}
        opened.append(subscribe(publisher.url, session, kinds, **how))
        while publisher.received_subscriptions < n:
            wait_for(publisher.socket)
            publisher.serve()
        return opened[-1]

    yield listen
    for subscription in opened:
        subscription.close()


def seqs(subscription: Subscription, n: int) -> list[int]:
    return [message.seq for message in islice(subscription, n)]


# -- the client -------------------------------------------------------------------------------


def test_a_subscriber_gets_the_messages_as_they_were_sent(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    subscription = listen()
    for message in one_of_each():
        publisher.send(message)
        assert next(subscription) == message


def test_a_subscriber_to_one_session_does_not_hear_one_that_begins_alike(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    subscription = listen(session="p1")
    publisher.send(prediction(0, "p10"))
    publisher.send(prediction(0, "p1"))
    assert next(subscription) == prediction(0, "p1")


@pytest.mark.parametrize("session", [None, "p01"])
def test_a_subscriber_to_some_kinds_gets_only_these(
    publisher: Publisher, listen: Callable[..., Any], session: str | None
) -> None:
    subscription = listen(session, ("event", "marker"))
    for message in one_of_each():
        publisher.send(message)
    assert [next(subscription), next(subscription)] == [event(), marker()]


def test_what_is_repeated_for_others_is_told_once(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    first = listen()
    publisher.send(schema())
    publisher.send(prediction(0))
    listen()
    listen()
    assert publisher.repeated == 4
    publisher.send(schema(hop_s=0.25))
    publisher.send(prediction(1))
    expected = [schema(), prediction(0), schema(hop_s=0.25), prediction(1)]
    assert [next(first) for _ in range(4)] == expected
    assert first.holes == []


def test_who_joins_late_begins_with_the_schema_and_the_last_prediction(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    publisher.send(schema())
    for seq in range(3):
        publisher.send(prediction(seq))
    late = listen()
    publisher.send(prediction(3))
    assert [next(late), next(late), next(late)] == [schema(), prediction(2), prediction(3)]
    assert late.holes == []


def test_a_number_that_is_left_out_is_a_hole_of_its_session_and_kind(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    told: list[Hole] = []
    subscription = listen(on_hole=told.append)
    for message in (event(4), prediction(2), event(5), prediction(3), prediction(6), event(7)):
        publisher.send(message)
    assert seqs(subscription, 6) == [4, 2, 5, 3, 6, 7]
    assert subscription.holes == [("p01", "prediction", 4, 5), ("p01", "event", 6, 6)]
    assert told == subscription.holes
    assert subscription.n_lost == 3


def test_another_run_counts_from_zero_again(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    subscription = listen()
    for message in (prediction(7), prediction(0, run="next"), prediction(1, run="next")):
        publisher.send(message)
    publisher.send(prediction(2, run="third"))
    assert seqs(subscription, 4) == [7, 0, 1, 2]
    assert subscription.holes == [("p01", "prediction", 0, 1)]


def test_only_the_last_holes_are_kept_but_all_are_counted(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    subscription = listen()
    for n in range(1102):
        publisher.send(event(2 * n))
    seqs(subscription, 1102)
    assert len(subscription.holes) == 1000
    assert subscription.holes[-1] == ("p01", "event", 2201, 2201)
    assert subscription.n_lost == 1101


def test_a_reader_that_fell_behind_fetches_what_it_missed(
    context: zmq.Context[Any], listen: Callable[..., Any]
) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:0", high_water=100, retain_bytes=1 << 30)
    control = ControlSocket(context, "tcp://127.0.0.1:0")

    def fetch(verb: str, args: dict[str, Any]) -> dict[str, Any]:
        messages, missing = publisher.fetch("p01", args["kind"], args["first"], args["last"])
        return {"messages": messages, "missing": missing}

    slow = Subscription(publisher.url, "p01", ("event",), TIMEOUT_S, context, high_water=10)
    wait_for(publisher.socket)
    publisher.serve()
    n, detail = 4000, {"why": "x" * 10_000}
    for seq in range(n):
        publisher.send(event(seq, detail=detail))
    got: dict[int, Message] = {}
    while (message := slow.read(0.3)) is not None:
        got[message.seq] = message
    publisher.send(event(n, detail=detail))
    got[n] = next(slow)
    assert slow.n_lost > 0
    with served(control.socket, lambda: control.serve(fetch)):
        for session, kind, first, last in slow.holes:
            for at in range(first, last + 1, 1000):
                args = {"session": session, "kind": kind, "first": at, "last": min(at + 999, last)}
                result = request(control.url, "fetch", args)
                assert result["missing"] == []
                fetched = [wire.decode(kind, body) for body in result["messages"]]
                got |= {message.seq: message for message in fetched}
    assert got == {seq: event(seq, detail=detail) for seq in range(n + 1)}
    slow.close()
    control.close()
    publisher.close()


def test_the_iterator_ends_when_nothing_comes_any_more(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    subscription = listen(timeout_s=0.05)
    publisher.send(event(0))
    publisher.send(event(1))
    assert seqs(subscription, 9) == [0, 1]
    assert list(subscription) == []


@pytest.mark.parametrize("session", [None, "p07"])
def test_a_subscriber_that_never_heard_anything_says_so(session: str | None) -> None:
    of = "" if session is None else " of session 'p07'"
    with pytest.raises(ResourceError, match=rf"^no message{of} came from tcp://127.0.0.1:9 within"):
        next(subscribe("tcp://127.0.0.1:9", session, timeout_s=0.02))


def test_messages_of_kinds_that_are_new_are_left_out(
    publisher: Publisher, listen: Callable[..., Any]
) -> None:
    subscription = listen()
    publisher.socket.send_multipart([b"vagus/1/p01/preview", b"\xc1"])
    publisher.send(event())
    assert next(subscription) == event()


@pytest.mark.parametrize(
    "frames",
    [[b"vagus/1/p01/event", b"\xc1"], [b"vagus/1/p01", b""], [b"vagus/1/p01/event"]],
)
def test_bytes_that_no_engine_sends_are_an_error_and_end_the_iterator(
    publisher: Publisher, listen: Callable[..., Any], frames: list[bytes]
) -> None:
    subscription = listen()
    publisher.socket.send_multipart(frames)
    with pytest.raises(wire.WireError):
        next(subscription)
    assert list(subscription) == []


def test_a_subscription_is_a_context_manager_and_may_be_closed_twice(publisher: Publisher) -> None:
    with Subscription(publisher.url) as subscription:
        assert iter(subscription) is subscription
    subscription.close()
    assert list(subscription) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"url": "5570"}, r"subscribe: expected tcp://host:port or ipc://path, found '5570'"),
        ({"kinds": ("predictions",)}, r"kind 'predictions'; did you mean 'prediction'\?"),
        ({"kinds": ("x",)}, "kind 'x'; known: schema, prediction, event, marker, health"),
    ],
)
def test_a_subscription_that_cannot_be_is_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        subscribe(**how)


def test_ctrl_c_closes_the_subscription(
    publisher: Publisher, listen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = listen()

    def interrupted(timeout_s: float | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subscription, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(subscription)
    assert list(subscription) == []


def test_the_package_says_what_it_offers() -> None:
    assert sinks.__all__ == [
        *("AsyncSubscription", "ConsoleSink", "Hole", "JsonlSink", "Subscription", "subscribe"),
        "subscribe_async",
    ]
    assert callable(sinks.subscribe)


# -- JSON lines -------------------------------------------------------------------------------


def test_each_message_is_one_line_that_is_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    sink = JsonlSink(path)
    for n, message in enumerate(one_of_each(), 1):
        sink.write(message)
        lines = path.read_text().splitlines()
        assert len(lines) == n
        assert json.loads(lines[-1]) == {"kind": message.kind, **wire.to_json(message)}
    sink.close()


def test_lines_are_appended_also_after_one_that_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for text in ("", '{"a": 1}\n', '{"a": 1}\n{"b'):
        path.write_text(text)
        sink = JsonlSink(str(path))
        sink.write(event())
        sink.close()
        lines = path.read_text().splitlines()
        assert lines[:-1] == text.splitlines()
        assert json.loads(lines[-1])["code"] == "source.lost"


def test_a_number_that_is_none_becomes_null(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "out.jsonl")
    sink.write(replace(prediction(), confidence=float("nan")))
    sink.close()
    written = json.loads((tmp_path / "out.jsonl").read_text(), parse_constant=pytest.fail)
    assert written["confidence"] is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_told_with_the_path() -> None:
    sink = JsonlSink("/dev/full")
    with pytest.raises(ResourceError, match=r"cannot write /dev/full: No space left on device"):
        sink.write(event())


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=rf"cannot write {tmp_path}: Is a directory"):
        JsonlSink(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"cannot write .*file/out.jsonl"):
        JsonlSink(tmp_path / "file" / "out.jsonl")


# -- the terminal -----------------------------------------------------------------------------


class Screen:
    """A made-up terminal; `text` is what its last drawing looks like."""

    def __init__(self, width: int = 80, height: int = 40, *, terminal: bool = True) -> None:
        self.clock = SettableClock()
        self.file = io.StringIO()
        console = Console(
            file=self.file,
            force_terminal=terminal,
            width=width,
            height=height,
            color_system=None,
            legacy_windows=False,
            _environ={"TERM": "xterm"},
        )
        self.sink = ConsoleSink(console, self.clock)

    def show(self, *messages: Message, close: bool = True) -> str:
        for message in messages:
            self.clock.set(self.clock.now() + 1.0)
            self.sink.write(message)
        if close:
            self.sink.close()
        return self.text

    @property
    def text(self) -> str:
        last = self.file.getvalue().rpartition("\x1b[2K")[2]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last).replace("\r", "")


def test_a_panel_shows_all_there_is_to_know_in_eighty_columns() -> None:
    told = [schema(), event(), marker(), health(), prediction(3)]
    text = Screen(80).show(*told)
    for word in (
        "p01", "happy", "75 %", "truth calm ✗", "tick 3", "calm", "25 %", "eeg", "sim", "50 %",
        "100 %", "missing: muted", "latency 2.0 ms (wait 0.5, steps 0.2, infer 1.2), p99 4.0 ms",
        "dropped eeg inbox: 3 overrun", "source.lost eeg why gone", "marker 'start' (control)",
        "vagus 0.1.0", "hop 0.5 s",
    ):  # fmt: skip
        assert word in text, word
    assert max(map(len, text.splitlines())) == 80


def test_bars_are_as_long_as_the_probabilities() -> None:
    text = Screen().show(prediction())
    n = {line.split()[1]: line.count("█") for line in text.splitlines() if "█" in line}
    assert n == {"calm": 7, "happy": 22}


def test_a_right_label_and_an_abstention_are_told_apart() -> None:
    assert "truth happy ✓" in Screen().show(prediction(truth="happy"))
    assert "abstains" in Screen().show(prediction(label=None))
    nothing = prediction(label=None, probabilities=None, confidence=None)
    assert "no usable stream" in Screen().show(nothing)


def test_the_age_of_a_window_that_stands_is_counted_from_when_it_was_new() -> None:
    text = Screen().show(prediction(0), prediction(1), prediction(4))
    assert re.search(r"eeg +sim +100 % +50 % +100 % +2.0 s", text)
    moved = {"eeg": {**prediction().modalities["eeg"], "last": 200}}
    text = Screen().show(prediction(0), prediction(4, modalities=moved))
    assert re.search(r"eeg +sim +100 % +50 % +100 % +0.0 s", text)


def test_what_is_degraded_and_not_ready_is_told() -> None:
    text = Screen().show(health(ready=False, degraded=["voice: quality"]))
    assert "degraded voice: quality" in text
    assert "not ready" in text


def test_sessions_that_do_not_fit_become_rows() -> None:
    many = [prediction(n, f"p{n:02}") for n in range(12)]
    text = Screen(80, 24).show(*many, health(0, "p99"))
    assert "╭" not in text
    assert re.search(r"p07 +happy +█+\S* +75 % +truth calm ✗ +voice +2.0 ms", text)
    assert re.search(r"p99 +waiting", text)
    assert max(map(len, text.splitlines())) <= 80
    assert Screen(80, 60).show(*many[:3]).count("╭") == 3


def test_a_screen_is_not_drawn_more_than_ten_times_a_second() -> None:
    screen = Screen()
    screen.show(prediction(0), close=False)
    drawn = screen.file.getvalue()
    for seq in range(1, 50):
        screen.sink.write(prediction(seq))
    assert screen.file.getvalue() == drawn
    screen.sink.close()
    assert "tick 49" in screen.text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_cannot_send_commands_to_the_terminal(terminal: bool) -> None:
    screen = Screen(terminal=terminal)
    text = screen.show(prediction(0), event(detail={"why": "\x1b[31m\x07\nred [bold]x[/]"}))
    assert "\x1b[31m" not in screen.file.getvalue()
    assert "why ?[31m??red [bold]x[/]" in text


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    sink = ConsoleSink(console, SettableClock())
    sink.write(prediction())
    sink.close()
    assert b"#######" in file.buffer.getvalue()  # type: ignore[attr-defined]


def test_without_a_terminal_each_prediction_is_one_plain_line() -> None:
    nothing = prediction(label=None, probabilities=None, confidence=None, modalities={}, truth=None)
    told = [schema(), health(), prediction(2), event(), marker(), replace(nothing, latency_ms={})]
    lines = Screen(30, terminal=False).show(*told).splitlines()
    assert lines[0] == (
        "p01 1.0 s tick 2: happy 75 % (truth calm), eeg quality 50 % filled 100 % age 0.0 s, "
        "voice missing (muted), 2.0 ms"
    )
    assert re.fullmatch(r"p01 \d\d:\d\d:\d\d source.lost eeg why gone", lines[1])
    assert lines[2:] == ["p01 2.5 s marker 'start' (control)", "p01 0.0 s tick 0: no usable stream"]


# -- the command ------------------------------------------------------------------------------


def test_watch_prints_a_message_a_line_and_stops_after_the_count(
    publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    for session in ("p1", "p10"):
        publisher.send(schema(session))
        publisher.send(prediction(0, session))
    with served(publisher.socket, publisher.serve):
        args = ["watch", publisher.url, "--session", "p1", "--json", "--count", "2"]
        assert cli.main(args) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"kind": m.kind, **wire.to_json(m)} for m in (schema("p1"), prediction(0, "p1"))
    ]


def test_watch_without_a_terminal_prints_plain_lines(
    publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.send(schema())
    publisher.send(prediction(0))
    with served(publisher.socket, publisher.serve):
        assert cli.main(["watch", publisher.url, "--count", "2"]) == 0
    assert capsys.readouterr().out.startswith("p01 0.0 s tick 0: happy 75 %")


def test_watch_tells_what_was_lost(
    publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.send(schema())
    publisher.send(prediction(4))

    def serve() -> None:
        publisher.serve()
        publisher.send(prediction(9))

    with served(publisher.socket, serve):
        assert cli.main(["watch", publisher.url, "--json", "--count", "3"]) == 0
    told = "lost prediction 5 to 8 of session 'p01': too slow\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("args", [["tcp://127.0.0.1"], ["--count", "0"]])
def test_watch_refuses_what_cannot_be(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", *args]) == 2
    assert capsys.readouterr().err


def test_ctrl_c_ends_watch_in_peace(publisher: Publisher) -> None:
    publisher.send(schema())
    with (
        served(publisher.socket, publisher.serve),
        subprocess.Popen(
            [VAGUS, "watch", publisher.url, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["kind"] == "schema"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, "")


def test_watch_says_that_it_waits_and_ctrl_c_ends_that_too() -> None:
    with subprocess.Popen(
        [VAGUS, "watch", "tcp://127.0.0.1:9", "--session", "p01"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert told.startswith("waiting for messages of session 'p01' from tcp://127.0.0.1:9; start")
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("more", [["--json"], []])
def test_a_reader_that_has_seen_enough_ends_watch_in_peace(
    publisher: Publisher, more: list[str]
) -> None:
    publisher.send(schema())
    publisher.send(prediction(0))

    def serve() -> None:
        publisher.serve()
        for seq in range(1, 2000):
            publisher.send(prediction(seq))

    with (
        served(publisher.socket, serve),
        subprocess.Popen(
            [VAGUS, "watch", publisher.url, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(TIMEOUT_S) == 0
    assert err == ""


def test_a_made_up_prediction_is_one_that_the_wire_takes() -> None:
    made = prediction()
    assert isinstance(made, Prediction)
    assert wire.decode("prediction", wire.encode(made)) == made


def test_the_strip_sets_what_was_said_under_what_was_true() -> None:
    shown = Console(width=60, no_color=True, record=True, file=io.StringIO())
    shown.print(strip([("calm", "calm"), ("calm", "sad"), (None, None)], ["calm", "sad"]))
    assert [line.split() for line in shown.export_text().splitlines()] == [
        ["true", "cc"],
        ["said", "cs", "50", "%", "right"],
    ]


def test_what_is_wrong_with_a_signal_is_told_channel_by_channel() -> None:
    eeg = prediction().modalities["eeg"]
    many = [f"C{i}" for i in range(9)]
    wrong = {"T3": ["flat"], "F7": ["flat"], "all": ["line noise"]}
    wrong |= {name: ["railed"] for name in many}
    message = prediction(modalities={"eeg": {**eeg, "faults": wrong}})
    said = "flat T3, F7; line noise; railed on 9 channels"
    assert f"eeg: {said}" in Screen().show(message)
    assert f"[{said}]" in Screen(terminal=False).show(message)
    gone = {"used": False, "reason": "quality", "faults": {"T3": ["flat"]}}
    assert "eeg: flat T3" in Screen().show(prediction(modalities={"eeg": gone}))
