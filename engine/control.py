"""The control socket: requests in, checked against a table of verbs, and replies out.

Protocol: wire.md's ROUTER socket; a plain REQ or DEALER socket and msgpack are all a client needs.
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec
import zmq

from engine import endpoint, wire
from engine.arguments import describe
from engine.errors import ResourceError, UserError
from engine.keys import ClientKeys, EngineKeys, Rejections
from engine.plugins import nearest

__all__ = [
    "ERROR_CODES",
    "VERBS",
    "Argument",
    "ControlError",
    "ControlSocket",
    "Handler",
    "request",
]

ERROR_CODES: Final = frozenset({
    "bad_request", "unknown_verb", "bad_argument", "not_found", "busy", "refused", "too_large",
    "failed",
})  # fmt: skip
MAX_REQUEST: Final = 1 << 20  # bytes; larger ones get an error reply
_MAX_INCOMING = 16 << 20  # bytes; whoever sends more is cut off
_MAX_WAITING = 64  # requests of one client before it has to wait
_MAX_TURN = 256  # requests handled before the loop gets its turn again
_LINGER_MS = 200
_ID = 1  # of our own requests: one a socket
_MAX_WORD = 40  # of an unknown name, in an error
_EXIT_CODES = {"busy": ResourceError.exit_code, "failed": 1}

Handler = Callable[[str, dict[str, Any]], Mapping[str, Any]]


class ControlError(UserError):
    """A request that is not granted; `code` is one of the stable ERROR_CODES."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = _EXIT_CODES.get(code, UserError.exit_code)


@dataclass(frozen=True, slots=True)
class Argument:
    """What an argument of a verb may be: of one of `types`, which `wanted` says in words."""

    wanted: str
    types: tuple[type, ...]
    needed: bool = True
    choices: tuple[str, ...] = ()
    least: int | None = None

    def misfit(self, value: Any) -> str | None:
        """What is wrong with `value`; None if nothing."""
        fits = type(value) in self.types and (self.least is None or value >= self.least)
        if fits and (not self.choices or value in self.choices):
            return None
        hint = _near(value, self.choices) if isinstance(value, str) else ""
        return f"expected {self.wanted}, found {describe(value)}{hint}"


_SESSION = Argument("text", (str,), needed=False)  # may be left out where there is one
_TEXT = Argument("text", (str,))
_CHOICE = Argument("true or false", (bool,))
_NUMBER = Argument("a whole number from 0", (int,), least=0)
_SECONDS = Argument("a number of seconds from 1", (int, float), least=1)
_NUMBERED = tuple(kind for kind in wire.KINDS if kind != "schema")
_KIND = Argument(f"one of {', '.join(_NUMBERED)}", (str,), choices=_NUMBERED)

VERBS: Final[Mapping[str, Mapping[str, Argument]]] = MappingProxyType(
    {
        "status": {},
        "pause": {"session": _SESSION},
        "resume": {"session": _SESSION},
        "mark": {"session": _SESSION, "value": _TEXT},
        "calibrate": {"session": _SESSION, "stream": _TEXT, "seconds": _SECONDS},
        "mute": {"session": _SESSION, "stream": _TEXT},
        "unmute": {"session": _SESSION, "stream": _TEXT},
        "join": {"config": Argument("a config's name or path, or its map", (str, dict))},
        "leave": {"session": _SESSION},
        "record": {"session": _SESSION, "path": _TEXT, "raw": _CHOICE},
        "stop_record": {"session": _SESSION},
        "fetch": {"session": _SESSION, "kind": _KIND, "first": _NUMBER, "last": _NUMBER},
        "preview": {"session": _SESSION, "on": _CHOICE},
        "shutdown": {},
    }
)


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

        What it returns is the result. A ControlError becomes its code, every other exception
        becomes `failed`; one that is nobody's mistake but ours is told on stderr as well.
        """
        if self._rejections is not None:
            self._rejections.poll()
        for _ in range(_MAX_TURN):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            route, body = _split(frames)
            reply, outcome = _answer(body, handle)
            self.counts[outcome] += 1
            self.socket.send_multipart([*route, reply], zmq.NOBLOCK)

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


def _answer(body: bytes | None, handle: Handler) -> tuple[bytes, str]:
    """The reply to a request, and how it ended for the count."""
    number: int | str | None = None
    try:
        asked = _read(body)
        number = _number(asked)
        verb, args = _check(asked)
        return _run(handle, verb, args, number), "ok"
    except ControlError as error:
        told = {"code": error.code, "message": str(error)}
        return _reply(number, ok=False, error=told), error.code


def _reply(number: int | str | None, **rest: Any) -> bytes:
    return msgspec.msgpack.encode({"v": wire.VERSION, "id": number, **rest})


def _read(body: bytes | None) -> dict[str, Any]:
    if body is None:
        raise ControlError("bad_request", "a request is one frame with one msgpack map")
    if len(body) > MAX_REQUEST:
        raise ControlError(
            "too_large", f"a request of {len(body)} bytes is too large; at most {MAX_REQUEST}"
        )
    try:
        asked = wire.unpack(body, "the request")
    except wire.WireError as error:
        raise ControlError("bad_request", str(error)) from error
    if not isinstance(asked, dict):
        raise ControlError("bad_request", f"the request: expected a map, found {describe(asked)}")
    return asked


def _number(asked: dict[str, Any]) -> int | str:
    number = _key(asked, "id", "a whole number or text", (int, str))
    assert isinstance(number, int | str)
    return number


def _key(asked: dict[str, Any], key: str, wanted: str, types: tuple[type, ...]) -> Any:
    if key not in asked:
        raise ControlError("bad_request", f"the request needs the key '{key}', {wanted}")
    if type(asked[key]) not in types:
        found = describe(asked[key])
        raise ControlError(
            "bad_request", f"the request's '{key}': expected {wanted}, found {found}"
        )
    return asked[key]


def _check(asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The verb and arguments of a request that fits the table."""
    version = _key(asked, "v", "the number 1", (int,))
    if version != wire.VERSION:
        raise ControlError("bad_request", f"a request of version {version}; this engine knows 1")
    verb = _key(asked, "verb", "text", (str,))
    args = _key(asked, "args", "a map", (dict,))
    if verb not in VERBS:
        hint = _near(verb, VERBS) or f"; known: {', '.join(VERBS)}"
        raise ControlError("unknown_verb", f"no verb is called {_short(verb)}{hint}")
    known = VERBS[verb]
    for name, value in args.items():
        if name not in known:
            hint = _near(name, known) or f"; it takes {', '.join(known) or 'none'}"
            raise ControlError("bad_argument", f"{verb} has no argument {_short(name)}{hint}")
        if (misfit := known[name].misfit(value)) is not None:
            raise ControlError("bad_argument", f"{verb}: {name}: {misfit}")
    for name, argument in known.items():
        if argument.needed and name not in args:
            raise ControlError("bad_argument", f"{verb} needs '{name}', {argument.wanted}")
    return verb, args


def _run(handle: Handler, verb: str, args: dict[str, Any], number: int | str) -> bytes:
    """Let the request be granted; the reply with the result."""
    try:
        return _reply(number, ok=True, result=dict(handle(verb, args)))
    except ControlError:
        raise
    except (UserError, ResourceError) as error:
        raise ControlError("failed", str(error)) from error
    except Exception as error:  # whatever a verb does wrong, the sessions go on
        print(f"vagus: control: {verb} failed", file=sys.stderr)
        traceback.print_exception(error)
        raise ControlError("failed", f"internal error: {type(error).__name__}: {error}") from error


def _near(word: str, known: Iterable[str]) -> str:
    """The hint for a word that may be as long as a request; comparing takes its time."""
    return nearest(word[:_MAX_WORD], known)


def _short(text: str) -> str:
    return repr(text if len(text) <= _MAX_WORD else text[: _MAX_WORD - 3] + "...")
