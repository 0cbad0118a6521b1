"""The voice gate against its rule frame by frame, on silence, noise, gaps and real speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.errors import ConfigError
from engine.steps.melspectrum import LogMel
from engine.steps.voicegate import VoiceGate
from engine.types import Array, StreamInfo

VOICE = StreamInfo("Mic", "voice", 16000.0, ("mono",), "fs", (1,))
FRAMES = LogMel(VOICE).info
SPEECH = Path(__file__).parents[2] / "shared" / "data" / "speech"
real = pytest.mark.skipif(not SPEECH.is_dir(), reason="the shared data is not there")


def frames(*turns: tuple[float, float], spread_db: float = 1.0, seed: int = 0) -> Array:
    """Log-mel frames (time, 64) of (seconds, level in dB) one after the other."""
    rng = np.random.default_rng(seed)
    level_db = np.concatenate([np.full(round(100 * s), db) for s, db in turns])
    x = (level_db[:, None] + rng.normal(0, spread_db, (len(level_db), 64))) * np.log(10) / 10
    return np.asarray(x, np.float32)


def gate(x: Array, valid: Array | None = None, size: int | None = None, **args: Any) -> Array:
    """The marks (time,) of a fresh gate over `x` in chunks of `size`."""
    step = VoiceGate(FRAMES, **args)
    valid = np.ones(len(x), bool) if valid is None else valid
    size = size or len(x)
    parts = [step(x[a : a + size], valid[a : a + size]) for a in range(0, len(x), size)]
    assert np.array_equal(np.concatenate([part[0] for part in parts]), x)
    marks: Array = np.concatenate([part[1] for part in parts])
    return marks


def log_mel(path: Path) -> tuple[Array, Array]:
    x, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate_hz == 16000
    data, valid, _ = LogMel(VOICE)(x, np.ones(len(x), bool))
    return data, valid


def by_the_rule(x: Array, valid: Array) -> Array:
    """The documented rule at its defaults, one frame after the other."""
    marks = np.zeros(len(x), bool)
    levels: list[float] = []
    peak_db, open_until = -np.inf, -1
    for at, row in enumerate(x.astype(np.float64)):
        level_db = 10 * np.log10(np.mean(np.exp(row)))
        levels.append(level_db if valid[at] else np.inf)
        floor_db = min(-30.0, *levels[-300:], np.inf)
        peak_db = max(peak_db - 0.06, level_db if valid[at] else -np.inf)
        if valid[at] and level_db >= max(-60.0, floor_db + 12.0, peak_db - 40.0):
            open_until = at + 20
        marks[at] = valid[at] and at <= open_until
    return marks


@pytest.mark.parametrize("seed", range(4))
def test_the_marks_are_those_of_the_rule_frame_by_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turns = [(float(rng.uniform(0.05, 1)), float(rng.uniform(-75, 0))) for _ in range(30)]
    x = frames(*turns, spread_db=3, seed=seed)
    valid = np.repeat(rng.random(len(x) // 10 + 1) > 0.05, 10)[: len(x)]
    expected = by_the_rule(x, valid)
    assert 0.2 < expected.mean() < 0.95
    for size in (1, 37, len(x)):
        assert np.array_equal(gate(x, valid, size), expected)


def test_a_silent_stream_has_no_voice_in_it() -> None:
    step = LogMel(VOICE)
    for scale in (0.0, 1e-5, 3e-4):
        x = np.random.default_rng(0).standard_normal((48000, 1)).astype(np.float32) * scale
        step.reset()
        data, valid, _ = step(x.astype(np.float32), np.ones(len(x), bool))
        assert not gate(data, valid).any()


def test_steady_noise_is_no_voice_from_its_first_frame_on() -> None:
    assert not gate(frames((5, -40), spread_db=3)).any()
    assert not gate(frames((5, -25), spread_db=3)).any()


def test_speech_passes_from_the_first_frame_of_a_stream() -> None:
    assert gate(frames((2, -10))).all()
    assert gate(frames((0.01, -10))).all()


def test_speech_over_noise_passes_and_the_gate_closes_a_hangover_later() -> None:
    marks = gate(frames((1, -45), (1, -15), (2, -45)), hangover_s=0.2)
    assert not marks[:100].any()
    assert marks[100:220].all()
    assert not marks[220:].any()


def test_noise_that_begins_later_is_voice_until_the_floor_has_risen() -> None:
    marks = gate(frames((2, -75), (6, -35), (1, -15)), floor_s=3.0, hangover_s=0.2)
    assert marks[200:500].all()
    assert not marks[520:800].any()
    assert marks[800:].all()


def test_what_is_far_below_the_running_peak_is_no_voice_until_the_peak_has_fallen() -> None:
    x = frames((1, -75), (0.5, -5), (4, -57), (0.5, -75))
    marks = gate(x, range_db=40.0, decay_db_s=6.0, floor_s=30.0)
    assert not marks[180:300].any()
    fallen = 150 + round(100 * (57 - 5 - 40) / 6)
    assert marks[fallen + 10 : 550].all()
    assert not gate(x, decay_db_s=0.0, floor_s=30.0)[180:].any()


def test_invalid_frames_stay_invalid_and_move_neither_floor_nor_peak() -> None:
    x = frames((1, -40), (0.5, -95), (0.5, 5), (1.5, -40), (0.5, -20))
    valid = np.ones(len(x), bool)
    valid[100:200] = False
    marks = gate(x, valid)
    assert not marks[:350].any()  # the zeros of the gap are no floor below the noise
    assert marks[350:].all()  # and the crack in it no peak above the voice
    assert gate(x)[:350].any()


def test_a_reset_forgets_floor_peak_and_hangover() -> None:
    step = VoiceGate(FRAMES)
    loud, soft = frames((1, 0)), frames((1, -45), (1, -25))
    ones = np.ones(100, bool)
    step(loud, ones)
    step.reset()
    marks = step(soft, np.ones(200, bool))[1]
    assert np.array_equal(marks, gate(soft))


def test_the_notes_hold_the_level_of_each_frame() -> None:
    x = frames((0.1, -50), (0.1, -3), spread_db=0)
    _, _, notes = VoiceGate(FRAMES)(x, np.ones(20, bool))
    np.testing.assert_allclose(notes["level_db"], [-50] * 10 + [-3] * 10, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "args", "said"),
    [
        ({"unit": "fs"}, {}, r"needs frames of log_mel, in 'ln fs\^2'; .*put log_mel before it"),
        ({"rate_hz": None}, {}, "needs frames of log_mel"),
        ({}, {"onset_db": 0.0}, "onset_db must be above 0"),
        ({}, {"range_db": float("nan")}, "range_db must be above 0, not nan"),
        ({}, {"hangover_s": -1.0}, "hangover_s must be 0 or more"),
        ({}, {"floor_s": 0.0}, "floor_s must be 0.01 to 60"),
        ({}, {"floor_s": 100.0}, "floor_s must be 0.01 to 60"),
        ({}, {"absolute_db": -10.0}, "absolute_db -10 lies above .* -30 [+] 12 dB; lower it"),
        ({}, {"absolute_db": float("nan")}, "absolute_db nan"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, Any], args: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        VoiceGate(replace(FRAMES, **change), **args)


@real
@pytest.mark.parametrize(
    ("dataset", "agreement", "missed"),
    [("ravdess", 0.85, 0.02), ("emodb", 0.80, 0.02), ("nemo", 0.93, 0.03)],
)
def test_real_speech_passes_as_it_does_a_gate_that_sees_the_whole_clip(
    dataset: str, agreement: float, missed: float
) -> None:
    paths = sorted((SPEECH / dataset).glob("*.flac"))
    found, expected = [], []
    for path in paths[:: len(paths) // 30]:
        data, valid = log_mel(path)
        found.append(gate(data, valid))
        level_db = 10 * np.log10(np.mean(np.exp(data.astype(np.float64)), axis=1))
        expected.append(level_db >= level_db.max() - 40)  # not causal: the clip's maximum
    marks, whole = np.concatenate(found), np.concatenate(expected)
    assert np.mean(marks == whole) > agreement
    assert np.mean(~marks[whole]) < missed


@real
def test_noise_at_20_db_does_not_open_the_gate_between_words() -> None:
    x, _ = soundfile.read(SPEECH / "ravdess" / "03-01-05-02-01-01-11.flac", dtype="float32")
    power = np.mean(x**2) / 100
    x = x + np.random.default_rng(0).standard_normal(len(x)) * np.sqrt(power)
    data, valid, _ = LogMel(VOICE)(x[:, None].astype(np.float32), np.ones(len(x), bool))
    marks = gate(data, valid)
    assert not marks[:50].any()
    assert 0.2 < marks.mean() < 0.8
