"""Features of heart, skin and movement against signals whose answer is known, and plain oracles."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import median_filter
from scipy.signal import find_peaks

from engine.errors import ConfigError
from engine.features import HeartRateVariability, Motion, SkinConductance, Temperature
from engine.features.beats import BeatFinder, intervals
from engine.types import Array, StreamInfo

PULSE = StreamInfo("Watch", "physio", 64.0, ("BVP",), "au", (1,))
SKIN = StreamInfo("Watch", "physio", 4.0, ("EDA",), "uS", (1,))
WARMTH = StreamInfo("Watch", "physio", 4.0, ("TEMP",), "degC", (1,))
MOVES = StreamInfo("Watch", "physio", 32.0, ("x", "y", "z"), "g", (3,))
DATA = Path(__file__).parents[2] / "shared" / "data" / "physio"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not there")


def beats_at(gaps_s: Array, first_s: float = 0.4) -> Array:
    return first_s + np.concatenate(([0.0], np.cumsum(gaps_s)))


def pulse(beats_s: Array, seconds: float, rate_hz: float = 64.0, noise: float = 0.02) -> Array:
    """A pulse wave (time, 1): a steep systolic wave a beat and a smaller one behind, on a drift."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    x = 0.5 * np.sin(2 * np.pi * 0.2 * t) + np.random.default_rng(0).normal(0, noise, len(t))
    for beat in beats_s:
        x += np.exp(-0.5 * ((t - beat) / 0.06) ** 2)
        x += 0.25 * np.exp(-0.5 * ((t - beat - 0.28) / 0.07) ** 2)
    return 80 * x[:, None].astype(np.float32)


def ecg(beats_s: Array, seconds: float, rate_hz: float = 250.0) -> Array:
    """An ECG (time, 1) of R waves and T waves."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    x = np.zeros(len(t))
    for beat in beats_s:
        x += np.exp(-0.5 * ((t - beat) / 0.012) ** 2) + 0.3 * np.exp(
            -0.5 * ((t - beat - 0.25) / 0.05) ** 2
        )
    return x[:, None].astype(np.float32)


def heart(
    x: Array, valid: Array | None = None, info: StreamInfo = PULSE, **args: Any
) -> dict[str, float]:
    feature = HeartRateVariability(info, len(x), **args)
    found = feature(x, np.ones(len(x), bool) if valid is None else valid)
    return {n.split(".")[1]: float(v) for n, v in zip(feature.names, found, strict=True)}


def rhythm(n: int, seed: int = 0) -> Array:
    """Intervals in seconds: breathing, a slow wave, and chance."""
    at, rng = np.cumsum(np.full(n, 0.8)), np.random.default_rng(seed)
    breath, slow = 0.03 * np.sin(2 * np.pi * 0.25 * at), 0.04 * np.sin(2 * np.pi * 0.1 * at)
    made: Array = 0.8 + breath + slow + rng.normal(0, 0.02, n)
    return made


@pytest.mark.parametrize("wave", ["pulse", "ecg"])
def test_rate_sdnn_rmssd_and_pnn50_are_those_of_the_beats_that_were_drawn(wave: str) -> None:
    gaps_s = rhythm(74)
    beats_s = beats_at(gaps_s)
    info = PULSE if wave == "pulse" else StreamInfo("Belt", "physio", 250.0, ("ECG",), "mV", (1,))
    x = pulse(beats_s, 60) if wave == "pulse" else ecg(beats_s, 60)
    inside = gaps_s[beats_s[1:] < 59.8]
    steps = np.abs(np.diff(inside))
    found = heart(x, info=info, wave=wave)
    assert found["rate"] == pytest.approx(1 / np.median(inside), rel=0.01)
    assert found["sdnn"] == pytest.approx(np.std(inside, ddof=1), rel=0.06)
    assert found["rmssd"] == pytest.approx(np.sqrt(np.mean(steps**2)), rel=0.08)
    assert found["pnn50"] == pytest.approx(np.mean(steps > 0.05), abs=0.06)
    assert found["quality"] > 0.97


def test_lf_and_hf_are_the_powers_of_the_slow_wave_and_of_breathing() -> None:
    at = np.cumsum(np.full(380, 0.8))
    slow, breath = 0.04, 0.02  # a sine of amplitude a has the power a^2 / 2
    gaps_s = 0.8 + slow * np.sin(2 * np.pi * 0.1 * at) + breath * np.sin(2 * np.pi * 0.25 * at)
    found = heart(pulse(beats_at(gaps_s), 300, noise=0.0))
    assert found["lf"] == pytest.approx(slow**2 / 2, rel=0.1)
    assert found["hf"] == pytest.approx(breath**2 / 2, rel=0.25)  # lines between beats dampen it
    assert found["lf-share"] == pytest.approx(found["lf"] / (found["lf"] + found["hf"]))


def test_only_windows_of_a_minute_tell_the_slow_powers() -> None:
    assert "BVP.lf" in HeartRateVariability(PULSE, 64 * 60).names
    assert HeartRateVariability(PULSE, 64 * 59).names == (
        "BVP.rate", "BVP.sdnn", "BVP.rmssd", "BVP.pnn50", "BVP.quality",
    )  # fmt: skip
    asked = HeartRateVariability(PULSE, 64 * 60, measures=["quality", "rate"], last_s=20)
    assert asked.names == ("BVP.quality", "BVP.rate")
    x = pulse(beats_at(rhythm(74)), 60)
    told = heart(x, last_s=20)
    assert asked(x, np.ones(len(x), bool)).tolist() == [told["quality"], told["rate"]]


def test_missed_and_invented_beats_are_left_out_and_lower_the_quality() -> None:
    beats_s = beats_at(rhythm(74))
    clean = heart(pulse(beats_s, 60))
    missed = np.delete(beats_s, [20, 40, 55])
    invented = np.sort(np.append(beats_s, [beats_s[10] + 0.45, beats_s[50] + 0.5]))
    for wrong in (missed, invented):
        found = heart(pulse(wrong, 60))
        assert found["rate"] == pytest.approx(clean["rate"], rel=0.01)
        assert found["sdnn"] == pytest.approx(clean["sdnn"], rel=0.15)
        assert found["rmssd"] == pytest.approx(clean["rmssd"], rel=0.2)
        assert 0.85 < found["quality"] < clean["quality"] - 0.02


def test_a_knock_and_a_gap_cost_the_beats_that_they_hide_and_no_more() -> None:
    beats_s = beats_at(rhythm(74))
    x = pulse(beats_s, 60)
    clean = heart(x)
    knocked = x.copy()
    knocked[1280:1410] += 4000 * np.hanning(130)[:, None]
    valid = np.ones(len(x), bool)
    valid[2000:2320] = False
    for other, mask in (
        (knocked, valid | True),
        (x, valid),
        (np.where(valid[:, None], x, 0), valid),
    ):
        found = heart(other, mask)
        assert found["rate"] == pytest.approx(clean["rate"], rel=0.02)
        assert found["sdnn"] == pytest.approx(clean["sdnn"], rel=0.25)
        assert 0.8 < found["quality"] < clean["quality"] - 0.04


def test_no_interval_reaches_over_an_invalid_item() -> None:
    beats_s = beats_at(np.full(36, 0.8))
    x = pulse(beats_s, 30, noise=0.0)
    valid = np.ones(len(x), bool)
    valid[round(64 * (beats_s[9] + 0.4))] = False  # one item between two beats
    assert heart(x)["quality"] - heart(x, valid)["quality"] == pytest.approx(0.8 / 30, abs=2e-3)


def test_nothing_that_beats_gives_zeros() -> None:
    for x in (np.zeros((1280, 1)), np.full((1280, 1), 7.0), np.ones((1280, 1)).cumsum(0)):
        assert set(heart(x.astype(np.float32)).values()) == {0.0}
    x = pulse(beats_at(rhythm(20)), 20)
    few = np.zeros(len(x), bool)
    few[:200] = True
    assert set(heart(x, few).values()) == {0.0}


def test_intervals_follow_the_rule_one_by_one() -> None:
    rng = np.random.default_rng(3)
    gaps = np.concatenate(
        (rng.normal(0.8, 0.05, 40), [0.2, 2.5, 1.5, 0.45], rng.normal(0.7, 0.05, 30))
    )
    unbroken = rng.random(len(gaps)) > 0.1
    found, normal = intervals(beats_at(gaps), unbroken)
    assert found == pytest.approx(gaps)
    likely = [i for i in range(len(gaps)) if unbroken[i] and 0.3 <= gaps[i] <= 2.0]
    expected = np.zeros(len(gaps), bool)
    for place, i in enumerate(likely):
        around = [likely[min(max(j, 0), len(likely) - 1)] for j in range(place - 4, place + 5)]
        middle = np.median(gaps[around])
        expected[i] = abs(gaps[i] - middle) <= 0.25 * middle
    assert np.array_equal(normal, expected)
    assert 0.7 < normal.mean() < 0.95


@real
@pytest.mark.parametrize(("name", "wave"), [("ecg", "ecg"), ("ppg", "pulse")])
def test_beats_of_real_recordings_are_those_that_a_look_at_the_raw_signal_finds(
    name: str, wave: str
) -> None:
    x = np.loadtxt(DATA / "biosppy" / f"{name}.txt.gz")
    away = np.abs(x - median_filter(x, 601)) if wave == "ecg" else median_filter(x, 101)
    expected, _ = find_peaks(away, distance=450, prominence=0.4 * np.ptp(away))
    found = BeatFinder(wave, 1000.0)(x, np.ones(len(x), bool))
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < (40 if wave == "ecg" else 120)  # the crest is flat
    assert np.std(found - expected) < (8 if wave == "ecg" else 45)


@real
def test_the_rate_of_a_calm_wrist_is_that_of_the_device_itself() -> None:
    folder = DATA / "stress_predict" / "S34"
    with gzip.open(folder / "BVP.csv.gz", "rt") as file:
        x = np.array([float(line) for line in file][2:], np.float32)[:, None]
    with gzip.open(folder / "IBI.csv.gz", "rt") as file:
        next(file)
        told = np.array([[float(v) for v in line.split(",")] for line in file])
    for end_s in range(1200, 3400, 200):
        inside = told[(told[:, 0] > end_s - 60) & (told[:, 0] <= end_s), 1]
        found = heart(x[64 * (end_s - 60) : 64 * end_s])
        if len(inside) > 45:  # the device drops what it does not trust
            assert found["rate"] == pytest.approx(1 / np.median(inside), rel=0.05)


def skin(x: Array, valid: Array | None = None, **args: Any) -> dict[str, float]:
    feature = SkinConductance(SKIN, len(x), **args)
    found = feature(x, np.ones(len(x), bool) if valid is None else valid)
    return {n.split(".")[1]: float(v) for n, v in zip(feature.names, found, strict=True)}


def sweat(onsets_s: list[float], size: float = 0.3, rise: float = 0.005) -> Array:
    """60 s at 4 Hz: 2 uS that rises by `rise` a second, and bi-exponential responses on top."""
    t = np.arange(240) / 4
    x = 2 + rise * t
    for onset in onsets_s:
        since = np.maximum(t - onset, 0)
        shape = np.exp(-since / 3) - np.exp(-since / 0.7)
        x = x + size * shape / shape.max()
    return x[:, None].astype(np.float32)


def skin_by_hand(x: Array, least: float = 0.01, tonic: int = 33, smooth: int = 5) -> list[float]:
    """The documented rule at its defaults, written out."""
    n, y = len(x), x[:, 0].astype(np.float64)
    y = np.array([y[max(0, i - 2) : i + smooth // 2 + 1].mean() for i in range(n)])
    slow = np.array(
        [np.median([y[min(max(j, 0), n - 1)] for j in range(i - tonic // 2, i + tonic // 2 + 1)])
         for i in range(n)]
    )  # fmt: skip
    slope, level = np.polyfit(np.arange(n) / 4 - (n - 1) / 8, slow, 1)
    rises, flat = [], y - slope * np.arange(n) / 4
    low = flat[0]
    for i in range(1, n):
        if i + 1 == n or flat[i + 1] < flat[i]:
            if flat[i] - low >= least:
                rises.append(flat[i] - low)
            low = flat[i + 1] if i + 1 < n else low
    mean = float(np.mean(rises)) if rises else 0.0
    return [level, slope, len(rises) / (n / 4), mean, float(np.std(y - slow))]


def test_skin_conductance_is_what_the_rule_gives_by_hand() -> None:
    rng = np.random.default_rng(0)
    for onsets in ([], [8.0, 20.0, 41.0], [5.0, 7.5, 30.0, 33.0, 50.0]):
        x = sweat(onsets) + rng.normal(0, 0.004, (240, 1)).astype(np.float32)
        assert list(skin(x).values()) == pytest.approx(skin_by_hand(x), rel=1e-5, abs=1e-7)


def test_responses_are_counted_and_measured_and_the_level_is_not_moved_by_them() -> None:
    onsets_s = [6.0, 17.0, 28.0, 44.0]
    found, calm = skin(sweat(onsets_s)), skin(sweat([]))
    assert found["responses"] == pytest.approx(4 / 60)
    assert found["amplitude"] == pytest.approx(0.29, rel=0.1)
    assert found["level"] == pytest.approx(calm["level"], rel=0.04)  # the mean: 7 % off
    assert found["phasic-std"] > 10 * calm["phasic-std"]
    assert calm["responses"] == calm["amplitude"] == 0  # a drift is none
    assert calm["slope"] == pytest.approx(0.005, rel=0.01)


def test_small_responses_count_as_far_as_they_are_asked_for() -> None:
    x = sweat([10.0, 30.0], size=0.03, rise=0.0)
    assert skin(x)["responses"] == pytest.approx(2 / 60)
    assert skin(x, least_rise=0.05)["responses"] == 0
    assert skin(x, least_rise=0.05)["amplitude"] == 0


def test_a_rise_over_a_gap_is_no_response() -> None:
    x = sweat([10.0, 30.0, 45.0], rise=0.0)
    valid = np.ones(240, bool)
    valid[122:126] = False  # within the second one's rise
    assert skin(x, valid)["responses"] == pytest.approx(2 / (236 / 4))


def test_without_the_level_nothing_tells_an_offset_or_a_slow_drift() -> None:
    x = sweat([10.0, 30.0], rise=0.0)
    assert list(skin(x, level=False)) == ["responses", "amplitude", "phasic-std"]
    assert skin(x, level=False) == {k: v for k, v in skin(x).items() if k not in ("level", "slope")}
    assert list(skin(x + np.float32(7), level=False).values()) == pytest.approx(
        list(skin(x, level=False).values()), rel=1e-4
    )


@real
def test_the_responses_of_a_real_recording_are_those_of_the_rule() -> None:
    raw = np.loadtxt(DATA / "biosppy" / "eda.txt.gz")
    x = (raw[::250] / 1000)[-240:, None].astype(np.float32)
    assert list(skin(x).values()) == pytest.approx(skin_by_hand(x), rel=1e-4, abs=1e-6)


def test_temperature_is_the_straight_line_of_a_least_squares_fit() -> None:
    rng = np.random.default_rng(0)
    x = (33 + 0.01 * np.arange(240) / 4 + rng.normal(0, 0.02, 240))[:, None].astype(np.float32)
    valid = rng.random(240) > 0.2
    at = np.flatnonzero(valid) / 4
    slope, _ = np.polyfit(at, x[valid, 0].astype(np.float64), 1)
    found = Temperature(WARMTH, 240)(x, valid)
    assert found.tolist() == pytest.approx([x[valid].mean(dtype=np.float64), slope], rel=1e-5)
    assert Temperature(WARMTH, 240, level=False)(x, valid).tolist() == [found[1]]
    assert Temperature(WARMTH, 240, level=False).names == ("TEMP.slope",)
    assert Temperature(WARMTH, 240)(x, valid & False).tolist() == [0, 0]


def test_motion_is_deviation_jerk_and_stillness_of_the_vector() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((320, 3))
    x[:, 2] = 1.0
    x[96:192] += rng.normal(0, 0.2, (96, 3))  # three seconds of ten
    length = np.array([np.sqrt(sum(v * v for v in row)) for row in x])
    steps = [np.sqrt(sum((b - a) ** 2)) for a, b in pairwise(x)]
    found = Motion(MOVES, 320)(x.astype(np.float32), np.ones(320, bool))
    assert found.tolist() == pytest.approx([length.std(), 32 * np.mean(steps), 0.7], rel=1e-4)
    metres = StreamInfo("Watch", "physio", 32.0, ("x", "y", "z"), "m/s^2", (3,))
    scaled = Motion(metres, 320)((9.80665 * x).astype(np.float32), np.ones(320, bool))
    assert scaled.tolist() == pytest.approx([*(9.80665 * found[:2]), found[2]], rel=1e-4)


def test_seconds_with_a_gap_are_neither_still_nor_not() -> None:
    x, valid = np.zeros((320, 3), np.float32), np.ones(320, bool)
    x[:32] = np.random.default_rng(0).normal(0, 1, (32, 3))
    valid[40] = False
    assert Motion(MOVES, 320)(x, valid)[2] == pytest.approx(8 / 9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HeartRateVariability(SKIN, 240), "need 20 Hz or more; the stream has 4 Hz"),
        (lambda: HeartRateVariability(PULSE, 64), "needs 5 s or more, not 1"),
        (lambda: HeartRateVariability(MOVES, 960), "needs one channel of a regular stream"),
        (lambda: HeartRateVariability(PULSE, 640, wave="ekg"), "'ekg'; choose one of pulse, ecg"),
        (lambda: HeartRateVariability(PULSE, 640, measures=["lf"]), "choose from rate, sdnn"),
        (lambda: HeartRateVariability(PULSE, 640, measures=[]), "measures are none"),
        (lambda: SkinConductance(SKIN, 20), "tonic_s must be 1 to the window's 5, not 8"),
        (lambda: SkinConductance(SKIN, 240, least_rise=0), "least_rise must be above 0"),
        (lambda: SkinConductance(MOVES, 240), "needs one channel at 2 Hz or more"),
        (lambda: Temperature(MOVES, 240), "needs one channel of a regular stream"),
        (lambda: Motion(SKIN, 240), "needs an acceleration in g, mg, m/s"),
        (lambda: Motion(MOVES, 320, still_g=0), "still_g must be above 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
