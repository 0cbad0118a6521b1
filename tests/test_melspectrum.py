"""Log-mel frames against librosa on whole recordings, at a stream's edges, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.bundle import InputSpec
from engine.errors import BundleError, ConfigError
from engine.steps import Resample
from engine.steps.melspectrum import LogMel
from engine.steps.pointwise import Downmix
from engine.types import Array, StreamInfo
from engine.view import fit
from offline.datasets import LabelledRecording
from offline.windows import ticks

VOICE = StreamInfo("Mic", "voice", 16000.0, ("mono",), "fs", (1,))
SPEECH = Path(__file__).parents[2] / "shared" / "data" / "speech"
CLIP = SPEECH / "ravdess" / "03-01-05-02-01-01-11.flac"
real = pytest.mark.skipif(not CLIP.is_file(), reason="the shared data is not there")
LOG_FLOOR = float(np.log(1e-10))


def noise(n: int, seed: int = 0) -> Array:
    """(n, 1), about as loud as speech."""
    return (np.random.default_rng(seed).standard_normal((n, 1)) * 0.05).astype(np.float32)


def run(step: LogMel, x: Array, size: int | None = None) -> tuple[Array, Array]:
    size = size or max(1, len(x))
    valid = np.ones(len(x), bool)
    parts = [step(x[a : a + size], valid[a : a + size])[:2] for a in range(0, len(x), size)]
    data, marks = (np.concatenate(list(column)) for column in zip(*parts, strict=True))
    return data, marks


def librosa_log_mel(x: Array, n_mels: int = 64, n: int = 400, n_fft: int = 512) -> Array:
    """The same frames (time, n_mels) by librosa, over the whole of `x` (time,) at 16 kHz.

    It centres the window in a frame of n_fft; the samples before the first are its value.
    """
    import librosa

    beside = (n_fft - n) // 2
    padded = np.concatenate((np.full(n - 1 + beside, x[0]), x, np.zeros(beside)))
    mel = librosa.feature.melspectrogram(
        y=padded.astype(np.float64),
        sr=16000,
        n_fft=n_fft,
        win_length=n,
        hop_length=160,
        center=False,
        n_mels=n_mels,
        fmin=50,
        fmax=8000,
    )
    log_mel: Array = np.log(mel.T + 1e-10)
    return log_mel


@real
@pytest.mark.parametrize("n_mels", [64, 23])
def test_the_frames_of_a_recording_are_those_of_librosa(n_mels: int) -> None:
    x, rate_hz = soundfile.read(CLIP, dtype="float32")
    assert rate_hz == 16000
    frames, valid = run(LogMel(VOICE, n_mels=n_mels), x[:, None], 777)
    assert frames.shape == ((len(x) - 1) // 160 + 1, n_mels)
    assert np.abs(frames - librosa_log_mel(x, n_mels)).max() < 1e-4
    assert valid.tolist() == [False] * 3 + [True] * (len(valid) - 3)


@real
def test_the_windows_that_a_session_cuts_are_those_of_librosa() -> None:
    x, _ = soundfile.read(CLIP, dtype="float32")
    spec = InputSpec(
        kind="voice",
        rate_hz=16000.0,
        channels=("mono",),
        unit="fs",
        window_s=1.0,
        min_filled_s=1.0,
        steps=({"name": "log_mel"},),
    )
    clip = LabelledRecording("r/1", "ravdess", "r", "angry", CLIP)
    cuts = list(ticks(clip, {"voice": spec}, 0.5))
    whole = librosa_log_mel(x)
    assert len(cuts) == 2 * len(x) // 16000  # from 1 s on, and one more at the very end
    for cut in cuts[:-1]:
        end = round(cut.t * 100) + 1  # the last frame stands at t itself
        assert np.abs(cut.inputs["voice"] - whole[end - 100 : end]).max() < 1e-4
    assert np.abs(cuts[-1].inputs["voice"] - whole[-100:]).max() < 1e-4


@pytest.mark.parametrize("size", [1, 3, 160, 161, 4000])
def test_any_number_of_mels_gives_the_same_bits_however_the_stream_is_cut(size: int) -> None:
    x = noise(4000)
    for args in ({}, {"n_mels": 1}, {"n_mels": 2}, {"n_mels": 7, "high_hz": 3000.0}):
        step = LogMel(VOICE, **args)
        frames, valid = run(step, x)
        step.reset()
        again, marks = run(step, x, size)
        assert again.tobytes() == frames.tobytes()
        assert marks.tobytes() == valid.tobytes()


def test_a_frame_comes_with_its_last_sample_and_is_computed_once() -> None:
    step = LogMel(VOICE)
    came = [len(run(step, noise(1, seed))[0]) for seed in range(500)]
    assert [at for at, n in enumerate(came) if n] == [0, 160, 320, 480]
    assert set(came) == {0, 1}


def test_a_frame_does_not_depend_on_what_follows_it() -> None:
    x = noise(2000)
    other = x.copy()
    other[801:] = 0.7
    frames, later = run(LogMel(VOICE), x)[0], run(LogMel(VOICE), other)[0]
    assert np.array_equal(frames[:6], later[:6])  # the sixth ends with sample 800
    assert not np.array_equal(frames[6], later[6])


def test_a_sine_is_loudest_in_its_band_and_four_times_the_power_with_twice_the_amplitude() -> None:
    t = np.arange(16000) / 16000
    edges_hz = {100.0: 1, 1000.0: 20, 4000.0: 50}
    for freq_hz, roughly in edges_hz.items():
        x = np.sin(2 * np.pi * freq_hz * t)[:, None].astype(np.float32)
        loud, soft = run(LogMel(VOICE), x * 0.2)[0][50], run(LogMel(VOICE), x * 0.1)[0][50]
        assert abs(int(loud.argmax()) - roughly) <= 1
        assert loud.max() - soft.max() == pytest.approx(np.log(4), abs=1e-3)


def test_silence_stands_on_the_floor() -> None:
    frames, valid = run(LogMel(VOICE), np.zeros((1600, 1), np.float32))
    np.testing.assert_allclose(frames, LOG_FLOOR, rtol=1e-6)
    assert valid[3:].all()


def test_a_frame_with_one_invalid_sample_is_invalid() -> None:
    step, x = LogMel(VOICE), noise(1600)
    valid = np.ones(1600, bool)
    valid[800] = False
    marks = np.concatenate([step(x[a : a + 70], valid[a : a + 70])[1] for a in range(0, 1600, 70)])
    ends = np.arange(10) * 160
    seen = (ends >= 800) & (ends - 399 <= 800)
    assert seen.sum() == 3
    assert np.array_equal(marks, ~seen & (ends >= 399))


def test_its_info_tells_rate_bands_and_unit() -> None:
    step = LogMel(VOICE, n_mels=40, hop_s=0.02)
    assert (step.info.rate_hz, step.info.shape, step.info.unit) == (50.0, (40,), "ln fs^2")
    assert step.info.channels[::39] == ("mel-0", "mel-39")
    assert step.delay_s == pytest.approx(199.5 / 16000)


@pytest.mark.parametrize(
    ("change", "args", "said"),
    [
        ({"rate_hz": None}, {}, "has no fixed rate"),
        (
            {"channels": ("left", "right"), "shape": (2,)},
            {},
            r"one channel; stream 'Mic' has 2 \(left, right\)",
        ),
        ({"rate_hz": 22050.0}, {}, r"is 220.5 samples at 22050 Hz; need a whole number"),
        ({}, {"hop_s": 0.0}, "hop_s 0 is 0 samples"),
        ({}, {"hop_s": float("nan")}, "hop_s nan"),
        ({}, {"window_s": 0.0}, "window_s 0 is 0 samples"),
        ({}, {"window_s": 60.0}, "need 2 to 65536"),
        ({}, {"n_mels": 0}, "n_mels must be 1 to 512"),
        ({}, {"low_hz": 9000.0}, "9000-8000 Hz does not fit a 16000 Hz stream"),
        ({}, {"high_hz": 9000.0}, "need 0 <= low_hz < high_hz <= 8000"),
        ({}, {"high_hz": 0.0}, "50-0 Hz does not fit"),
        ({}, {"n_mels": 200}, r"is narrower than the spectrum resolves \(31.25 Hz\); use fewer"),
        ({}, {"floor": 0.0}, "floor must be a power above 0"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, Any], args: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        LogMel(replace(VOICE, **change), **args)


def test_a_stereo_stream_at_48_khz_is_mixed_and_resampled_before_the_bundles_steps() -> None:
    stereo = StreamInfo("Mic", "voice", 48000.0, ("left", "right"), "fs", (2,))
    spec = InputSpec(
        kind="voice",
        rate_hz=16000.0,
        channels=("mono",),
        unit="fs",
        window_s=1.0,
        min_filled_s=1.0,
        steps=({"name": "log_mel"}, {"name": "voice_gate"}),
    )
    view, _ = fit("voice", stereo, spec, "speech", {})
    assert [type(step) for step in view.steps[:3]] == [Downmix, Resample, LogMel]
    assert (view.info.rate_hz, view.info.shape, view.n_items) == (100.0, (64,), 100)
    picked, _ = fit("voice", stereo, spec, "speech", {"mono": "right"})
    assert type(picked.steps[0]).__name__ == "Select"
    alone, _ = fit("voice", VOICE, spec, "speech", {})
    assert [type(step).__name__ for step in alone.steps] == ["LogMel", "VoiceGate"]
    with pytest.raises(BundleError, match="needs a stream of kind voice"):
        fit("voice", replace(stereo, kind="eeg"), spec, "speech", {})


def test_downmix_is_the_mean_of_the_channels() -> None:
    stereo = replace(VOICE, channels=("left", "right"), shape=(2,))
    x = np.array([[0.5, 0.25], [-1.0, 1.0]], np.float32)
    mixed, valid, _ = Downmix(stereo)(x, np.array([True, False]))
    assert mixed.tolist() == [[0.375], [0.0]]
    assert valid.tolist() == [True, False]
    assert Downmix(stereo).info == VOICE
