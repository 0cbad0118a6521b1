"""Who may talk to a local HTTP or WebSocket port: exact Host, exact Origin, a token."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from engine.errors import ConfigError

__all__ = ["Access", "door_log", "new_token"]

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_BEARER = "Bearer "


def new_token() -> str:
    """A token that nobody guesses: 192 bits, safe in an address."""
    return secrets.token_urlsafe(24)


def door_log() -> logging.Logger:
    """For servers that anybody may knock at: what strangers do wrong is told to nobody who does
    not ask for it."""
    log = logging.getLogger("vagus.door")
    if not log.handlers:  # without any, Python writes to stderr
        log.addHandler(logging.NullHandler())
    return log


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one port on loopback.

    A page elsewhere can make a browser send requests to this machine, so a name that resolves to
    it is not enough: the Host must be loopback with this very `port`, and an Origin, which
    browsers always send with what may do harm, must be one of `origins` or the port's own page.
    `token`, where there is one, must come as `Authorization: Bearer`, or as `token` in the query.
    """

    port: int
    token: str | None = None
    origins: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
                raise ConfigError(
                    f"origins: {origin!r} is no origin; expected such as http://localhost:3000"
                )

    def refusal(self, target: str, headers: Mapping[str, str]) -> str | None:
        """Why a request for `target` (path and query) is refused; None if it may pass.

        `headers` are looked up by their usual names, Host, Origin and Authorization.
        """
        if headers.get("Host") not in self._hosts():
            return "host"
        origin = headers.get("Origin")
        if origin is not None and origin not in self._own() and origin not in self.origins:
            return "origin"
        if self.token is None:
            return None
        given = parse_qs(urlsplit(target).query).get("token", [""])[0]
        bearer = headers.get("Authorization") or ""
        if bearer.startswith(_BEARER):
            given = bearer.removeprefix(_BEARER)
        same = hmac.compare_digest(given.encode(), self.token.encode())
        return None if same else "token"

    def _hosts(self) -> tuple[str, ...]:
        return tuple(f"{host}:{self.port}" for host in _LOOPBACK)

    def _own(self) -> tuple[str, ...]:
        return tuple(f"http://{host}" for host in self._hosts())
