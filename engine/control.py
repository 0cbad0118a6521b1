"""The control socket: requests in, checked against a table of verbs, and replies out.

Protocol: wire.md's ROUTER socket; a plain REQ or DEALER socket and msgpack are all a client needs.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec
import zmq

from engine import endpoint, verbs, wire
from engine.errors import ResourceError, UserError
from engine.keys import ClientKeys, EngineKeys, Rejections
from engine.verbs import ERROR_CODES, VERBS, ControlError

__all__ = [
    "ERROR_CODES",
    "VERBS",
    "ControlError",
    "ControlSocket",
    "Handler",
    "Later",
    "request",
]

_MAX_INCOMING = 16 << 20  # bytes; whoever sends more is cut off
_MAX_WAITING = 64  # requests of one client before it has to wait
_MAX_TURN = 256  # requests handled before the loop gets its turn again
_LINGER_MS = 200
_ID = 1  # of our own requests: one a socket


class Later(Protocol):
    """An answer that takes its time; the socket asks for it in every turn of the loop."""

    def ready(self) -> bool:
        """Whether there is an answer."""
        ...

    def result(self) -> Mapping[str, Any]:
        """The result, asked for once; raises ControlError where the request was not granted."""
        ...


Handler = Callable[[str, dict[str, Any]], Mapping[str, Any] | Later]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as far as its reply needs it."""

    route: list[bytes]
    number: int | str | None
    verb: str


class ControlSocket:
    """A ROUTER socket bound at `url`. `socket` is for a poller; call `serve` when it is readable.

    `counts` holds how many requests ended how: "ok", or one of the ERROR_CODES.
    """

    def __init__(self, context: zmq.Context[Any], url: str, keys: EngineKeys | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = _LINGER_MS
        self.socket.maxmsgsize = _MAX_INCOMING
        self.socket.rcvhwm = _MAX_WAITING
        self._later: list[tuple[_Asked, Later]] = []
        self._rejections = None
        if keys is not None:
            keys.guard(self.socket)
            self._rejections = Rejections(self.socket)
        try:
            self.url = endpoint.bind(self.socket, url, "control", guarded=keys is not None)
        except BaseException:
            self.socket.close(0)
            raise

    def serve(self, handle: Handler) -> None:
        """Answer the waiting requests; `handle(verb, args)` gets only those that fit VERBS.

        What it returns is the result; that of a Later is sent by a later call. A ControlError
        becomes its code, every other exception becomes `failed`; one that is nobody's mistake but
        ours is told on stderr as well.
        """
        if self._rejections is not None:
            self._rejections.poll()
        waiting, self._later = self._later, []
        for asked, later in waiting:
            self._grant(asked, partial(_same, later))
        for _ in range(_MAX_TURN):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._grant(*_understood(frames, handle))

    def _grant(self, asked: _Asked, act: Callable[[], Mapping[str, Any] | Later]) -> None:
        """Reply with what comes of `act`, or wait for it."""
        try:
            made = act()
            if not isinstance(made, Mapping):
                if not made.ready():
                    self._later.append((asked, made))
                    return
                made = made.result()
            reply, outcome = _reply(asked, ok=True, result=dict(made)), "ok"
        except Exception as error:  # whatever a verb does wrong, the sessions go on
            refusal = _refusal(asked, error)
            outcome = refusal.code
            reply = _reply(asked, ok=False, error={"code": outcome, "message": str(refusal)})
        self.counts[outcome] += 1
        self.socket.send_multipart([*asked.route, reply], zmq.NOBLOCK)

    @property
    def rejected(self) -> dict[str, int]:
        """Handshakes refused so far: of a wrong key, and of clients without one."""
        return {} if self._rejections is None else dict(self._rejections.counts)

    def close(self) -> None:
        """Close the socket; the last replies get a moment to leave."""
        if self._rejections is not None:
            self._rejections.close()
        self.socket.close()


def request(
    url: str,
    verb: str,
    args: Mapping[str, Any],
    timeout_s: float = 5.0,
    *,
    context: zmq.Context[Any] | None = None,
    keys: ClientKeys | None = None,
) -> Any:
    """Ask the engine whose control socket is at `url`, with `keys` where it demands some; returns
    the result.

    Raises ControlError if the engine says no, ResourceError if nobody answers in `timeout_s`.
    """
    own = zmq.Context() if context is None else context
    socket = own.socket(zmq.REQ)
    try:
        socket.linger = 0
        socket.maxmsgsize = wire.MAX_MESSAGE
        if keys is not None:
            keys.use(socket)
        endpoint.connect(socket, url, "control")
        socket.send(_ask(verb, args))
        if not socket.poll(round(1e3 * timeout_s)):
            raise ResourceError(
                f"control {url}: nobody answers within {timeout_s:g} s; start an engine there "
                "(vagus run CONFIG) or give the control address of one that runs"
            )
        return _result(socket.recv(), url)
    finally:
        socket.close(0)
        if context is None:
            own.term()


def _ask(verb: str, args: Mapping[str, Any]) -> bytes:
    asked = {"v": wire.VERSION, "id": _ID, "verb": verb, "args": dict(args)}
    try:
        return msgspec.msgpack.encode(asked)
    except (TypeError, ValueError, OverflowError) as error:
        raise ControlError("bad_argument", f"{verb}: this cannot be sent: {error}") from error


def _result(body: bytes, url: str) -> Any:
    """The result in the reply that came from `url`."""
    reply = wire.unpack(body, f"the reply of {url}", with_bytes=True)
    if not isinstance(reply, dict) or reply.get("id") not in (_ID, None):
        raise wire.WireError(f"{url} gave no reply to the request; is it a control socket?")
    if reply.get("ok") is True:
        return reply.get("result")
    error = reply.get("error")
    told = error if isinstance(error, dict) else {}
    raise ControlError(str(told.get("code", "failed")), str(told.get("message", "no reason given")))


def _split(frames: list[bytes]) -> tuple[list[bytes], bytes | None]:
    """The route back, and the body: None where there is not exactly one.

    REQ sockets put an empty frame between the two, DEALER sockets may.
    """
    edge = frames.index(b"", 1) + 1 if b"" in frames[1:] else 1
    rest = frames[edge:]
    return frames[:edge], rest[0] if len(rest) == 1 else None


def _understood(
    frames: list[bytes], handle: Handler
) -> tuple[_Asked, Callable[[], Mapping[str, Any] | Later]]:
    """A request, and what answers it."""
    route, body = _split(frames)
    number: int | str | None = None
    try:
        asked = verbs.read(body)
        number = verbs.number_of(asked)
        verb, args = verbs.check(asked)
    except ControlError as error:
        return _Asked(route, number, ""), partial(_refuse, error)
    return _Asked(route, number, verb), partial(handle, verb, args)


def _refuse(error: ControlError) -> Mapping[str, Any]:
    raise error


def _same(later: Later) -> Later:
    return later


def _refusal(asked: _Asked, error: Exception) -> ControlError:
    """The stable code for whatever went wrong."""
    if isinstance(error, ControlError):
        return error
    if isinstance(error, UserError | ResourceError):
        return ControlError("failed", str(error))
    print(f"vagus: control: {asked.verb} failed", file=sys.stderr)
    traceback.print_exception(error)
    return ControlError("failed", f"internal error: {type(error).__name__}: {error}")


def _reply(asked: _Asked, **rest: Any) -> bytes:
    return msgspec.msgpack.encode({"v": wire.VERSION, "id": asked.number, **rest})
