"""Features against scipy, and the errors for arguments that do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from engine.errors import BundleError, ConfigError
from engine.features import LogBandPower, Statistics, build_features
from engine.types import Array, StreamInfo

EEG = StreamInfo("Cap", "eeg", 256.0, ("FP1", "FP2", "O1"), "uV", (3,))
BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 14), "beta": (14, 31), "gamma": (31, 45)}
FACTORIES = {"log_band_power": LogBandPower, "statistics": Statistics}


def _window(n: int = 512, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, 3)) * (1, 20, 5) + (0, 400, -30)).astype(np.float32)


def _all_valid(window: Array) -> Array:
    return np.ones(len(window), bool)


@pytest.mark.parametrize("n", [512, 511, 500, 1024])
@pytest.mark.parametrize("taper", ["hann", "hamming", "blackman", "boxcar"])
def test_band_powers_of_a_full_window_are_those_of_scipys_periodogram(n: int, taper: str) -> None:
    x = _window(n)
    freqs, psd = scipy.signal.periodogram(
        x.astype(np.float64), 256.0, taper, detrend="constant", scaling="density", axis=0
    )
    bands = [(freqs >= low - 1e-9) & (freqs < high - 1e-9) for low, high in BANDS.values()]
    expected = np.array([psd[bins].mean(axis=0) for bins in bands]).T.ravel()
    feature = LogBandPower(EEG, n, taper=taper)
    np.testing.assert_allclose(_density(feature, x), expected, rtol=1e-6)


def test_a_band_that_holds_0_hz_counts_that_bin_once_as_scipy_does() -> None:
    x = _window()
    x[:, 0] = np.hanning(512)  # its mean is not the taper's: something is left at 0 Hz
    _, psd = scipy.signal.periodogram(x.astype(np.float64), 256.0, "hann", axis=0)
    feature = LogBandPower(EEG, 512, bands={"slow": [0, 2], "rest": [2, 128]})
    expected = np.array([psd[:4].mean(axis=0), psd[4:256].mean(axis=0)]).T.ravel()
    np.testing.assert_allclose(_density(feature, x), expected, rtol=1e-6)


def _density(feature: LogBandPower, window: Array) -> Array:
    """The powers themselves; a float32 logarithm below 16 keeps them to 5e-7."""
    return np.exp(feature(window, _all_valid(window)).astype(np.float64))


def test_invalid_items_are_zero_around_the_valid_ones_mean_and_weigh_nothing() -> None:
    x, valid = _window().astype(np.float64), np.ones(512, bool)
    valid[100:180] = valid[400:] = False
    y = np.where(valid[:, None], x - x[valid].mean(axis=0), 0.0)
    taper = scipy.signal.get_window("hann", 512)
    spectrum = np.abs(np.fft.rfft(y * taper[:, None], axis=0)) ** 2
    psd = 2 * spectrum / (256.0 * (taper[valid] ** 2).sum())
    freqs = np.fft.rfftfreq(512, 1 / 256)
    bands = [(freqs >= low) & (freqs < high) for low, high in BANDS.values()]
    expected = np.log(np.array([psd[bins].mean(axis=0) for bins in bands]).T.ravel())
    found = LogBandPower(EEG, 512)(x.astype(np.float32), valid)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gaps_do_not_bias_the_power_of_noise() -> None:
    rng = np.random.default_rng(3)
    feature = LogBandPower(EEG, 512, bands={"all": [1, 120]})
    valid = rng.random(512) > 0.4
    windows = rng.standard_normal((200, 512, 3)).astype(np.float32)
    gaps = np.mean([np.exp(feature(w, valid)) for w in windows])
    full = np.mean([np.exp(feature(w, np.ones(512, bool))) for w in windows])
    assert gaps == pytest.approx(full, rel=0.03)


def test_silence_and_windows_without_a_valid_item_have_the_floors_power() -> None:
    feature, x = LogBandPower(EEG, 512), _window()
    floor = np.float32(np.log(1e-20))
    assert (feature(x * 0 + 7, _all_valid(x)) == floor).all()
    assert (feature(x, np.zeros(512, bool)) == floor).all()
    only_first = np.arange(512) == 0  # where the taper is 0
    assert (feature(x, only_first) == floor).all()


def test_band_powers_stand_channel_by_channel() -> None:
    feature = LogBandPower(EEG, 512)
    assert feature.names[:6] == (
        "FP1.delta", "FP1.theta", "FP1.alpha", "FP1.beta", "FP1.gamma", "FP2.delta",
    )  # fmt: skip
    t = np.arange(512) / 256
    x = np.zeros((512, 3), np.float32)
    x[:, 1] = np.sin(2 * np.pi * 10 * t)
    powers = dict(zip(feature.names, feature(x, _all_valid(x)), strict=True))
    assert max(powers, key=lambda name: powers[name]) == "FP2.alpha"


def test_a_bin_on_a_bands_edge_belongs_to_the_upper_band() -> None:
    info = replace(EEG, rate_hz=100.0)  # 0.7 Hz apart in floats is not always 0.7
    x = np.sin(2 * np.pi * 7 * np.arange(1000) / 100)[:, None].repeat(3, 1).astype(np.float32)
    bands = {"below": [6.8, 7.0], "above": [7.0, 7.1]}
    below, above = LogBandPower(info, 1000, bands=bands, taper="boxcar")(x, _all_valid(x))[:2]
    assert above > below + 20


@pytest.mark.parametrize(
    ("args", "info", "n", "message"),
    [
        ({"bands": {"high": [30, 200]}}, EEG, 512,
         "band high 30-200 Hz does not fit a 256 Hz stream: need 0 <= low < high <= 128"),
        ({"bands": {"back": [8, 4]}}, EEG, 512, "band back 8-4 Hz does not fit"),
        ({"bands": {"odd": [8]}}, EEG, 512, r"band odd must be \[low, high\] in Hz, not \[8\]"),
        ({"bands": {}}, EEG, 512, "bands is empty"),
        ({"bands": {"slim": [10.1, 10.2]}}, EEG, 512,
         "a window of 2 s resolves 0.5 Hz and has no frequency in band slim 10.1-10.2 Hz"),
        ({"taper": "han"}, EEG, 512, "no taper 'han'; use one of hann, hamming"),
        ({"tapper": "hann"}, EEG, 512,
         "feature 'log_band_power', argument 'tapper': unknown key; did you mean 'taper'"),
        ({}, replace(EEG, rate_hz=None), 512, "needs a regular stream; 'Cap'"),
        ({}, replace(EEG, rate_hz=64.0), 512, "gamma 31-45 Hz does not fit a 64 Hz stream"),
        ({}, replace(EEG, shape=(9, 9)), 512, r"have the shape \(9, 9\) and 3 channels"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_say_what_would(
    args: dict[str, Any], info: StreamInfo, n: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_features([{"name": "log_band_power", **args}], info, n, FACTORIES)


def test_an_unknown_feature_says_which_is_near() -> None:
    with pytest.raises(BundleError, match=r"no feature is called 'statistic'.*'statistics'"):
        build_features([{"name": "statistic"}], EEG, 512, FACTORIES)


def _expected_statistics(x: Array, steps: Array) -> Array:
    moments = (x.mean(0), x.std(0), x.min(0), x.max(0))
    shape = (scipy.stats.skew(x), scipy.stats.kurtosis(x))
    return np.array([*moments, *shape, np.abs(steps).mean(0)]).T.ravel()


def test_statistics_of_a_full_window_are_scipys() -> None:
    x = np.exp(_window() / 30).astype(np.float32)
    wide = x.astype(np.float64)
    found = Statistics(EEG, 512)(x, _all_valid(x))
    np.testing.assert_allclose(found, _expected_statistics(wide, np.diff(wide, axis=0)), rtol=1e-6)


def test_statistics_take_valid_items_and_differences_between_valid_neighbours_only() -> None:
    x, valid = _window(), np.random.default_rng(1).random(512) > 0.3
    wide = x.astype(np.float64)
    both = valid[1:] & valid[:-1]
    expected = _expected_statistics(wide[valid], np.diff(wide, axis=0)[both])
    np.testing.assert_allclose(Statistics(EEG, 512)(x, valid), expected, rtol=1e-6)


def test_a_constant_channel_has_no_spread_and_no_shape() -> None:
    x = np.full((512, 3), 0.1, np.float32)
    constant = np.float32(0.1)
    found = Statistics(EEG, 512)(x, _all_valid(x)).reshape(3, 7)
    assert (found == np.array([constant, 0, constant, constant, 0, 0, 0], np.float32)).all()


def test_statistics_without_a_valid_item_are_zero_and_one_item_has_no_difference() -> None:
    feature, x = Statistics(EEG, 512), _window()
    assert not feature(x, np.zeros(512, bool)).any()
    assert not feature(x, np.arange(512) == 5).reshape(3, 7)[:, [1, 4, 5, 6]].any()
