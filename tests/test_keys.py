"""CURVE: who is on the list receives; wrong keys and plain clients do not, and are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from engine import cli, endpoint
from engine.config import config_from
from engine.control import ControlSocket, request
from engine.daemon import Engine
from engine.errors import ConfigError, ResourceError
from engine.keys import ClientKeys, EngineKeys, Gate, make_keys
from engine.publish import Publisher
from sinks import Subscription
from tests.messages import TIMEOUT_S, prediction, served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ["alice", "bob"])
    make_keys(tmp_path / "foreign", ["eve"])
    return tmp_path


@pytest.fixture
def guarded(folder: Path) -> Iterator[tuple[Publisher, ControlSocket]]:
    keys = EngineKeys.load(folder / "keys/engine.key_secret", folder / "keys/clients")
    context: zmq.Context[Any] = zmq.Context()
    gate = Gate(context, keys)
    publisher = Publisher(context, "tcp://127.0.0.1:0", keys=keys)
    control = ControlSocket(context, "tcp://127.0.0.1:0", keys)
    yield publisher, control
    publisher.close()
    control.close()
    gate.close()
    context.term()


def client(folder: Path, name: str, home: str = "keys") -> ClientKeys:
    return ClientKeys.load(folder / home / f"{name}.key_secret", folder / "keys/engine.key")


def until(done: Callable[[], bool], serve: Callable[[], None]) -> None:
    end_s = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < end_s, "it never came to that"
        serve()
        time.sleep(0.005)


def test_only_the_right_key_receives_and_the_others_are_counted(
    folder: Path, guarded: tuple[Publisher, ControlSocket]
) -> None:
    publisher, _ = guarded
    url = publisher.url
    alice = Subscription(url, keys=client(folder, "alice"))
    eve = Subscription(url, keys=client(folder, "eve", "foreign"))
    plain = Subscription(url)

    def all_tried() -> bool:
        counts = publisher.rejected
        return publisher.received_subscriptions > 0 and min(counts.values()) > 0

    until(all_tried, publisher.serve)
    publisher.send(prediction(0))
    assert alice.read(TIMEOUT_S) is not None
    assert eve.read(0.2) is None
    assert plain.read(0.2) is None
    for subscription in (alice, eve, plain):
        subscription.close()


def test_the_control_socket_answers_the_right_key_alone(
    folder: Path, guarded: tuple[Publisher, ControlSocket]
) -> None:
    _, control = guarded
    with served(control.socket, lambda: control.serve(lambda verb, args: {"verb": verb})):
        assert request(control.url, "status", {}, keys=client(folder, "bob")) == {"verb": "status"}
        with pytest.raises(ResourceError, match="nobody answers"):
            request(control.url, "status", {}, 0.5, keys=client(folder, "eve", "foreign"))
        with pytest.raises(ResourceError, match="nobody answers"):
            request(control.url, "status", {}, 0.5)
    assert control.counts["ok"] == 1


def test_an_engine_beyond_loopback_needs_keys_and_then_talks_to_its_clients(folder: Path) -> None:
    streams = {"eeg": {"source": {"type": "simulate", "kind": "eeg"}}}
    sockets = {"publish": "tcp://0.0.0.0:*", "control": "tcp://127.0.0.1:*"}
    with pytest.raises(ConfigError, match="vagus keys"):
        config_from({"session": "p1", "streams": streams, **sockets})
    curve = {"secret": str(folder / "keys/engine.key_secret"),
             "clients": str(folder / "keys/clients")}  # fmt: skip
    config = config_from(
        {"session": "p1", "streams": streams, **sockets, "security": {"curve": curve}}
    )
    with Engine([config]) as engine:
        url = engine.publisher.url.replace("0.0.0.0", "127.0.0.1")
        with Subscription(url, keys=client(folder, "alice"), kinds=("health",)) as alice:
            end_s = time.monotonic() + TIMEOUT_S
            message = None
            while message is None and time.monotonic() < end_s:
                engine.loop(0.2)
                message = alice.read(0.05)
        assert message is not None


def test_an_unguarded_socket_is_not_bound_beyond_loopback() -> None:
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.XPUB)
    with pytest.raises(ConfigError, match="CURVE"):
        endpoint.bind(socket, "tcp://0.0.0.0:0", "publish")
    socket.close(0)
    context.term()


def test_secrets_are_private_and_keys_that_are_there_stay(folder: Path) -> None:
    secret = folder / "keys/engine.key_secret"
    before = secret.read_text()
    assert make_keys(folder / "keys", ["alice", "carol"]) == [
        folder / "keys/clients/carol.key",
        folder / "keys/carol.key_secret",
    ]
    assert secret.read_text() == before
    assert secret.stat().st_mode & 0o077 == 0


def test_the_command_makes_keys_and_refuses_what_is_no_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["keys", str(tmp_path), "alice"]) == 0
    assert "alice.key_secret" in capsys.readouterr().out
    assert cli.main(["keys", str(tmp_path), "../alice"]) == 2


@pytest.mark.parametrize(
    ("secret", "clients", "message"),
    [
        ("none.key_secret", "keys/clients", "no such key file"),
        ("keys/engine.key_secret", "none", "no such folder"),
        ("keys/engine.key_secret", "foreign", "engine"),
    ],
)
def test_keys_that_are_not_there_are_named(
    folder: Path, secret: str, clients: str, message: str
) -> None:
    (folder / "empty").mkdir()
    where = folder / ("empty" if clients == "foreign" else clients)
    expected = "nobody could connect" if clients == "foreign" else message
    with pytest.raises(ConfigError, match=expected):
        EngineKeys.load(folder / secret, where)
