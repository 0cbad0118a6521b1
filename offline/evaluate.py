"""Judges bundles by what they would have said live: recordings through the serving session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

from engine.bundle import Bundle
from engine.config import Config
from engine.errors import ConfigError, DataError
from engine.plan import SessionPlan, StreamPlan
from engine.player import Player
from engine.prepare import plan
from engine.types import Array, Event, Prediction, Runtime
from offline import figures, metrics
from offline.baselines import baselines
from offline.calibration import Calibration, check_calibration, in_turn
from offline.datasets import LabelledRecording
from offline.readers import open_labelled
from offline.verdicts import Row, scores, units_of
from sources.feed import match_bundles, play_recording, recording_plan, session_name
from sources.recording import Recording

__all__ = ["Look", "Row", "configured", "predict", "summarise", "unit_of"]

LONG = ("eegmat", "recording", "simulate", "stress-predict")  # their recordings are no clips
Look: TypeAlias = Callable[[Mapping[str, Array], Mapping[str, Array]], None]
Plans: TypeAlias = Callable[[Recording], SessionPlan]


def predict(
    judged: Bundle | Plans,
    recordings: Sequence[LabelledRecording],
    calibrate_s: float | None = None,
    look: Look | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Every prediction that the engine makes from `recordings`, with the truth beside it.

    `judged` is a bundle, or the plans of a config (`configured`). A bundle that is calibrated
    learns each subject's level from `calibrate_s` of the first rest, which is not judged; see
    `offline.calibration`. `look` is shown what the bundle's graph read for each row, {input: (1,
    ...)} and {input: (1, time)}, in the order of the rows. `watch` hears how many recordings are
    done.
    """
    seen: _Seen | None = None
    if isinstance(judged, Bundle):
        if look is not None:
            seen = _Seen(judged.runtime)
            judged = replace(judged, runtime=seen)
        check_calibration(judged.inputs, calibrate_s)
        plans = _alone(judged)
    else:
        plans = judged
    rows: list[Row] = []
    for done, (recording, calibration) in enumerate(in_turn(recordings, calibrate_s)):
        for row, counts in _rows(plans, recording, calibration):
            window = seen.taken.popleft() if seen is not None else None
            if counts:
                rows.append(row)
                if look is not None and window is not None:
                    look(*window)
        watch(done + 1, len(recordings))
    return rows


def configured(config: Config, load: Callable[[str, str], Bundle] = Bundle.load) -> Plans:
    """The plans of a session's config, for recordings: its streams by name, else by kind."""
    once = cache(load)

    def planned(opened: Recording) -> SessionPlan:
        made = plan(config, "evaluate", opened.first_s, None, once)
        there = {stream.info.name for stream in opened.streams}
        streams: dict[str, StreamPlan] = {}
        for name, part in made.streams.items():
            if part.bundle is not None:
                found = match_bundles(opened, {name if name in there else "": part.bundle})
                streams |= dict.fromkeys(found, part)
        if not streams:
            raise ConfigError("no stream of the config has a bundle; nothing would be predicted")
        return replace(made, session=session_name(opened.path), streams=streams)

    return planned


def unit_of(recordings: Sequence[LabelledRecording]) -> str:
    """What a headline counts: recordings, where these are clips of one label each."""
    clips = all(r.label for r in recordings) and not {r.dataset for r in recordings} & set(LONG)
    return "recording" if clips else "window"


def summarise(
    rows: Sequence[Row],
    labels: Sequence[str],
    *,
    dataset: str,
    protocol: str,
    unit: str,
    linear: Array | None = None,
) -> dict[str, Any]:
    """The figures of `vagus evaluate --json`, but for those that name the bundle.

    `unit` is "window" or "recording"; a recording's label is that of its largest mean
    probability, weighted by `filled`. The interval draws subjects (2000 bootstrap samples).
    `linear` (rows, labels) are the verdicts of a linear baseline.
    """
    if not rows:
        raise DataError("nothing to judge: no recording gave a prediction")
    whole, windows = (units_of(rows, labels, one) for one in ("recording", "window"))
    head = whole if unit == "recording" else windows
    return {
        "dataset": dataset,
        "protocol": protocol,
        "unit": unit,
        "n": len(head.truth),
        "subjects": sorted(set(head.subjects)),
        "labels": list(labels),
        **scores(head),
        "majority": metrics.majority(head.counts),
        "baselines": baselines(head, rows, labels, unit, linear),
        "confusion": head.counts.tolist(),
        "per_class": figures.per_class(head.counts, labels),
        "per_group": figures.per_group(head),
        "per_recording": figures.brief(whole),
        "per_window": figures.brief(windows),
        "reliability": figures.reliability(head),
        "seconds_to_correct": figures.to_correct(rows, labels),
        "ccc": figures.concordance(rows, unit),
        "subsets": figures.subsets(rows, labels, unit),
    }


class _Seen:
    """A runtime that remembers what it read, row by row."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.taken: deque[tuple[dict[str, Array], dict[str, Array]]] = deque()

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        made = self._runtime.run(inputs, valid)
        for i in range(len(made)):
            self.taken.append(
                (
                    {name: x[i : i + 1] for name, x in inputs.items()},
                    {name: mask[i : i + 1] for name, mask in valid.items()},
                )
            )
        return made


def _alone(bundle: Bundle) -> Plans:
    return lambda opened: recording_plan(opened, match_bundles(opened, {"": bundle}))


def _rows(
    plans: Plans, recording: LabelledRecording, calibration: Calibration | None
) -> Iterator[tuple[Row, bool]]:
    """Each prediction as a row, and whether it counts: it may overlap with the calibration."""
    opened = open_labelled(recording)
    planned = plans(opened)
    player = Player(planned)
    bundles = [part.bundle for part in planned.streams.values() if part.bundle is not None]
    window_s = max(spec.window_s for bundle in bundles for spec in bundle.inputs.values())
    for message in play_recording(opened, player):
        if calibration is not None and isinstance(message, Event):
            if message.code == "source.connected" and message.stream is not None:
                calibration.begin(player.session, message.stream, opened.first_s)
            continue
        if not isinstance(message, Prediction) or message.probabilities is None:
            continue
        begin_s = message.t - window_s
        counts = calibration is None or calibration.counts(begin_s, opened.first_s)
        truth = recording.label or message.truth
        if truth is None and counts:
            raise DataError(f"{recording.uid}: no label at {message.t:g} s")
        yield _row(message, recording, truth or "", opened.first_s), counts
    if calibration is not None:
        calibration.end(player.session, recording)


def _row(said: Prediction, recording: LabelledRecording, truth: str, start_s: float) -> Row:
    assert said.probabilities is not None
    used = {name: spot for name, spot in said.modalities.items() if spot["used"]}
    spot = next(iter(used.values()))
    return Row(
        recording.uid,
        recording.subject,
        said.t,
        spot["first"],
        spot["last"],
        min(spot["filled"] for spot in used.values()),
        truth,
        said.probabilities,
        recording.groups,
        start_s,
        {} if len(said.modalities) == 1 else {n: s["probabilities"] for n, s in used.items()},
        said.dimensions,
        recording.dimensions,
    )
