"""CURVE keys: made, read, and held against whoever connects beyond loopback.

CurveZMQ (ZeroMQ RFC 26) with the allow-list of ZAP (RFC 27): an engine's sockets talk to clients
whose public keys lie in its folder, and to nobody else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
import zmq.utils.monitor
from zmq.auth.thread import ThreadAuthenticator

from engine.errors import ConfigError, ResourceError

__all__ = ["ClientKeys", "EngineKeys", "Gate", "Rejections", "make_keys"]

_DOMAIN = "vagus"
_ENGINE = "engine"
_SHAPE = "a key file of vagus keys"


@dataclass(frozen=True, slots=True)
class EngineKeys:
    """The engine's own pair, and the public keys that may connect, by their owners' names."""

    public: bytes
    secret: bytes
    clients: dict[bytes, str]

    @staticmethod
    def load(secret: str | Path, clients: str | Path) -> EngineKeys:
        """Read `engine.key_secret` and every `NAME.key` of a folder; raises ConfigError."""
        public, private = _pair(Path(secret))
        folder = Path(clients)
        if not folder.is_dir():
            raise ConfigError(f"security.curve.clients: {clients}: no such folder; see vagus keys")
        allowed = {_pair(path)[0]: path.stem for path in sorted(folder.glob("*.key"))}
        if not allowed:
            raise ConfigError(
                f"security.curve.clients: {clients} has no NAME.key: nobody could connect; make "
                "some with: vagus keys DIR NAME"
            )
        return EngineKeys(public, private or b"", allowed)

    def guard(self, socket: zmq.Socket[Any]) -> None:
        """Let `socket`, before it is bound, talk to the allowed clients alone."""
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self.public, self.secret
        socket.zap_domain = _DOMAIN.encode()


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """A client's own pair, and the public key of the engine that it trusts."""

    public: bytes
    secret: bytes
    server: bytes

    @staticmethod
    def load(secret: str | Path, server: str | Path) -> ClientKeys:
        """Read `NAME.key_secret` and `engine.key`; raises ConfigError."""
        public, private = _pair(Path(secret))
        if private is None:
            raise ConfigError(f"{secret}: holds no secret key; expected NAME.key_secret")
        return ClientKeys(public, private, _pair(Path(server))[0])

    def use(self, socket: zmq.Socket[Any]) -> None:
        """Let `socket`, before it is connected, prove who it is and demand that of the engine."""
        socket.curve_publickey, socket.curve_secretkey = self.public, self.secret
        socket.curve_serverkey = self.server


def make_keys(folder: Path, clients: list[str]) -> list[Path]:
    """Write the engine's pair and those of `clients`; what is there already stays.

    `engine.key`, `engine.key_secret`, `clients/NAME.key` (the allow-list) and `NAME.key_secret`
    to hand to NAME together with `engine.key`. Secrets have mode 0600. Returns what was written.
    """
    made: list[Path] = []
    try:
        (folder / "clients").mkdir(parents=True, exist_ok=True)
        for name in (_ENGINE, *clients):
            place = folder if name == _ENGINE else folder / "clients"
            public, secret = place / f"{name}.key", folder / f"{name}.key_secret"
            if public.exists() or secret.exists():
                continue
            before = os.umask(0o077)
            try:
                zmq.auth.create_certificates(str(folder), name)
            finally:
                os.umask(before)
            (folder / f"{name}.key").replace(public)
            public.chmod(0o644)
            made += [public, secret]
    except OSError as error:
        raise ResourceError(f"keys: {error.filename}: {error.strerror}") from error
    return made


class Gate:
    """Answers ZAP for a context: who is on the list comes in. `n_denied` counts the others."""

    def __init__(self, context: zmq.Context[Any], keys: EngineKeys) -> None:
        self._clients = keys.clients
        self.n_denied = 0
        self._thread = ThreadAuthenticator(context)
        self._thread.start()
        self._thread.configure_curve_callback(_DOMAIN, self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the owner of `key` (Z85) may connect; called by the authenticator's thread."""
        known = key in self._clients
        self.n_denied += not known
        return known

    def close(self) -> None:
        """Stop answering, before the context ends."""
        self._thread.stop()


class Rejections:
    """Counts the handshakes that a guarded socket refused: wrong keys, and clients without any."""

    _EVENTS = (
        zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    )

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self.counts = {"key": 0, "plain": 0}
        self._socket = socket
        self._monitor = socket.get_monitor_socket(self._EVENTS)

    def poll(self) -> int:
        """Take up what happened; returns how many were refused since the last call."""
        n = 0
        while self._monitor.poll(0):
            event = zmq.utils.monitor.recv_monitor_message(self._monitor)["event"]
            self.counts["key" if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH else "plain"] += 1
            n += 1
        return n

    def close(self) -> None:
        """Stop watching, before the socket is closed."""
        self._socket.disable_monitor()
        self._monitor.close(0)


def _pair(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(str(path))
    except OSError as error:
        raise ConfigError(f"{path}: no such key file; make keys with: vagus keys DIR") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not {_SHAPE}: {error}") from error
