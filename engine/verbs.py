"""What may be asked of an engine: the table of verbs, and whether a request fits it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from engine import wire
from engine.arguments import describe
from engine.errors import ResourceError, UserError
from engine.plugins import nearest

__all__ = [
    "ERROR_CODES",
    "MAX_REQUEST",
    "VERBS",
    "Argument",
    "ControlError",
    "check",
    "number_of",
    "read",
]

ERROR_CODES: Final = frozenset({
    "bad_request", "unknown_verb", "bad_argument", "not_found", "busy", "refused", "too_large",
    "failed",
})  # fmt: skip
MAX_REQUEST: Final = 1 << 20  # bytes; larger ones get an error reply
_MAX_WORD = 40  # of an unknown name, in an error
_EXIT_CODES = {"busy": ResourceError.exit_code, "failed": 1}


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
        "swap": {"session": _SESSION, "stream": _TEXT, "bundle": _TEXT},
        "join": {"config": Argument("a config's name or path, or its map", (str, dict))},
        "leave": {"session": _SESSION},
        "record": {"session": _SESSION, "path": _TEXT, "raw": _CHOICE},
        "stop_record": {"session": _SESSION},
        "fetch": {"session": _SESSION, "kind": _KIND, "first": _NUMBER, "last": _NUMBER},
        "preview": {"session": _SESSION, "on": _CHOICE},
        "shutdown": {},
    }
)


def read(body: bytes | None) -> dict[str, Any]:
    """The map that a request's one frame holds; None stands for another number of frames."""
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


def number_of(asked: dict[str, Any]) -> int | str:
    """The id of a request, which its reply repeats."""
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


def check(asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
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


def _near(word: str, known: Iterable[str]) -> str:
    """The hint for a word that may be as long as a request; comparing takes its time."""
    return nearest(word[:_MAX_WORD], known)


def _short(text: str) -> str:
    return repr(text if len(text) <= _MAX_WORD else text[: _MAX_WORD - 3] + "...")
