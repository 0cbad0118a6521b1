"""Other people's detectors by path: in place of a bundle's own, in a config, on real recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine import Player
from engine.bundle import Bundle
from engine.config import config_from
from engine.detector import with_detector
from engine.errors import ConfigError
from engine.plan import SessionPlan
from engine.prepare import plan
from engine.types import Prediction
from sources.feed import play_recording
from sources.files import open_recording

SHARED = Path(__file__).parents[2] / "shared" / "data"
SILERO = SHARED / "models" / "silero_vad.onnx"


def session(stream: str, bundle: str, detector: Path | str | None) -> SessionPlan:
    told: dict[str, Any] = {"source": {"type": "replay", "path": "x"}, "bundle": bundle}
    if detector is not None:
        told["detector"] = str(detector)
    config = config_from({"session": "s", "streams": {stream: told}})
    return plan(config, "run", 0.0, None)


def told(path: Path, detector: Path | None) -> list[Prediction]:
    """Every prediction of speech-4 on a clip."""
    recording = open_recording(path)
    (stream,) = recording.streams
    player = Player(session(stream.info.name, "speech-4", detector))
    return [m for m in play_recording(recording, player) if isinstance(m, Prediction)]


def test_a_gate_by_network_stands_before_the_spectrum_in_place_of_the_energy_gate() -> None:
    bundle = Bundle.load("speech-4")
    changed = with_detector(bundle, "silero.onnx")
    assert [step["name"] for step in bundle.inputs["voice"].steps] == ["log_mel", "voice_gate"]
    assert [dict(step) for step in changed.inputs["voice"].steps][:1] == [
        {"name": "silero_gate", "model": "silero.onnx"}
    ]
    assert [step["name"] for step in changed.inputs["voice"].steps] == ["silero_gate", "log_mel"]
    assert changed.sha256 == bundle.sha256


def test_a_bundle_that_detects_nothing_refuses_a_detector() -> None:
    with pytest.raises(ConfigError, match=r"streams\.eeg\.detector: .*detects nothing"):
        session("eeg", "simulated-eeg", __file__)


def test_a_detector_that_is_not_there_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"streams\.voice\.detector: gone\.onnx: no such file"):
        session("voice", "speech-4", "gone.onnx")


@pytest.mark.skipif(not SILERO.is_file(), reason="Silero's network is not there")
def test_noise_as_loud_as_a_voice_is_no_speech_to_the_network(tmp_path: Path) -> None:
    spoken, rate_hz = soundfile.read(SHARED / "models" / "silero_test.wav", frames=8 * 16000)
    hiss = np.random.default_rng(0).standard_normal(8 * 16000) * np.repeat([0.05, 0.2], 4 * 16000)
    for name, x in (("spoken", spoken), ("hiss", hiss)):
        soundfile.write(tmp_path / f"{name}.wav", x, rate_hz)
    assert any(p.label for p in told(tmp_path / "spoken.wav", SILERO))
    assert any(p.label for p in told(tmp_path / "hiss.wav", None))  # the energy gate is taken in
    found = told(tmp_path / "hiss.wav", SILERO)
    assert found
    assert all(p.label is None for p in found)
    assert all(p.modalities[s]["reason"] == "no speech" for p in found[7:] for s in p.modalities)
