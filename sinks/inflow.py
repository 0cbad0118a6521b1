"""What a reader of an engine's messages has seen: which are new, which are missing, and those
that the engine still keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from engine import wire
from engine.control import request
from engine.errors import ConfigError, ResourceError, UserError
from engine.keys import ClientKeys
from engine.plugins import nearest
from engine.types import Message, Schema

__all__ = ["MAX_HOLES", "Fetched", "Hole", "Inflow", "checked_kinds", "fetch"]

MAX_HOLES = 1000  # kept in a list; the older ones are counted only
_AT_ONCE = 256  # messages asked for in one request: far below what a reply may weigh
_ANSWER_S = 2.0


class Hole(NamedTuple):
    """Messages that never came: the numbers `first` to `last`, inclusive."""

    session: str
    kind: str
    first: int
    last: int


class Fetched(NamedTuple):
    """What became of a hole: the messages in order, what stays missing, and why if nobody told."""

    messages: list[Message]
    missing: list[Hole]
    failure: Exception | None = None


class Inflow:
    """Tells new messages from repeats, finds the numbers that are left out, and keeps all in line.

    `ready` are the messages to be given out. `holes` are the last ones that nothing filled,
    `n_lost` counts the messages of all of them, `n_fetched` those that were fetched instead;
    `failure` is why the last fetch failed, if it did.
    """

    def __init__(
        self, url: str, kinds: Sequence[str], on_hole: Callable[[Hole], None] | None
    ) -> None:
        self.ready: deque[Message] = deque()
        self.holes: list[Hole] = []
        self.n_lost = self.n_fetched = 0
        self.failure: Exception | None = None
        self.heard = False  # anything at all
        self._url, self._kinds, self._on_hole = url, checked_kinds(kinds), on_hole
        self._last: dict[tuple[str, str], tuple[str, int]] = {}  # (session, kind): run, seq
        self._schemas: dict[str, bytes] = {}

    def take(self, parts: Sequence[bytes]) -> tuple[Hole, str] | None:
        """Put the message of these frames in line, unless it is a repeat or of another kind.

        Gives the numbers before it that did not come and their run: the caller passes the hole
        on to `lose`, or what was fetched for it to `fill`. Raises WireError for bytes that no
        engine sends.
        """
        self.heard = True
        words = parts[0].split(b"/")
        if len(parts) != 2 or len(words) != 4:
            raise wire.WireError(f"{self._url} sent {len(parts)} frames that are no message")
        kind = words[3].decode(errors="replace")
        if kind not in self._kinds:
            return None
        message = wire.decode(kind, parts[1])
        if isinstance(message, Schema):
            if self._schemas.get(message.session) != parts[1]:
                self._schemas[message.session] = parts[1]
                self.ready.append(message)
            return None
        of = message.session, kind
        run, last = self._last.get(of, (message.run, message.seq - 1))  # the first one is no loss
        if run != message.run:
            last = -1  # another run counts from 0
        if message.seq <= last:
            return None
        self._last[of] = message.run, message.seq
        self.ready.append(message)
        whole = message.seq == last + 1
        return None if whole else (Hole(*of, last + 1, message.seq - 1), message.run)

    def fill(self, fetched: Fetched) -> None:
        """Put what was fetched in line, before the message that came last."""
        behind = self.ready.pop()
        self.ready.extend(fetched.messages)
        self.ready.append(behind)
        self.n_fetched += len(fetched.messages)
        self.failure = fetched.failure
        for hole in fetched.missing:
            self.lose(hole)

    def lose(self, hole: Hole) -> None:
        """Note what will not come any more."""
        self.n_lost += hole.last - hole.first + 1
        self.holes.append(hole)
        del self.holes[:-MAX_HOLES]
        if self._on_hole is not None:
            self._on_hole(hole)


def fetch(url: str, hole: Hole, run: str, keys: ClientKeys | None = None) -> Fetched:
    """Ask the control socket at `url` for the messages of `hole`, which `run` sent.

    An engine that does not answer, or does not know the session any more, leaves the hole as it
    is and is told in `failure`.
    """
    messages: dict[int, Message] = {}
    failure: Exception | None = None
    try:
        for body in _bodies(url, hole, keys):
            message = wire.decode(hole.kind, body)
            if not isinstance(message, Schema) and message.run == run:
                messages[message.seq] = message
    except (ResourceError, UserError) as error:
        failure = error
    found = [messages[seq] for seq in sorted(messages) if hole.first <= seq <= hole.last]
    return Fetched(found, list(_missing(hole, sorted(messages))), failure)


def checked_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """`kinds`; raises ConfigError if there are no such messages."""
    for kind in kinds:
        if kind not in wire.KINDS:
            hint = nearest(kind, wire.KINDS) or f"; known: {', '.join(wire.KINDS)}"
            raise ConfigError(f"no message is of kind {kind!r}{hint}")
    return tuple(kinds)


def _bodies(url: str, hole: Hole, keys: ClientKeys | None) -> Iterator[bytes]:
    for first in range(hole.first, hole.last + 1, _AT_ONCE):
        last = min(first + _AT_ONCE - 1, hole.last)
        asked: dict[str, Any] = {**hole._asdict(), "first": first, "last": last}
        told = request(url, "fetch", asked, _ANSWER_S, keys=keys)
        bodies = told.get("messages") if isinstance(told, dict) else None
        if not isinstance(bodies, list) or not all(isinstance(b, bytes) for b in bodies):
            raise wire.WireError(f"{url} gave no messages to a fetch; is it an engine's?")
        yield from bodies


def _missing(hole: Hole, seqs: Sequence[int]) -> Iterator[Hole]:
    """The runs of numbers in `hole` that ascending `seqs` leave out."""
    following = hole.first
    for seq in (*(seq for seq in seqs if hole.first <= seq <= hole.last), hole.last + 1):
        if seq > following:
            yield hole._replace(first=following, last=seq - 1)
        following = seq + 1
