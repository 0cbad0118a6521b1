"""Strict YAML 1.2: one document of plain values, and the line and column of every key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from engine.errors import ConfigError

__all__ = ["Document", "Path", "Place", "Problem", "dotted", "parse"]

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]  # line and column, both from 1
Problem: TypeAlias = tuple[Place, Path, str]  # where in the file, where in the tree, what

MAX_BYTES = 1_000_000
_MAX_DEPTH = 32
# The core schema of YAML 1.2: `on`, `yes`, `0777` and dates are text or plain decimals.
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says: `value` of maps, lists, text, numbers, booleans and None.

    `places` has the position of every key and list item by its path; () is the document itself.
    `problems` are breaches of strictness (a key that comes twice, an alias, a tag).
    """

    name: str
    value: Any
    places: Mapping[Path, Place]
    problems: tuple[Problem, ...] = ()


def dotted(path: Path) -> str:
    """`streams.eeg.bundle`, as messages and look-ups write a path."""
    return ".".join(str(part) for part in path)


def parse(body: bytes, name: str) -> Document:
    """Read one YAML document; `name` is what messages call the file.

    Raises ConfigError with line and column where `body` is not YAML, is empty, or holds more than
    one document. Milder faults stand in the document's `problems`, so that all are told at once.
    """
    text = _decode(body, name)
    builder = _Builder(YAML(typ="safe", pure=True).parse(text), name)
    try:
        return builder.document()
    except ReaderError as error:
        place = _place_of(text, error.position)
        raise _fault(name, place, f"not text: found the character {error.character!r}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        why = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise _fault(name, place, f"not valid YAML: {' '.join(why.split())}") from error
    except (YAMLError, ValueError, OverflowError) as error:  # such as "\UFFFFFFFF"
        why = " ".join(str(error).split())
        raise _fault(name, builder.place, f"not valid YAML after this: {why}") from error


def _fault(name: str, place: Place, text: str) -> ConfigError:
    return ConfigError(f"{name}:{place[0]}:{place[1]}: {text}")


def _decode(body: bytes, name: str) -> str:
    if len(body) > MAX_BYTES:
        raise ConfigError(
            f"{name}: {len(body)} bytes are too many for a config: is it a data file?"
        )
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place_of(body[: error.start].decode("utf-8", "replace"), error.start)
        raise _fault(name, place, "not text in UTF-8; is this a YAML file?") from error


def _place_of(text: str, position: int) -> Place:
    before = text[:position]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Builder:
    """Turns the parser's events into plain values, noting places and problems on the way."""

    def __init__(self, events: Iterator[Any], name: str) -> None:
        self._events = events
        self._name = name
        self.place: Place = (1, 1)  # of the last event
        self.places: dict[Path, Place] = {}
        self.problems: list[Problem] = []

    def document(self) -> Document:
        """The only document of the stream."""
        self._next()  # the start of the stream
        start = self._next()
        if isinstance(start, StreamEndEvent):
            raise _fault(self._name, (1, 1), "the file is empty: expected keys and values")
        if start.version is not None and tuple(start.version) != (1, 2):
            self._complain((), "this is YAML 1.2; remove the %YAML line")
        value = self._value(self._next(), ())
        self._next()  # the end of the document
        if isinstance(self._next(), DocumentStartEvent):
            raise _fault(
                self._name, self.place, "a second document starts here: one file is one config"
            )
        return Document(self._name, value, self.places, tuple(self.problems))

    def _next(self) -> Any:
        event = next(self._events)
        self.place = (event.start_mark.line + 1, event.start_mark.column + 1)
        return event

    def _complain(self, path: Path, text: str) -> None:
        self.problems.append((self.place, path, text))

    def _value(self, event: Any, path: Path) -> Any:
        self.places.setdefault(path, self.place)
        if len(path) > _MAX_DEPTH:
            raise _fault(self._name, self.place, f"nested deeper than {_MAX_DEPTH} levels")
        if isinstance(event, AliasEvent):
            self._complain(path, f"*{event.anchor} is an alias: write the value out")
            return None
        if event.anchor is not None:
            self._complain(path, f"&{event.anchor} is an anchor: remove it")
        if event.tag is not None:
            self._complain(path, f"{event.tag} is a tag: remove it")
        if isinstance(event, MappingStartEvent):
            return self._map(path)
        if isinstance(event, SequenceStartEvent):
            return self._list(path)
        return _scalar(event)

    def _list(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _map(self, path: Path) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._key(event, path)
            inner = (*path, key)
            if key in items:
                line, column = self.places[inner]
                self._complain(inner, f"the key is there already, at {line}:{column}")
            self.places.setdefault(inner, self.place)
            value = self._value(self._next(), inner)
            items.setdefault(key, value)
        return items

    def _key(self, event: Any, path: Path) -> str:
        if not isinstance(event, ScalarEvent):
            self._complain(path, "a key must be one word, not a list, map or alias")
            self._value(event, path)
            return "?"
        if event.anchor is not None or event.tag is not None:
            self._complain(path, f"the key {event.value!r} has an anchor or a tag: remove it")
        elif not isinstance(_scalar(event), str):
            self._complain(path, f"the key {event.value!r} is no text: write it in quotes")
        return str(event.value)


def _scalar(event: ScalarEvent) -> Any:
    text = str(event.value)
    if not event.implicit[0]:  # quoted, a block, or tagged (and complained about)
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) < 40 else float(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text
