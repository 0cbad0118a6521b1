"""The commands that lead to the middle of a session, for a recording that begins there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.predictor import Predictor
from engine.session import Session

__all__ = ["past"]


def past(
    session: Session, swapped: Callable[[Predictor], dict[str, str] | None]
) -> list[tuple[str, dict[str, Any]]]:
    """Commands after which a new session stands where this one does, as far as commands reach:
    bundles, streams, what is muted, what was learnt of the person, and the numbers that follow.

    `swapped` names the bundle of a modality that took over from the config's own. What filters,
    clock fits and running averages have seen is in none of them.
    """
    words: list[tuple[str, dict[str, Any]]] = []
    for predictor in session.predictors:
        if (told := swapped(predictor)) is not None:
            words.append(("swap", {"stream": predictor.streams[0], "bundle": told}))
    if session.paused:
        words.append(("pause", {}))
    for name, slot in session.slots.items():
        if slot.lane is not None:
            words.append(("connect", {"stream": name, "info": slot.lane.info}))
        if slot.state == "lost":
            words.append(("lost", {"stream": name, "why": "before the recording began"}))
        elif slot.state == "ended":
            words.append(("end", {"stream": name}))
    for predictor in session.predictors:
        words.extend(_of_person(predictor))
    numbers = {"tick": session.tick, "numbers": session.numbers, "now_s": session.now_s}
    return [*words, ("begin", numbers)]


def _of_person(predictor: Predictor) -> Iterator[tuple[str, dict[str, Any]]]:
    for stream in predictor.streams:
        if (state := predictor.learnt(stream)) is not None:
            yield "adapt", {"stream": stream, "state": state}
    if predictor.muted:
        yield "mute", {"stream": predictor.streams[0]}
