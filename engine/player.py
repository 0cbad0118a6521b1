"""Feeds one session from a list of inputs, as fast as they come: replay, evaluation, proof."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from engine.batcher import Batcher
from engine.errors import AccountError
from engine.plan import SessionPlan, Tick
from engine.session import Session
from engine.types import Chunk, Event, Marker, Prediction

__all__ = ["Player", "recut"]


class Player:
    """A session without threads, clocks or sockets; what it makes comes back from each input.

    `shed` names the ticks that a live run gave up. `on_tick` sees each tick before it is run:
    training reads its windows there.
    """

    def __init__(
        self,
        plan: SessionPlan,
        *,
        shed: Collection[int] = (),
        on_tick: Callable[[Tick], None] | None = None,
    ) -> None:
        self._made: list[Prediction | Event | Marker] = []
        self._shed = shed
        self._on_tick = on_tick
        self._batcher = Batcher(self._failed)
        self.session = Session(plan, self._emit)
        self._batcher.join(self.session)

    def push(self, chunk: Chunk) -> list[Prediction | Event | Marker]:
        """One chunk in; the messages that follow from it out."""
        self.session.push(chunk)
        return self._run()

    def advance(self, now_s: float) -> list[Prediction | Event | Marker]:
        """Time passes; the messages that follow from it."""
        self.session.advance(now_s)
        return self._run()

    def command(self, verb: str, **args: Any) -> list[Prediction | Event | Marker]:
        """A command; the messages that follow from it."""
        self.session.command(verb, **args)
        return self._run()

    def play(self, chunks: Iterable[Chunk]) -> Iterator[Prediction | Event | Marker]:
        """All of a connected stream's chunks, then its end; the account is checked at the end."""
        for chunk in chunks:
            yield from self.push(chunk)
        for stream, state in self.session.streams.items():
            if state in ("live", "lost"):
                yield from self.command("end", stream=stream)
        self.check()

    def check(self) -> None:
        """Raise AccountError if a law is broken."""
        self.session.account.check()
        if len(self._batcher) or self._made:
            raise AccountError("messages were made and never handed out")

    def _emit(self, made: Tick | Event | Marker) -> None:
        if not isinstance(made, Tick):
            self._made.append(made)
            return
        if self._on_tick is not None:
            self._on_tick(made)
        if made.number in self._shed:
            self.session.shed(made)
        else:
            self._batcher.add(self.session, made)

    def _failed(self, session: Session, modality: str, why: str) -> None:
        self.session.command("fail", modality=modality, why=why)

    def _run(self) -> list[Prediction | Event | Marker]:
        predictions: list[Prediction] = [p for _, p, _ in self._batcher.run()]
        made: list[Prediction | Event | Marker] = [*self._made, *predictions]
        self._made.clear()
        for message in made:
            self.session.sent(message)
        return made


def recut(chunks: Iterable[Chunk], size: int) -> Iterator[Chunk]:
    """The same items in chunks of at most `size`."""
    for chunk in chunks:
        rest = chunk
        while len(rest) > size:
            head, rest = rest.cut(size)
            yield head
        yield rest
