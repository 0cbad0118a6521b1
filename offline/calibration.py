"""Who calibrates whom: a subject's first rest teaches; the other recordings are told of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from engine.adapt import State, needs_calibration
from engine.bundle import InputSpec
from engine.errors import ConfigError, DataError
from engine.session import Session
from offline.datasets import LabelledRecording

__all__ = ["Calibration", "check_calibration", "in_turn"]

_RESTS = ("rest", "baseline")
_SETTLE_S = 2.0  # of a recording's start: filters still swing
_TOLERANCE_S = 1e-6


class Calibration:
    """One subject's: asked of the first recording that is played, handed to each one after it.

    What is judged or trained on must not overlap with it, so in the first recording windows count
    from twice its length on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[str, State] | None = None

    def begin(self, session: Session, stream: str, first_s: float) -> None:
        """Tell a session of a recording that starts at `first_s`, once `stream` is connected."""
        predictor = session.predictor_of(stream)
        if not needs_calibration(predictor.bundle.inputs[predictor.input_of(stream)].adapt):
            return
        if self._known is None:
            start_s = first_s + _SETTLE_S
            session.command("calibrate", stream=stream, seconds=self._seconds, t=start_s)
        else:
            session.command("adapt", stream=stream, state=self._known[stream])

    def counts(self, begin_s: float, first_s: float) -> bool:
        """Whether a window that begins at `begin_s` may be judged or trained on."""
        return self._known is not None or begin_s >= first_s + 2 * self._seconds - _TOLERANCE_S

    def end(self, session: Session, recording: LabelledRecording) -> None:
        """Take from the first recording's session what it learnt; DataError if that is nothing."""
        if self._known is not None:
            return
        self._known = {}
        for stream in session.predicting:
            predictor = session.predictor_of(stream)
            if not needs_calibration(predictor.bundle.inputs[predictor.input_of(stream)].adapt):
                continue
            state = session.adaptation(stream)
            if state is None:
                raise DataError(
                    f"{recording.uid}: a calibration of {self._seconds:g} s from "
                    f"{_SETTLE_S:g} s on found too few whole windows; it is too short or too bad"
                )
            self._known[stream] = state


def in_turn(
    recordings: Iterable[LabelledRecording], seconds: float | None
) -> Iterator[tuple[LabelledRecording, Calibration | None]]:
    """Each recording with its subject's calibration; where `seconds` is None, as they come.

    Subject by subject, the first recording that is labelled rest or baseline (else the first)
    before the others.
    """
    if seconds is None:
        yield from ((recording, None) for recording in recordings)
        return
    subjects: dict[str, list[LabelledRecording]] = {}
    for recording in recordings:
        subjects.setdefault(recording.subject, []).append(recording)
    for own in subjects.values():
        first = next((r for r in own if r.label in _RESTS), own[0])
        calibration = Calibration(seconds)
        yield first, calibration
        yield from ((recording, calibration) for recording in own if recording is not first)


def check_calibration(inputs: Mapping[str, InputSpec], seconds: float | None) -> None:
    """Raise ConfigError where inputs wait for a calibration that is not asked for, or the reverse.

    `seconds` must hold a window.
    """
    waiting = {n: spec for n, spec in inputs.items() if needs_calibration(spec.adapt)}
    if waiting and seconds is None:
        raise ConfigError(
            f"the input {', '.join(waiting)} is calibrated to each person; say on how many "
            "seconds of rest (--calibrate 30)"
        )
    if seconds is None:
        return
    if not waiting:
        raise ConfigError("calibrate: no input of the bundle takes a calibration; leave it out")
    window_s = max(spec.window_s for spec in waiting.values())
    if seconds < window_s:
        raise ConfigError(f"calibrate: {seconds:g} s hold no window of {window_s:g} s; give more")
