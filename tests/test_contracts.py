"""What every installed step and feature must keep, tried on each that an entry point names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import plugins
from engine.features import Feature, build_features
from engine.steps import build_steps
from engine.types import Array, Step, StreamInfo

# Enough channels that numpy's order of addition over them depends on the memory layout.
CHANNELS = (
    "FP1", "FP2", "F7", "F3", "FZ", "F4", "F8", "T3", "C3", "CZ",
    "C4", "T4", "T5", "P3", "PZ", "P4", "T6", "O1", "O2",
)  # fmt: skip
EEG = StreamInfo("Cap", "eeg", 256.0, CHANNELS, "uV", (len(CHANNELS),))
VOICE = StreamInfo("Mic", "voice", 256.0, ("mono",), "fs", (1,))
FRAMES = replace(EEG, name="Mic", kind="voice", unit="ln fs^2")  # 19 bands for 19 channels
PULSE = StreamInfo("Watch", "physio", 64.0, ("BVP",), "au", (1,))
FACE = StreamInfo("Camera", "face", 15.0, ("r", "g", "b"), "level", (2, 2, 3))
STREAMS: Mapping[str, StreamInfo] = {  # others: EEG
    "log_mel": VOICE,
    "voice_gate": FRAMES,
    "pulse_rate": PULSE,
    "heart_rate_variability": PULSE,
    "skin_conductance": replace(PULSE, channels=("EDA",), unit="uS"),
    "temperature": replace(PULSE, channels=("TEMP",), unit="degC"),
    "motion": replace(PULSE, channels=("x", "y", "z"), unit="g", shape=(3,)),
    "picture": FACE,
    "face_crop": FACE,
}

# One row per installed plug-in: arguments to try it with. A plug-in without a row fails.
STEPS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "bandpass": [{"low_hz": 1, "high_hz": 40}, {"low_hz": 8, "high_hz": 12, "order": 2}],
    "notch": [{"freq_hz": 50}],
    "resample": [{"rate_hz": r} for r in (64.0, 100.0, 250.0, 256.0, 300.0, 512.0)],
    "reference": [{"method": "average"}, {"channels": list(CHANNELS[2:13])}],
    "scale": [{"factor": 0.3}, {"unit": "V"}, {"unit": "uV"}],
    "clip": [{"low": -1.0, "high": 0.5}],
    "select": [{"channels": ["O2", "FP1", "T7"]}, {"channels": ["F7", "F3"]}],
    "downmix": [{}],
    "log_mel": [
        {"n_mels": 5, "window_s": 0.0625, "hop_s": 0.03125},
        {"n_mels": 24, "window_s": 0.5, "hop_s": 0.0078125, "low_hz": 4, "high_hz": 100},
    ],
    "voice_gate": [{"hangover_s": 0.1, "floor_s": 0.5}, {"hangover_s": 0, "decay_db_s": 500}],
    "face_crop": [{"detector": "none", "size": 8}, {"detector": "none", "margin": 2.0}],
    "differential_entropy": [
        {"window_s": 0.25},
        {"window_s": 0.0390625, "bands": {"slow": [2, 9], "fast": [60, 120]}, "order": 2},
    ],
}
ELSEWHERE = frozenset({"silero_gate"})  # it wants a file: tests/test_silero.py
MARKS_MORE = frozenset({"log_mel", "voice_gate"})  # than its input: a start, silence
WHOLE_WINDOWS = frozenset({"differential_entropy"})  # an output comes with the last of its inputs
FEATURES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "log_band_power": [{}, {"bands": {"slow": [0, 4], "alpha": [8, 13]}, "taper": "boxcar"}],
    "statistics": [{}, {"last_s": 0.5}],
    "pulse_rate": [{}, {"last_s": 4}],
    "heart_rate_variability": [{}, {"measures": ["quality", "rate"]}, {"last_s": 6}],
    "skin_conductance": [{"tonic_s": 4}, {"level": False, "tonic_s": 2, "last_s": 5}],
    "temperature": [{}, {"level": False, "last_s": 4}],
    "motion": [{}, {"still_g": 0.5, "last_s": 4}],
    "picture": [{"size": 2}, {"size": 1}],
    "covariance": [{}, {"shrinkage": 0.5, "bands": {"slow": [0, 8], "fast": [100, 128]}}],
}
N_ITEMS = 512  # of a feature's window

_FACTORIES = {name: plugins.load("vagus.steps", name) for name in plugins.names("vagus.steps")}
_FEATURES = {name: plugins.load("vagus.features", name) for name in plugins.names("vagus.features")}
_step_rows = pytest.mark.parametrize(
    ("name", "args"), [(name, args) for name in _FACTORIES for args in STEPS.get(name, ())]
)
_feature_rows = pytest.mark.parametrize(
    ("name", "args"), [(name, args) for name in _FEATURES for args in FEATURES.get(name, ())]
)


def _step(name: str, args: Mapping[str, Any]) -> Step:
    (step,) = build_steps([{"name": name, **args}], STREAMS.get(name, EEG), _FACTORIES)
    return step


def _feature(name: str, args: Mapping[str, Any]) -> Feature:
    (feature,) = build_features(
        [{"name": name, **args}], STREAMS.get(name, EEG), N_ITEMS, _FEATURES
    )
    return feature


def _window(name: str) -> tuple[Array, Array]:
    """What feature `name` is tried on: the signal in the shape that it takes."""
    x, valid = _signal(N_ITEMS)
    shape = STREAMS.get(name, EEG).shape
    return x[:, : int(np.prod(shape))].reshape(N_ITEMS, *shape), valid


def _input(name: str, n: int, seed: int = 0) -> tuple[Array, Array]:
    """What step `name` is tried on: the signal, as far as it fits the stream that it takes."""
    x, valid = _signal(n, seed)
    if STREAMS.get(name) is VOICE:
        return x[:, :1], valid
    if STREAMS.get(name) is FACE:
        return x[:, :12].reshape(n, *FACE.shape), valid
    if STREAMS.get(name) is FRAMES:  # loud and soft in turn
        turns = np.random.default_rng(seed).integers(-16, 0, n // 20 + 1)
        return x % 1 + np.repeat(turns, 20)[:n, None].astype(np.float32), valid
    return x, valid


def _signal(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Noise on offsets as electrodes have them, (n, 19), and a validity with some gaps in it."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 19)) + rng.uniform(-300, 300, 19)
    valid = np.repeat(rng.random(n // 10 + 1) > 0.1, 10)[:n]
    return x.astype(np.float32), valid


def _run(step: Step, x: Array, valid: Array, edges: Sequence[int]) -> tuple[Array, Array]:
    """All that `step` gives for `x` cut at `edges`, from a fresh start."""
    step.reset()
    bounds = [0, *edges, len(x)]
    parts = [step(x[a:b], valid[a:b])[:2] for a, b in pairwise(bounds)]
    data, marks = (np.concatenate(list(column)) for column in zip(*parts, strict=True))
    return data, marks


def test_every_installed_step_and_feature_has_a_row_to_be_tried_with() -> None:
    assert set(_FACTORIES) - ELSEWHERE == set(STEPS)
    assert set(_FEATURES) == set(FEATURES)


@_step_rows
@pytest.mark.parametrize("size", [1, 7, 160, 4096])
def test_a_step_gives_the_same_bits_in_chunks_of_any_size(
    name: str, args: Mapping[str, Any], size: int
) -> None:
    step, (x, valid) = _step(name, args), _input(name, 4500)
    data, marks = _run(step, x, valid, [])
    cut_data, cut_marks = _run(step, x, valid, range(size, len(x), size))
    assert cut_data.tobytes() == data.tobytes()
    assert cut_marks.tobytes() == marks.tobytes()


@_step_rows
@settings(max_examples=20, deadline=None, derandomize=True)
@given(edges=st.lists(st.integers(0, 2300), max_size=12).map(sorted), seed=st.integers(0, 9))
def test_a_step_gives_the_same_bits_wherever_the_stream_is_cut(
    name: str, args: Mapping[str, Any], edges: list[int], seed: int
) -> None:
    step, (x, valid) = _step(name, args), _input(name, 2300, seed)
    data, marks = _run(step, x, valid, [])
    cut_data, cut_marks = _run(step, np.asfortranarray(x), valid, edges)  # equal edges: 0 items
    assert cut_data.tobytes() == data.tobytes()
    assert cut_marks.tobytes() == marks.tobytes()


@_step_rows
def test_a_step_gives_what_its_info_says_as_float32(name: str, args: Mapping[str, Any]) -> None:
    step, (x, valid) = _step(name, args), _input(name, 1000)
    for n in (0, 1, 0, 999):
        data, marks, notes = step(x[:n], valid[:n])
        assert data.dtype == np.float32
        assert marks.dtype == np.bool_
        assert data.shape == (len(marks), *step.info.shape)
        assert isinstance(notes, Mapping)
    assert step.info.shape[-1] == len(step.info.channels)


@_step_rows
def test_a_step_gives_as_many_items_as_its_ratio_says(name: str, args: Mapping[str, Any]) -> None:
    step, (x, valid) = _step(name, args), _input(name, 700)
    assert step.info.rate_hz == pytest.approx(
        (STREAMS.get(name, EEG).rate_hz or 0.0) * float(step.ratio), rel=1e-9
    )
    assert step.delay_s >= 0
    n_out = 0
    for n in range(1, 700):
        n_out += len(step(x[n - 1 : n], valid[n - 1 : n])[0])
        whole = n * step.ratio // 1 if name in WHOLE_WINDOWS else (n - 1) * step.ratio // 1 + 1
        assert n_out == whole


@_step_rows
def test_a_step_forgets_everything_at_a_reset(name: str, args: Mapping[str, Any]) -> None:
    step, (x, valid), (other, _) = _step(name, args), _input(name, 600), _input(name, 600, seed=1)
    step(other * 1000, valid)
    data, marks = _run(step, x, valid, [])
    fresh_data, fresh_marks = _run(_step(name, args), x, valid, [])
    assert data.tobytes() == fresh_data.tobytes()
    assert marks.tobytes() == fresh_marks.tobytes()


@_step_rows
def test_a_step_leaves_its_input_alone(name: str, args: Mapping[str, Any]) -> None:
    step, (x, valid) = _step(name, args), _input(name, 300)
    x.flags.writeable = valid.flags.writeable = False
    data = [step(x[a : a + 100], valid[a : a + 100])[0] for a in (0, 100, 200)]
    kept = [part.copy() for part in data]
    step(x, valid)  # what was given out before does not change either
    assert all(np.array_equal(a, b) for a, b in zip(data, kept, strict=True))


@_step_rows
def test_a_step_marks_nothing_invalid_in_a_valid_stream(name: str, args: Mapping[str, Any]) -> None:
    step, (x, _) = _step(name, args), _input(name, 500)
    marks = step(x, np.ones(500, bool))[1]
    assert marks.any() if name in MARKS_MORE else marks.all()
    step.reset()
    assert not step(x, np.zeros(500, bool))[1][1:].any()


@_feature_rows
def test_a_feature_gives_one_finite_float32_per_name(name: str, args: Mapping[str, Any]) -> None:
    feature, (x, valid) = _feature(name, args), _window(name)
    assert len(set(feature.names)) == len(feature.names)
    for window, mask in ((x, valid), (x * 0, valid), (x, valid & False), (x, valid | True)):
        vector = feature(window, mask)
        assert vector.dtype == np.float32
        assert vector.shape == (len(feature.names),)
        assert np.isfinite(vector).all()


@_feature_rows
def test_a_feature_gives_the_same_bits_again_and_in_any_memory_layout(
    name: str, args: Mapping[str, Any]
) -> None:
    feature, (x, valid) = _feature(name, args), _window(name)
    wide = np.repeat(np.repeat(x, 2, axis=0), 2, axis=-1)[::2, ..., ::2]
    marks = np.zeros(3 * N_ITEMS, bool)
    marks[::3] = valid
    backward = np.ascontiguousarray(x[::-1, ..., ::-1])[::-1, ..., ::-1]
    for mask in (valid, np.ones(N_ITEMS, bool)):
        marks[::3] = mask
        bits = feature(x, mask).tobytes()
        feature(x + 1, ~mask)
        for window in (x, np.asfortranarray(x), wide, backward):
            assert feature(window, mask).tobytes() == bits
            assert feature(window, marks[::3]).tobytes() == bits
            assert _feature(name, args)(window, mask).tobytes() == bits


@_feature_rows
def test_a_feature_does_not_see_invalid_items(name: str, args: Mapping[str, Any]) -> None:
    feature, (x, valid) = _feature(name, args), _window(name)
    for hidden in (np.nan, np.inf, 1e30):
        other = x.copy()
        other[~valid] = hidden
        assert feature(other, valid).tobytes() == feature(x, valid).tobytes()


@_feature_rows
def test_a_feature_leaves_its_window_alone(name: str, args: Mapping[str, Any]) -> None:
    feature, (x, valid) = _feature(name, args), _window(name)
    x.flags.writeable = valid.flags.writeable = False
    before = feature(x, valid).copy()
    given_out = feature(x, valid)
    feature(x * 2, valid)
    assert np.array_equal(given_out, before)


def test_a_chain_of_every_step_gives_the_same_bits_for_any_cut() -> None:
    specs: list[dict[str, Any]] = [
        {"name": "select", "channels": ["T7", "T8", "O1", "O2"]},
        {"name": "scale", "unit": "uV"},
        {"name": "resample", "rate_hz": 200.0},
        {"name": "bandpass", "low_hz": 1, "high_hz": 40},
        {"name": "notch", "freq_hz": 50},
        {"name": "reference", "method": "average"},
        {"name": "clip", "low": -100, "high": 100},
    ]
    steps = build_steps(specs, replace(EEG, unit="mV"), _FACTORIES)
    assert len(steps) == len(specs) - 1  # bandpass and notch are one
    x, valid = _signal(5000)
    results = []
    for size in (5000, 51, 1):
        for step in steps:
            step.reset()
        parts = []
        for at in range(0, len(x), size):
            data, marks = x[at : at + size], valid[at : at + size]
            for step in steps:
                data, marks, _ = step(data, marks)
            parts.append((data.tobytes(), marks.tobytes()))
        results.append(tuple(b"".join(column) for column in zip(*parts, strict=True)))
    assert results[0] == results[1] == results[2]
