"""Differential entropy against scipy on the whole signal, gaps, silence, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.signal

from engine.errors import ConfigError
from engine.steps.entropy import BANDS, DifferentialEntropy
from engine.types import Array, StreamInfo

EEG = StreamInfo("Cap", "eeg", 200.0, ("FP1", "CZ", "O1"), "uV", (3,))
WINDOW = 800


def signal(n: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, 3)) * [5, 20, 80] + (300, -40, 2)).astype(np.float32)


def run(step: DifferentialEntropy, x: Array, valid: Array | None = None) -> tuple[Array, Array]:
    valid = np.ones(len(x), bool) if valid is None else valid
    parts = [step(x[a : a + 61], valid[a : a + 61])[:2] for a in range(0, len(x), 61)]
    data, marks = (np.concatenate(list(column)) for column in zip(*parts, strict=True))
    return data, marks


def by_scipy(x: Array, valid: Array) -> Array:
    """(windows, channels * bands) from the whole signal at once, in float64."""
    n = len(x) // WINDOW
    found = np.empty((n, 3, len(BANDS)))
    for band, (low_hz, high_hz) in enumerate(BANDS.values()):
        sos = scipy.signal.butter(4, (low_hz, high_hz), "bandpass", fs=200, output="sos")
        state = scipy.signal.sosfilt_zi(sos)[:, :, None] * x[0]
        y, _ = scipy.signal.sosfilt(sos, x.astype(np.float64), axis=0, zi=state)
        for m in range(n):
            part = slice(m * WINDOW, (m + 1) * WINDOW)
            variance = np.var(y[part][valid[part]], axis=0)
            found[m, :, band] = 0.5 * np.log(2 * np.pi * np.e * variance)
    return found.reshape(n, -1)


def test_windows_in_chunks_are_scipys_over_the_whole_signal() -> None:
    x, rng = signal(9 * WINDOW + 300), np.random.default_rng(1)
    valid = np.repeat(rng.random(len(x) // 30 + 1) > 0.2, 30)[: len(x)]
    for marks in (np.ones(len(x), bool), valid):
        found, _ = run(DifferentialEntropy(EEG), x, marks)
        np.testing.assert_allclose(found, by_scipy(x, marks), atol=1e-5)


def test_a_sine_has_the_entropy_of_its_power_in_its_own_band() -> None:
    t = np.arange(6 * WINDOW) / 200
    x = np.repeat(20 * np.sin(2 * np.pi * 10.5 * t)[:, None], 3, axis=1).astype(np.float32)
    found, _ = run(DifferentialEntropy(EEG), x)
    alpha, others = found[-1].reshape(3, 5)[:, 2], found[-1].reshape(3, 5)[:, [0, 1, 3, 4]]
    np.testing.assert_allclose(alpha, 0.5 * np.log(2 * np.pi * np.e * 200), atol=0.01)
    assert (others < alpha[0] - 2).all()


def test_an_item_of_a_quarter_hertz_comes_with_the_last_of_its_window() -> None:
    step = DifferentialEntropy(EEG)
    assert (step.ratio, step.info.rate_hz, step.info.unit) == (Fraction(1, 800), 0.25, "nat")
    assert step.info.channels[:6] == (
        *("FP1 delta", "FP1 theta", "FP1 alpha", "FP1 beta", "FP1 gamma", "CZ delta"),
    )
    x, valid = signal(WINDOW), np.ones(WINDOW, bool)
    assert len(step(x[:-1], valid[:-1])[0]) == 0
    assert step(x[-1:], valid[-1:])[0].shape == (1, 15)
    assert 2.0 < step.delay_s < 3.0


def test_an_offset_does_not_ring() -> None:
    x = signal(WINDOW)
    near, _ = run(DifferentialEntropy(EEG), x)
    far, _ = run(DifferentialEntropy(EEG), x + np.float32(2**15))
    np.testing.assert_allclose(near, far, atol=2e-3)  # x itself loses bits


@pytest.mark.parametrize(("share", "expected"), [(0.49, False), (0.5, True), (1.0, True)])
def test_a_window_is_valid_if_half_of_it_is(share: float, expected: bool) -> None:
    valid = np.arange(WINDOW) < share * WINDOW
    found, marks = run(DifferentialEntropy(EEG), signal(WINDOW), valid)
    assert marks.tolist() == [expected]
    assert np.isfinite(found).all()


def test_what_is_invalid_counts_for_nothing_but_what_the_filter_makes_of_it() -> None:
    step, valid = DifferentialEntropy(EEG, min_valid=0.1), np.ones(WINDOW, bool)
    valid[700:] = False
    x = signal(WINDOW)
    spoilt = x.copy()
    spoilt[700:] = 1e6  # behind the last valid item, so that the filter does not carry it on
    assert np.array_equal(run(step, x, valid)[0], run(DifferentialEntropy(EEG), spoilt, valid)[0])


def test_a_silent_channel_has_a_finite_entropy() -> None:
    found, marks = run(DifferentialEntropy(EEG), np.zeros((2 * WINDOW, 3), np.float32))
    np.testing.assert_allclose(found, 0.5 * np.log(2 * np.pi * np.e * 1e-20), rtol=1e-6)
    assert marks.all()


@pytest.mark.parametrize(
    ("info", "args", "message"),
    [
        (EEG, {"window_s": 0.0033}, "window_s 0.0033 is 0.66 items at 200 Hz; need a whole"),
        (EEG, {"window_s": float("inf")}, "whole number of them"),
        (EEG, {"window_s": 1000}, "2 to 65536"),
        (EEG, {"bands": {}}, "bands is empty"),
        (EEG, {"bands": {"all": [0, 50]}}, "band all 0-50 Hz does not fit a 200 Hz stream"),
        (EEG, {"bands": {"high": [50, 100]}}, "need 0 < low < high < 100"),
        (EEG, {"bands": {"odd": [1, 2, 3]}}, r"band odd must be \[low, high\] in Hz"),
        (EEG, {"min_valid": 0}, "min_valid must be above 0 and up to 1, not 0"),
        (replace(EEG, rate_hz=None), {}, "has no fixed rate"),
        (replace(EEG, shape=(3, 2)), {}, "one value per channel"),
        (replace(EEG, rate_hz=100.0), {}, "band gamma 31-50 Hz does not fit a 100 Hz stream"),
    ],
)
def test_what_does_not_fit_is_refused(info: StreamInfo, args: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"differential_entropy.*{message}"):
        DifferentialEntropy(info, **args)
