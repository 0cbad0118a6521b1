"""A subject's first rest calibrates its other recordings, in evaluation and in training alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.bundle import Bundle, InputSpec
from engine.errors import ConfigError, DataError
from engine.types import Array
from offline.calibration import in_turn
from offline.datasets import LabelledRecording
from offline.datasets.eegmat import CHANNELS, recordings
from offline.evaluate import predict
from offline.windows import WindowSet, cut

SPEC = InputSpec(
    kind="eeg", rate_hz=128.0, channels=CHANNELS, unit="uV", window_s=2.0, min_filled_s=2.0,
    features=({"name": "statistics"},), adapt={"method": "rest"},
)  # fmt: skip
HOP_S, CALIBRATE_S = 0.5, 6.0


class Runtime:
    """p(rest) from the sum of the features."""

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        p = 1 / (1 + np.exp(-inputs["eeg"].sum(1, dtype=np.float64) / 50))
        return np.stack([p, 1 - p], 1).astype(np.float32)


@pytest.fixture
def found(tmp_path: Path) -> list[LabelledRecording]:
    """Two subjects of different loudness: 20 s of rest and 10 s of a task each."""
    rng = np.random.default_rng(0)
    for subject in (1, 2):
        for part, seconds in ((1, 20), (2, 10)):
            x = rng.normal(subject * 5, subject * 10, (seconds * 128, 19)).astype(np.float32)
            np.savez(
                tmp_path / f"Subject0{subject}_{part}.npz",
                x=x, rate_hz=128.0, channels=np.array(CHANNELS), kind="eeg", unit="uV",
            )  # fmt: skip
    return recordings(tmp_path)


def bundle(spec: InputSpec = SPEC) -> Bundle:
    return Bundle(Path("b"), "b", "b", ("rest", "task"), "load", {"eeg": spec}, HOP_S, Runtime())


def plain(found: list[LabelledRecording]) -> WindowSet:
    """All windows without adaptation."""
    return cut(found, {"eeg": msgspec.structs.replace(SPEC, adapt=None)}, HOP_S)


def test_windows_are_told_from_the_mean_of_the_same_subjects_rest(
    found: list[LabelledRecording],
) -> None:
    bare, adapted = plain(found), cut(found, {"eeg": SPEC}, HOP_S, calibrate_s=CALIBRATE_S)
    for subject in ("eegmat-01", "eegmat-02"):
        own = bare[bare.subject == subject]
        at = (own.label == "rest") & (own.t >= 4.0) & (own.t <= 8.0)  # begin at 2 s, end by 8 s
        mean = own.inputs["eeg"][at].astype(np.float64).mean(0)
        rows = adapted[adapted.subject == subject]
        for label, since_s in (("rest", 14.0), ("task", 2.0)):
            part = own[(own.label == label) & (own.t >= since_s)]
            ours = rows[rows.label == label]
            assert ours.t.tolist() == part.t.tolist()
            assert np.allclose(ours.inputs["eeg"], part.inputs["eeg"] - mean, atol=1e-4)


def test_evaluation_judges_exactly_the_windows_that_training_reads(
    found: list[LabelledRecording],
) -> None:
    windows = cut(found, {"eeg": SPEC}, HOP_S, calibrate_s=CALIBRATE_S)
    rows = predict(bundle(), found, CALIBRATE_S)
    assert [(r.recording, r.t) for r in rows] == list(
        zip(windows.recording.tolist(), windows.t.tolist(), strict=True)
    )
    p = Runtime().run(windows.inputs, windows.valid)
    assert np.array_equal(p, np.array([list(r.probabilities.values()) for r in rows], np.float32))


def test_the_rest_goes_first_whatever_the_order(found: list[LabelledRecording]) -> None:
    turned = [r.uid for r, _ in in_turn(found[::-1], CALIBRATE_S)]
    assert turned == ["eegmat-02/1", "eegmat-02/2", "eegmat-01/1", "eegmat-01/2"]
    assert [r.uid for r, _ in in_turn(found[::-1], None)] == [r.uid for r in found[::-1]]
    tasks = [r for r in found if r.label == "task"]
    assert [r.uid for r, _ in in_turn(tasks, CALIBRATE_S)] == [r.uid for r in tasks]


@pytest.mark.parametrize(
    ("spec", "seconds", "said"),
    [
        (SPEC, None, "the input eeg is calibrated to each person"),
        (SPEC, 1.0, "1 s hold no window of 2 s"),
        (msgspec.structs.replace(SPEC, adapt=None), 30.0, "no input of the bundle takes"),
    ],
)
def test_a_calibration_that_does_not_fit_the_bundle_is_refused(
    found: list[LabelledRecording], spec: InputSpec, seconds: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        predict(bundle(spec), found, seconds)
    with pytest.raises(ConfigError, match=said):
        cut(found, {"eeg": spec}, HOP_S, calibrate_s=seconds)


def test_a_rest_that_is_too_short_is_named(found: list[LabelledRecording]) -> None:
    with pytest.raises(DataError, match=r"eegmat-01/1: a calibration of 30 s from 2 s on"):
        predict(bundle(), found, 30.0)
