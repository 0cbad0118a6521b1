"""Steps against scipy on the whole signal, what they do at the edges, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.signal

from engine.errors import BundleError, ConfigError
from engine.steps import (
    Clip,
    Reference,
    Resample,
    Scale,
    Select,
    SosFilter,
    bandpass,
    build_steps,
    filters,
    notch,
)
from engine.types import Array, Step, StreamInfo

EEG = StreamInfo("Cap", "eeg", 512.0, ("FP1", "FP2", "O1"), "uV", (3,))
MUSE = StreamInfo("Muse", "eeg", 256.0, ("TP9", "AF7", "AF8", "TP10"), "uV", (4,))
FACTORIES: Mapping[str, Any] = {
    "bandpass": bandpass,
    "notch": notch,
    "resample": Resample,
    "reference": Reference,
    "scale": Scale,
    "clip": Clip,
    "select": Select,
}


def _signal(n: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, 3)) * 20 + (300, -40, 2)).astype(np.float32)


def _run(step: Step, x: Array, valid: Array | None = None, size: int = 160) -> tuple[Array, Array]:
    valid = np.ones(len(x), bool) if valid is None else valid
    parts = [step(x[a : a + size], valid[a : a + size])[:2] for a in range(0, len(x), size)]
    data, marks = (np.concatenate(list(column)) for column in zip(*parts, strict=True))
    return data, marks


def _sine(freq_hz: float, rate_hz: float, n: int) -> Array:
    wave = np.sin(2 * np.pi * freq_hz * np.arange(n) / rate_hz)
    return np.repeat(wave[:, None], 3, axis=1).astype(np.float32)


def _gain_db(y: Array) -> float:
    """How strong the second half of a filtered sine of amplitude 1 still is."""
    return float(20 * np.log10(np.sqrt(2) * np.std(y[len(y) // 2 :, 0].astype(np.float64))))


# filters


def test_a_bandpass_in_chunks_is_scipys_sosfilt_over_the_whole_signal() -> None:
    x = _signal(9000)
    sos = scipy.signal.butter(4, (1, 40), "bandpass", fs=512, output="sos")
    state = scipy.signal.sosfilt_zi(sos)[:, :, None] * x[0]
    whole, _ = scipy.signal.sosfilt(sos, x, axis=0, zi=state)
    found, _ = _run(bandpass(EEG, low_hz=1, high_hz=40), x)
    assert np.array_equal(found, whole.astype(np.float32))


def test_fused_filters_are_one_cascade_and_near_the_two_in_turn() -> None:
    specs = [{"name": "bandpass", "low_hz": 1, "high_hz": 40}, {"name": "notch", "freq_hz": 50}]
    (fused,) = build_steps(specs, EEG, FACTORIES)
    x = _signal(5000)
    sos = np.concatenate(
        (
            scipy.signal.butter(4, (1, 40), "bandpass", fs=512, output="sos"),
            scipy.signal.tf2sos(*scipy.signal.iirnotch(50, 30, fs=512)),
        )
    )
    state = scipy.signal.sosfilt_zi(sos)[:, :, None] * x[0]
    whole, _ = scipy.signal.sosfilt(sos, x, axis=0, zi=state)
    found, _ = _run(fused, x)
    assert np.array_equal(found, whole.astype(np.float32))
    first, second = bandpass(EEG, low_hz=1, high_hz=40), notch(EEG, freq_hz=50)
    in_turn, _ = _run(second, _run(first, x)[0])
    np.testing.assert_allclose(found, in_turn, atol=2e-5)
    assert fused.delay_s == pytest.approx(first.delay_s + second.delay_s)


def test_only_neighbouring_filters_are_fused() -> None:
    band, gap = {"name": "bandpass", "low_hz": 1, "high_hz": 40}, {"name": "notch", "freq_hz": 50}
    scale = {"name": "scale", "factor": 2}
    kinds = [type(step) for step in build_steps([band, gap, gap, scale, gap], EEG, FACTORIES)]
    assert kinds == [SosFilter, Scale, SosFilter]


def test_a_filters_gain_is_half_power_at_its_edges_and_small_beyond() -> None:
    step = bandpass(EEG, low_hz=8, high_hz=30)
    for freq_hz, expected_db in ((8, -3.01), (15.5, 0.0), (30, -3.01)):
        step.reset()
        found = _gain_db(_run(step, _sine(freq_hz, 512, 20480))[0])
        assert found == pytest.approx(expected_db, abs=0.02)
    for freq_hz in (2, 100):
        step.reset()
        assert _gain_db(_run(step, _sine(freq_hz, 512, 20480))[0]) < -40
    assert _gain_db(_run(notch(EEG, freq_hz=50), _sine(50, 512, 20480))[0]) < -80


def test_an_offset_does_not_ring() -> None:
    offset = np.full((1000, 3), 3e5, np.float32)
    found, _ = _run(bandpass(EEG, low_hz=1, high_hz=40), offset)
    assert np.abs(found).max() < 1e-3
    kept, _ = _run(notch(EEG, freq_hz=50), offset)
    np.testing.assert_allclose(kept, offset, rtol=1e-6)


def test_a_filters_delay_is_that_of_a_burst_in_its_pass_band() -> None:
    step = bandpass(EEG, low_hz=8, high_hz=12)
    t = np.arange(4096) / 512 - 4
    burst = np.exp(-((t / 0.8) ** 2)) * np.cos(2 * np.pi * np.sqrt(96) * t)
    found, _ = _run(step, np.repeat(burst[:, None], 3, axis=1).astype(np.float32))
    envelope = np.abs(scipy.signal.hilbert(found[:, 0]))
    assert t[envelope.argmax()] == pytest.approx(step.delay_s, abs=0.02)
    assert step.delay_s > 0.1


def test_a_filter_takes_items_of_any_shape() -> None:
    x = _signal(300)
    image = replace(EEG, shape=(3, 2))
    found, _ = _run(bandpass(image, low_hz=1, high_hz=40), np.stack((x, -x), axis=2))
    plain, _ = _run(bandpass(EEG, low_hz=1, high_hz=40), x)
    assert np.array_equal(found, np.stack((plain, -plain), axis=2))


def test_a_filter_comes_to_rest_under_exact_zeros_whatever_the_cut() -> None:
    sound, silence = _signal(700), np.zeros((100_000, 3), np.float32)
    finals = []
    for size in (160, 2048, 200_000):
        step = bandpass(EEG, low_hz=1, high_hz=40)
        found, _ = _run(step, np.concatenate((sound, silence)), size=size)
        assert not found[-10_000:].any()
        state = step._state
        assert state is not None
        assert not state.any()  # not even subnormal numbers, which some processors add slowly
        finals.append(found.tobytes())
    assert finals[0] == finals[1] == finals[2]


def test_a_filter_keeps_float32_subnormals_as_ordinary_numbers() -> None:
    x = _signal(3000)
    tiny = x * np.float32(2.0**-134)  # near 1e-40
    found, _ = _run(notch(EEG, freq_hz=50), tiny)
    ordinary = (tiny.astype(np.float64) * 2.0**134).astype(np.float32)
    expected, _ = _run(notch(EEG, freq_hz=50), ordinary)
    np.testing.assert_allclose(found.astype(np.float64) * 2.0**134, expected, atol=2.0**-15)


# resampling


@pytest.mark.parametrize("rate_hz", [128.0, 100.0, 250.0, 500.0, 1024.0, 512.0 / 7])
def test_a_resampler_in_chunks_is_scipys_upfirdn_over_the_whole_signal(rate_hz: float) -> None:
    step, x = Resample(EEG, rate_hz=rate_hz), _signal(3000)
    up, down = step.ratio.numerator, step.ratio.denominator
    half = 10 * max(up, down)
    low_pass = scipy.signal.firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0)) * up
    lead = -(-2 * half // up // down) * down + down  # the first item, long before itself
    stood = np.concatenate((np.repeat(x[:1], lead, axis=0), x)).astype(np.float64)
    whole = scipy.signal.upfirdn(low_pass, stood, up, down, axis=0)[lead * up // down :]
    found, _ = _run(step, x, size=51)
    assert len(found) == (3000 - 1) * up // down + 1
    assert np.array_equal(found, whole[: len(found)].astype(np.float32))


@pytest.mark.parametrize(("up", "down"), [(1, 4), (2, 1), (3, 2)])  # whole delays, in outputs
def test_a_resampler_is_resample_poly_shifted_by_its_delay(up: int, down: int) -> None:
    rate_hz = 512.0 * up / down
    step, x = Resample(EEG, rate_hz=rate_hz), _signal(4000)
    found, _ = _run(step, x)
    expected = scipy.signal.resample_poly(x.astype(np.float64), up, down, axis=0)
    n = round(step.delay_s * rate_hz)
    assert n == 10 * max(up, down) // down
    np.testing.assert_allclose(found[2 * n :], expected[n : len(found) - n], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("rate_hz", "to_hz"), [(512, 128), (500, 128), (44100, 16000), (250, 256)])
def test_a_resampler_keeps_the_pass_band_and_delays_it_by_delay_s(
    rate_hz: float, to_hz: float
) -> None:
    step = Resample(replace(EEG, rate_hz=rate_hz), rate_hz=to_hz)
    freq_hz = 0.25 * min(rate_hz, to_hz)
    found, _ = _run(step, _sine(freq_hz, rate_hz, 8000), size=441)
    t = np.arange(len(found)) / to_hz - step.delay_s
    expected = np.sin(2 * np.pi * freq_hz * t)
    skip = round(2 * step.delay_s * to_hz) + 1
    np.testing.assert_allclose(found[skip:, 0], expected[skip:], atol=5e-3)


@pytest.mark.parametrize(("rate_hz", "to_hz"), [(512, 128), (500, 128), (44100, 16000), (256, 100)])
@pytest.mark.parametrize("beyond", [1.25, 1.5, 1.9])
def test_a_resampler_weakens_aliases_by_50_db(rate_hz: float, to_hz: float, beyond: float) -> None:
    freq_hz = beyond * to_hz / 2
    assert freq_hz < rate_hz / 2
    step = Resample(replace(EEG, rate_hz=rate_hz), rate_hz=to_hz)
    assert _gain_db(_run(step, _sine(freq_hz, rate_hz, 20_000), size=5000)[0]) < -50


def test_a_resampler_starts_on_an_offset_without_a_transient() -> None:
    offset = np.full((800, 3), 3e5, np.float32)
    down, _ = _run(Resample(EEG, rate_hz=128.0), offset)
    np.testing.assert_allclose(down, 3e5, rtol=1e-6)


def test_an_output_is_valid_if_all_inputs_since_the_output_before_it_are() -> None:
    valid = np.ones(400, bool)
    valid[[41, 200]] = valid[100:110] = False
    _, marks = _run(Resample(EEG, rate_hz=128.0), _signal(400), valid, size=7)
    assert np.flatnonzero(~marks).tolist() == [11, 25, 26, 27, 28, 50]
    _, marks = _run(Resample(EEG, rate_hz=1024.0), _signal(400), valid, size=7)
    assert np.flatnonzero(~marks).tolist() == [81, 82, *range(199, 219), 399, 400]


def test_a_resampler_stays_exact_beyond_2_to_the_31_items() -> None:
    x = _signal(2000)
    near, far = (Resample(EEG, rate_hz=200.0) for _ in range(2))
    for step in (near, far):
        step(x[:64], np.ones(64, bool))
    turns = 2**31 // 64 * 64
    far._n_in += turns  # as if so many items had gone by
    far._start += turns
    far._n_out += turns * 25 // 64
    valid = np.arange(1936) % 50 > 3
    assert np.array_equal(_run(near, x[64:], valid)[0], _run(far, x[64:], valid)[0])
    near.reset()
    assert near._n_in == 0


@pytest.mark.parametrize(
    ("rate_hz", "to_hz", "message"),
    [
        (512.0, 0.0, "resample: rate_hz must be above 0, not 0"),
        (512.0, 511.9, "resample 512 to 511.9 Hz: the ratio is no fraction of whole numbers up to "
                       "1000; the nearest rate that is: 512 Hz"),
        (512.0, 0.1, "512 to 0.1 Hz: the rates are more than 1000 times apart"),
        (None, 128.0, "resample needs a regular stream; 'Cap' has no fixed rate"),
    ],
)  # fmt: skip
def test_rates_that_do_not_fit_say_what_would(
    rate_hz: float | None, to_hz: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Resample(replace(EEG, rate_hz=rate_hz), rate_hz=to_hz)


def test_rates_that_are_fractions_resample_exactly() -> None:
    assert Resample(replace(EEG, rate_hz=29.97), rate_hz=15.0).ratio.denominator == 999
    assert Resample(replace(EEG, rate_hz=256 / 3), rate_hz=64.0).ratio == 3 / 4


# one item at a time


def test_an_average_reference_takes_the_mean_of_each_item_away() -> None:
    x = _signal(500)
    found, _ = _run(Reference(EEG, method="average"), x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(found, wide - wide.mean(axis=1, keepdims=True), atol=1e-4)
    found, _ = _run(Reference(EEG, channels=["O1", "fp2"]), x)
    np.testing.assert_allclose(found, wide - wide[:, 1:].mean(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize(
    ("unit", "to", "factor"), [("V", "uV", 1e6), ("uV", "V", 1e-6), ("nV", "mV", 1e-6)]
)
def test_a_scale_converts_units_of_voltage(unit: str, to: str, factor: float) -> None:
    step, x = Scale(replace(EEG, unit=unit), unit=to), _signal(10)
    np.testing.assert_allclose(_run(step, x)[0], x.astype(np.float64) * factor, rtol=2e-7)
    assert step.info.unit == to


def test_steps_that_do_nothing_give_back_what_they_got() -> None:
    x, valid = _signal(51), np.ones(51, bool)
    idle: list[Step] = [
        Scale(EEG, unit="uV"),
        Scale(EEG, factor=1.0),
        Scale(EEG, unit="µV"),
        Select(EEG, channels=["Fp1", "Fp2", "O1"]),
        Resample(EEG, rate_hz=512.0),
    ]
    notes = []
    for step in idle:
        y, marks, note = step(x, valid)
        assert y is x
        assert marks is valid
        notes.append(note)
    assert all(note is notes[0] for note in notes)  # one empty mapping for all
    assert idle[3].info.channels == ("Fp1", "Fp2", "O1")


def test_a_clip_limits_values() -> None:
    found, _ = _run(Clip(EEG, low=-10, high=100), _signal(500))
    assert np.array_equal(found, np.clip(_signal(500), -10, 100))


# channels


@pytest.mark.parametrize(
    ("wanted", "device"),
    [
        (["FP1", "T7"], ["t7", "Fp1"]),
        (["T7", "T8", "P7", "P8"], ["P8", "T3", "T4", "T5"]),
        (["T3", "T4", "T5", "T6"], ["T7", "T8", "P7", "P8"]),
        (["FP1", "CZ"], ["EEG Cz-REF", "EEG Fp1-REF"]),
        (["EEG Fp1-LE", "EEG T3-LE"], ["FP1", "T7"]),
        (["Fc5", "C3"], ["C3..", "Fc5."]),
        (["C3", "C4"], ["EEG C4-A1", "EEG C3-A2"]),
    ],
)
def test_channels_are_found_across_spellings(wanted: list[str], device: list[str]) -> None:
    info = StreamInfo("Cap", "eeg", 100.0, tuple(device), "uV", (len(device),))
    step = Select(info, channels=wanted)
    x = np.arange(len(device), dtype=np.float32)[None]
    plain = [name.upper().replace("EEG ", "").split("-")[0].strip(".") for name in device]
    old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
    sites = [old.get(name, name) for name in plain]
    asked = [name.upper().replace("EEG ", "").split("-")[0] for name in wanted]
    expected = [sites.index(old.get(name, name)) for name in asked]
    assert step(x, np.ones(1, bool))[0][0].tolist() == expected
    assert step.info.channels == tuple(wanted)
    assert step.info.shape == (len(wanted),)


def test_the_same_spelling_goes_before_a_similar_one() -> None:
    info = StreamInfo("Cap", "eeg", 100.0, ("T3", "t7", "T7"), "uV", (3,))
    step = Select(info, channels=["T7", "T3"])
    assert step(np.array([[0, 1, 2]], np.float32), np.ones(1, bool))[0].tolist() == [[2, 0]]


def test_a_bipolar_channel_is_no_scalp_site() -> None:
    info = StreamInfo("Cap", "eeg", 100.0, ("FP1-F7", "F7-T3"), "uV", (2,))
    with pytest.raises(BundleError, match="missing: FP1"):
        Select(info, channels=["FP1"])


def test_a_mapping_names_the_streams_channels() -> None:
    step = Select(MUSE, channels=["FP1", "T10"], mapping={"FP1": "AF7", "T10": "tp10"})
    x = np.array([[0, 1, 2, 3]], np.float32)
    assert step(x, np.ones(1, bool))[0].tolist() == [[1, 3]]
    assert step.info.channels == ("FP1", "T10")


def test_missing_channels_are_listed() -> None:
    wanted = ["FP1", "FPZ", "AF7", "F1", "F2", "F3", "F4"]
    with pytest.raises(BundleError) as caught:
        Select(MUSE, channels=wanted)
    assert str(caught.value) == (
        "needs 7 channels (FP1, FPZ, ...); stream 'Muse' has 4 (TP9, AF7, AF8, TP10); "
        "missing: FP1, FPZ, F1, F2, F3, F4. Map them to the stream's channels, or retrain "
        "with these"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "bandpass", "low_hz": 1, "high_hz": 400},
         "bandpass 1-400 Hz does not fit a 512 Hz stream: need 0 < low_hz < high_hz < 256"),
        ({"name": "bandpass", "low_hz": 1, "high_hz": 40, "order": 0}, "order must be 1 to 10"),
        ({"name": "bandpass", "low_hertz": 1, "high_hz": 40},
         "step 'bandpass', argument 'low_hertz': unknown key; did you mean 'low_hz'"),
        ({"name": "bandpass", "low_hz": 1}, "step 'bandpass': needs the key 'high_hz'"),
        ({"name": "bandpass", "low_hz": "1", "high_hz": 4}, "argument 'low_hz': expected a number"),
        ({"name": "notch", "freq_hz": 300}, "notch at 300 Hz does not fit a 512 Hz stream"),
        ({"name": "notch", "freq_hz": 50, "q": 0.1}, "q must be 0.5 to 1000, not 0.1"),
        ({"name": "reference"}, "reference needs either method: average or channels"),
        ({"name": "reference", "method": "mean"}, "no method 'mean'; use 'average' or channels"),
        ({"name": "scale"}, "scale needs either factor or unit"),
        ({"name": "scale", "factor": 0}, "the factor must be a finite float32, not 0"),
        ({"name": "scale", "unit": "uS"},
         "stream 'Cap' is in 'uV', which does not convert to 'uS'; V, mV, uV and nV convert"),
        ({"name": "clip", "low": 2, "high": 1}, "clip 2 to 1: need low < high, both finite"),
        ({"name": "select", "channels": "FP1"}, "select: channels must be a list of names"),
        ({"name": "select", "channels": []}, "select: channels is empty"),
        ({"name": "select", "channels": ["FP1", "fp1"]},
         "channels 'FP1' and 'fp1' are the same channel 'FP1' of stream 'Cap'"),
        ({"name": "select", "channels": ["FP1"], "mapping": {"FP2": "O1"}},
         "'FP2' is none of the channels that are needed; did you mean 'FP1'"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_say_what_would(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_steps([spec], EEG, FACTORIES)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "bandpas", "low_hz": 1}, "no step is called 'bandpas'; did you mean 'bandpass'"),
        ({"name": "zzz"}, "no step is called 'zzz'; known: bandpass, clip, notch"),
        ({"low_hz": 1}, "a step has no name: {'low_hz': 1}"),
        ({"name": "select", "channels": ["FP1"], "mapping": {"FP1": "AF9"}},
         "FP1 is mapped to 'AF9', which stream 'Muse' does not have; did you mean 'AF8'"),
        ({"name": "reference", "channels": ["A1"]}, "missing: A1"),
    ],
)  # fmt: skip
def test_bundles_that_do_not_fit_say_why(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        build_steps([spec], MUSE, FACTORIES)


def test_a_name_that_fits_two_channels_is_refused() -> None:
    info = StreamInfo("Cap", "eeg", 100.0, ("EEG C3-A1", "EEG C3-A2"), "uV", (2,))
    with pytest.raises(BundleError, match="channel 'C3' fits 2 channels of stream 'Cap'"):
        Select(info, channels=["C3"])


@pytest.mark.parametrize("name", ["bandpass", "notch", "resample"])
def test_rate_bound_steps_refuse_irregular_streams(name: str) -> None:
    args = {
        "bandpass": {"low_hz": 1, "high_hz": 40},
        "notch": {"freq_hz": 50},
        "resample": {"rate_hz": 64},
    }
    with pytest.raises(ConfigError, match=f"{name} needs a regular stream; 'Cap'"):
        build_steps([{"name": name, **args[name]}], replace(EEG, rate_hz=None), FACTORIES)


def test_channel_steps_refuse_items_that_are_no_channels() -> None:
    for spec in (
        {"name": "select", "channels": ["FP1"]},
        {"name": "reference", "channels": ["O1"]},
    ):
        with pytest.raises(ConfigError, match=r"have the shape \(4, 4, 3\) and 3 channels"):
            build_steps([spec], replace(EEG, shape=(4, 4, 3)), FACTORIES)


def test_the_kernel_gives_the_bits_of_the_public_function(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(4).normal(size=(3000, 5)).astype(np.float32)
    valid = np.ones(len(x), bool)
    info = StreamInfo("eeg", "eeg", 256.0, tuple("abcde"), "uV", (5,))
    fast = filters.bandpass(info, low_hz=1, high_hz=40)(x, valid)[0]
    monkeypatch.setattr(filters, "_KERNEL", filters.by_scipy)
    assert np.array_equal(filters.bandpass(info, low_hz=1, high_hz=40)(x, valid)[0], fast)
