"""What a session shows to the commands that act on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from engine.account import Account
from engine.adapt import Tell
from engine.lane import Grid
from engine.predictor import Predictor
from engine.slot import Slot

__all__ = ["Ordered", "teller"]


class Ordered(Protocol):
    """A session, as far as its commands go."""

    account: Account
    grid: Grid
    slots: dict[str, Slot]
    predictors: list[Predictor]
    tick: int
    now_s: float
    paused: bool

    def latest_s(self) -> float:
        """The latest instant that the session knows of."""

    def event(
        self, code: str, stream: str | None, detail: dict[str, Any], t: float | None = None
    ) -> None:
        """Tell that something changed."""

    def marker(self, value: str, stream: str, t: float | None = None) -> None:
        """Tell of a marker."""

    def fire(self) -> None:
        """Fire every tick that all lanes have reached."""

    def end_if_over(self) -> None:
        """Fire the last ticks once no stream will give more."""

    def predictor_of(self, stream: str) -> Predictor:
        """The predictor that a stream feeds."""

    def go_on(self, tick: int, numbers: Mapping[str, int], now_s: float) -> None:
        """Be in the middle of a session whose past is not known."""


def teller(session: Ordered, stream: str) -> Tell:
    """Who hears how a stream's calibrations end, and tells it."""
    return lambda t, detail: session.event("stream.quality", stream, detail, t)
