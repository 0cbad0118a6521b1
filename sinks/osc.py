"""Predictions as Open Sound Control messages over UDP: for music, light and art."""

from __future__ import annotations

import math
import re
from typing import Any

from engine.errors import ConfigError
from engine.types import Event, Marker, Message, Prediction

__all__ = ["OscSink"]

_NOT_IN_ADDRESS = re.compile(r"[^A-Za-z0-9_.-]")


class OscSink:
    """Sends each prediction to `host`:`port`, below the address `prefix`/<session>.

    `…/label` (text, "" where the engine abstains), `…/confidence`, `…/probability/<label>` and
    `…/valence`, `…/arousal`, `…/dominance` (floats), `…/marker` (stream, value) and `…/event`
    (code, stream). UDP says nothing of what is lost on the way.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", prefix: str = "/vagus") -> None:
        from pythonosc.udp_client import SimpleUDPClient

        if not 1 <= port <= 65535:
            raise ConfigError(f"osc: port {port} is none; need 1 to 65535")
        if not prefix.startswith("/") or prefix.endswith("/"):
            raise ConfigError(f"osc: prefix {prefix!r} must begin with '/' and not end with it")
        self._prefix = prefix
        self._client = SimpleUDPClient(host, port)

    def write(self, message: Message) -> None:
        """Send what a message tells."""
        root = f"{self._prefix}/{_part(message.session)}"
        if isinstance(message, Prediction):
            self._predict(root, message)
        elif isinstance(message, Marker):
            self._send(f"{root}/marker", [message.stream, message.value])
        elif isinstance(message, Event):
            self._send(f"{root}/event", [message.code, message.stream or ""])

    def close(self) -> None:
        """Free the socket."""
        self._client._sock.close()

    def _predict(self, root: str, message: Prediction) -> None:
        self._send(f"{root}/label", message.label or "")
        if message.probabilities is None:
            return
        self._send(f"{root}/confidence", float(message.confidence or 0.0))
        for label, p in message.probabilities.items():
            self._send(f"{root}/probability/{_part(label)}", float(p))
        for name, value in (message.dimensions or {}).items():
            if math.isfinite(value):
                self._send(f"{root}/{_part(name)}", float(value))

    def _send(self, address: str, value: Any) -> None:
        self._client.send_message(address, value)


def _part(text: str) -> str:
    """`text` as one part of an address: OSC gives some characters a meaning of their own."""
    return _NOT_IN_ADDRESS.sub("_", text)
