"""A voice is the same voice in any format, and silence is no voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from engine.bundle import Bundle
from engine.player import Player
from engine.types import Array, Prediction
from sources.feed import match_bundles, play_recording, recording_plan
from sources.files import open_recording

SPEECH = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "speech"
CLIP = SPEECH / "ravdess" / "03-01-05-02-01-01-12.flac"
BUNDLES = ("speech-ravdess-8", "speech-4")

needs_clip = pytest.mark.skipif(not CLIP.exists(), reason=f"{CLIP} is not here")


def predict(path: Path, bundle: str) -> list[Prediction]:
    """Every prediction of a clip."""
    recording = open_recording(path)
    wanted = {"": Bundle.load(bundle)}
    player = Player(recording_plan(recording, match_bundles(recording, wanted)))
    return [m for m in play_recording(recording, player) if isinstance(m, Prediction)]


def verdict(found: list[Prediction]) -> Array:
    """The clip's probabilities: the mean of its ticks', weighted by `filled`."""
    told = [p for p in found if p.probabilities is not None]
    p = np.array([list(t.probabilities.values()) for t in told if t.probabilities])
    mean: Array = np.average(p, axis=0, weights=[t.modalities["voice"]["filled"] for t in told])
    return mean


@needs_clip
@pytest.mark.parametrize("bundle", BUNDLES)
def test_rate_and_channels_of_a_clip_hardly_change_what_is_heard(
    bundle: str, tmp_path: Path
) -> None:
    x, rate_hz = soundfile.read(CLIP)
    assert rate_hz == 16000
    soundfile.write(tmp_path / "mono.wav", x, 16000)
    faster = resample_poly(x, 441, 160)
    soundfile.write(tmp_path / "stereo.wav", np.stack([faster, faster], 1), 44100, subtype="FLOAT")
    soundfile.write(tmp_path / "high.flac", resample_poly(x, 3, 1), 48000, subtype="PCM_24")
    found = [
        verdict(predict(tmp_path / name, bundle))
        for name in ("mono.wav", "stereo.wav", "high.flac")
    ]
    assert len({int(p.argmax()) for p in found}) == 1
    assert np.abs(found[1] - found[0]).max() < 0.02
    assert np.abs(found[2] - found[0]).max() < 0.02


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_silent_clip_gets_no_label_but_no_speech(bundle: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "silence.wav", 1e-5 * rng.standard_normal(16000 * 4), 16000)
    found = predict(tmp_path / "silence.wav", bundle)
    assert len(found) == 8
    assert all(p.label is None and p.probabilities is None for p in found)
    assert {p.modalities["voice"]["reason"] for p in found[6:]} == {"no speech"}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_voice_bundle_is_small_and_names_its_licence(bundle: str) -> None:
    loaded = Bundle.load(bundle)
    assert "CC BY-NC-SA" in loaded.licence
    assert "CC BY-NC-SA" in (loaded.path / "CARD.md").read_text()
    assert (loaded.path / "weights.safetensors").stat().st_size < 4 * 300_000 + 20_000
