"""Addresses: what may be bound, what a taken one says, and how an ipc socket is guarded."""

from __future__ import annotations

import os
import socket as sockets
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from engine import endpoint
from engine.errors import ConfigError, ResourceError

HOLD = """
import socket, sys, time
family, address = (socket.AF_INET, ("127.0.0.1", 0)) if sys.argv[1] == "tcp" else (
    socket.AF_UNIX, sys.argv[2])
with socket.socket(family) as s:
    s.bind(address)
    s.listen()
    print(s.getsockname()[1] if sys.argv[1] == "tcp" else address, flush=True)
    sys.stdin.read()
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def pub() -> Iterator[zmq.Socket[Any]]:
    context = zmq.Context()
    yield context.socket(zmq.XPUB)
    context.destroy(linger=0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is left by short names: a socket's path has 107 characters at most."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hold(folder: Path, *args: str) -> subprocess.Popen[str]:
    """Another process that holds a port or a path."""
    script = folder / "holds.py"
    script.write_text(HOLD)
    return subprocess.Popen(
        [sys.executable, str(script), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "tcp://localhost:0"])
def test_the_real_port_is_told(pub: zmq.Socket[Any], url: str) -> None:
    bound = endpoint.bind(pub, url, "publish")
    assert bound.startswith("tcp://127.0.0.1:")
    assert int(bound.rpartition(":")[2]) > 0


@pytest.mark.parametrize(
    "url", ["tcp://0.0.0.0:5570", "tcp://*:5570", "tcp://192.168.1.5:0", "tcp://eth0:0"]
)
def test_an_address_beyond_loopback_is_refused_and_told_what_it_needs(
    pub: zmq.Socket[Any], url: str
) -> None:
    with pytest.raises(ConfigError, match=r"beyond loopback and needs CURVE keys .*127\.0\.0\.1"):
        endpoint.bind(pub, url, "publish")


@pytest.mark.parametrize(
    "url", ["", "5570", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "udp://127.0.0.1:1", "ipc://",
            "ipc://@hidden", "inproc://x"]
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_form_of_one(pub: zmq.Socket[Any], url: str) -> None:
    with pytest.raises(ConfigError, match=r"control: expected tcp://host:port or ipc://path"):
        endpoint.bind(pub, url, "control")


@LINUX
def test_a_busy_port_says_which_process_holds_it(pub: zmq.Socket[Any], folder: Path) -> None:
    with hold(folder, "tcp", "live.yaml") as process:
        assert process.stdout is not None
        url = f"tcp://127.0.0.1:{process.stdout.readline().strip()}"
        with pytest.raises(ResourceError) as caught:
            endpoint.bind(pub, url, "publish")
        process.communicate()
    by = f"process {process.pid} (holds.py tcp live.yaml)"
    assert str(caught.value) == (
        f"publish {url} is in use by {by}; stop it or choose another address"
    )


@LINUX
def test_an_ipc_path_in_use_is_not_taken_and_its_holder_named(
    pub: zmq.Socket[Any], folder: Path
) -> None:
    with hold(folder, "ipc", "engine.sock") as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ResourceError, match=rf"ipc://engine.sock .* process {process.pid} \("):
            endpoint.bind(pub, "ipc://engine.sock", "control")
        assert (folder / "engine.sock").is_socket()
        process.communicate()


def test_the_socket_file_of_an_engine_that_died_is_replaced(
    pub: zmq.Socket[Any], folder: Path
) -> None:
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind("engine.sock")
        dead.listen()
    assert (folder / "engine.sock").is_socket()
    assert endpoint.bind(pub, "ipc://engine.sock", "control") == "ipc://engine.sock"


def test_an_ipc_socket_is_for_its_owner_only(pub: zmq.Socket[Any], folder: Path) -> None:
    before = os.umask(0)
    try:
        endpoint.bind(pub, "ipc://engine.sock", "control")
        assert os.umask(0) == 0, "the mask of the process has changed"
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "engine.sock").stat().st_mode) == 0o700


def test_a_file_that_is_no_socket_stays_as_it_is(pub: zmq.Socket[Any], folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"ipc://notes.txt: that file is no socket"):
        endpoint.bind(pub, "ipc://notes.txt", "publish")
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("url", ["ipc://nowhere/engine.sock", "ipc://" + "long/" * 40])
def test_an_impossible_path_is_the_users_to_mend(pub: zmq.Socket[Any], url: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be bound: .*; choose another address"):
        endpoint.bind(pub, url, "publish")


def test_nobody_is_named_where_nobody_listens(folder: Path) -> None:
    with sockets.socket() as bound:  # not listening, so that nobody else does
        bound.bind(("127.0.0.1", 0))
        assert endpoint.holder(f"tcp://127.0.0.1:{bound.getsockname()[1]}") is None
    assert endpoint.holder("ipc://nowhere.sock") is None


@pytest.mark.parametrize("url", ["tcp:/127.0.0.1:1", "127.0.0.1:5570", "ipc://"])
def test_connecting_to_what_is_no_address_is_refused(pub: zmq.Socket[Any], url: str) -> None:
    with pytest.raises(ConfigError, match=r"watch: expected tcp://host:port"):
        endpoint.connect(pub, url, "watch")
