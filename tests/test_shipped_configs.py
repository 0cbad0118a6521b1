"""Every shipped config resolves, and the live ones predict from real devices that stand in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.bundle import Bundle
from engine.config import load_config, shipped, shipped_names
from engine.config.purpose import observing
from engine.daemon import Engine
from engine.errors import BundleError
from engine.prepare import make_sources, plan
from engine.session import Session
from engine.types import Message, Prediction, StreamInfo
from tests.test_live import running
from tests.virtual_microphone import MISSING, run_with_microphone, virtual_microphone

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
LIVE = ("all-live", "headset", "voice", "webcam", "wristband")
needs_sound = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")


def test_the_promised_configs_are_shipped() -> None:
    assert {"demo", "simulate-faults", *LIVE} <= set(shipped_names())


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_config_resolves_without_a_device(name: str) -> None:
    from engine.clock import SettableClock

    config = load_config(name)
    config.check_plugins()
    assert plan(config, "run", 0.0, None).hop_s > 0
    assert make_sources(config, SettableClock(0.0), 0.0).keys() == config.streams.keys()


@pytest.mark.parametrize("name", LIVE)
def test_a_live_config_reads_devices_through_real_bundles_and_says_what_for(name: str) -> None:
    config = load_config(name)
    types = [stream.source.type for stream in config.streams.values()]
    assert observing(types) == sorted(set(types))
    assert config.purpose is not None
    bundles = [stream.bundle for stream in config.streams.values() if stream.bundle is not None]
    assert bundles
    assert not any(bundle.startswith("simulated") for bundle in bundles)
    assert config.recording is None or not config.recording.raw


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_config_says_how_to_use_it(name: str) -> None:
    text = shipped(name).decode()
    assert text.startswith("# ")
    assert f"vagus run {name}" in text or f"vagus demo {name}" in text
    assert text.count(" # ") >= 3 or name == "simulate-faults"


def elsewhere(name: str, **streams: Any) -> Any:
    """A shipped config on free ports, without its page; `streams` change sources."""
    config = load_config(name)
    changed = {
        stream: told.model_copy(update={"source": told.source.model_copy(update=streams[stream])})
        for stream, told in config.streams.items()
        if stream in streams
    }
    return config.model_copy(
        update={
            "publish": "tcp://127.0.0.1:*",
            "control": "tcp://127.0.0.1:*",
            "dashboard": None,
            "streams": {**config.streams, **changed},
        }
    )


@pytest.fixture
def edf(tmp_path: Path) -> Path:
    """A recording with the headset's 19 channels: a real one where it is, else noise."""
    real = DATA / "eeg" / "eegmat_edf" / "Subject01_2.edf"
    if real.exists():
        return real
    channels = Bundle.load("workload-eegmat").inputs["eeg"].channels
    x = np.random.default_rng(0).normal(0, 20, (128 * 60, len(channels))).astype(np.float32)
    path = tmp_path / "noise.npz"
    np.savez(path, x=x, rate_hz=128.0, channels=np.array(channels), kind="eeg", unit="uV")
    return path


_PLAY = "import sys; from engine.cli import main; main(['play', sys.argv[1], '--lsl'])"


@pytest.mark.slow
def test_headset_predicts_from_a_recording_that_another_process_plays_over_lsl(edf: Path) -> None:
    config = elsewhere("headset")
    player = subprocess.Popen(
        [sys.executable, "-c", _PLAY, str(edf)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with running(config) as engine:
            found = collected(engine, lambda found: len(used(found)) >= 3, 40.0)
    finally:
        player.kill()
        player.communicate()
    first = used(found)[0]
    assert set(first.probabilities or {}) == {"rest", "task"}
    assert first.modalities["eeg"]["quality"] > 0.5


def used(messages: list[Message]) -> list[Prediction]:
    return [m for m in messages if isinstance(m, Prediction) and m.probabilities]


def collected(engine: Engine, enough: Any, patience_s: float) -> list[Message]:
    """What the engine publishes, until it is `enough`."""
    import zmq

    from engine import wire

    found: list[Message] = []
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.connect(engine.publisher.url)
        socket.subscribe(b"vagus/1/")
        end_s = time.monotonic() + patience_s
        while not enough(found):
            assert time.monotonic() < end_s, f"not enough came: {found[-3:]}"
            if socket.poll(500):
                topic, body = socket.recv_multipart()
                kind = topic.decode().rpartition("/")[2]
                if kind in ("prediction", "event"):
                    found.append(wire.decode(kind, body))
    return found


_VOICE = """
import json, threading
from tests.test_shipped_configs import collected, elsewhere, used
from tests.test_live import running
config = elsewhere("voice", voice={"device": "filemic", "rate_hz": 16000.0, "dtype": "int16",
                                   "n_channels": 1})
with running(config) as engine:
    found = used(collected(engine, lambda found: len(used(found)) >= 2, 45.0))
print(json.dumps([[p.probabilities, p.modalities["voice"]] for p in found]))
"""


@needs_sound
@pytest.mark.slow
def test_voice_predicts_from_a_microphone_that_hears_somebody_speak(tmp_path: Path) -> None:
    with virtual_microphone(tmp_path, speech().tobytes()) as env:
        told = json.loads(run_with_microphone(env, _VOICE).splitlines()[-1])
    for probabilities, about in told:
        assert set(probabilities) == {"happy", "sad", "angry", "neutral"}
        assert about["quality"] > 0.3


def speech() -> Any:
    """Ten seconds of int16 speech at 16 kHz: real clips where they are, else the simulated."""
    clips = sorted((DATA / "speech" / "emodb").glob("*.flac"))[:6]
    if clips:
        import soundfile

        x = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in clips])
    else:
        from engine.clock import SettableClock
        from sources.simulate import SimulateSource

        source = SimulateSource(kind="voice", seconds=10.0, speed="max", clock=SettableClock(0.0))
        parts: list[Any] = []
        with source:
            while (chunk := source.read(0.1)) is not None and len(parts) < 80:
                parts.append(chunk.data[:, 0])
        x = np.concatenate(parts)
    return (np.clip(x, -1, 1) * 32767).astype("<i2")


@pytest.mark.parametrize("hidden", [("sounddevice", "cv2"), ("pylsl",)])
def test_an_engine_that_does_not_use_a_missing_part_starts_and_predicts(
    hidden: tuple[str, ...],
) -> None:
    program = f"""
import sys
for name in {hidden!r}:
    sys.modules[name] = None  # as if it were not installed
from engine.config import config_from
from engine.daemon import Engine
config = config_from({{
    "session": "a", "publish": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*",
    "streams": {{"eeg": {{"source": {{"type": "simulate", "seconds": 1.0}},
                        "bundle": "simulated-eeg"}}}},
}})
config.check_plugins()
with Engine([config]) as engine:
    engine.loop(30)
    assert engine.publisher.url
print("ran")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ran\n"


@pytest.mark.parametrize(
    ("hidden", "config", "fix"),
    [("sounddevice", "voice", "libportaudio2"), ("pylsl", "headset", "pip install pylsl")],
)
def test_a_missing_part_is_told_with_its_fix_where_it_is_used(
    hidden: str, config: str, fix: str
) -> None:
    program = f"""
import sys
sys.modules[{hidden!r}] = None
from engine.clock import MonotonicClock
from engine.config import load_config
from engine.errors import ResourceError
from engine.prepare import make_sources
(source,) = make_sources(load_config({config!r}), MonotonicClock(), 0.0).values()
try:
    source.__enter__()
except ResourceError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert fix in done.stdout, done.stderr


def test_a_wristbands_three_streams_feed_the_one_bundle_of_wristband() -> None:
    told: list[Any] = []
    session = Session(plan(load_config("wristband"), "run", 0.0, None), told.append)
    for stream, unit, rate_hz in (("bvp", "au", 64.0), ("eda", "uS", 4.0), ("temp", "degC", 4.0)):
        info = StreamInfo(stream, "physio", rate_hz, (stream.upper(),), unit, (1,))
        session.command("connect", stream=stream, info=info)
    assert [event.code for event in told] == ["source.connected"] * 3
    assert [predictor.name for predictor in session.predictors] == ["bvp+eda+temp"]


def test_a_headset_with_too_few_channels_is_refused_with_those_that_lack() -> None:
    told: list[Any] = []
    session = Session(plan(load_config("headset"), "run", 0.0, None), told.append)
    muse = StreamInfo("eeg", "eeg", 256.0, ("TP9", "AF7", "AF8", "TP10"), "uV", (4,))
    with pytest.raises(BundleError, match="missing: Fp1"):
        session.command("connect", stream="eeg", info=muse)
    assert told[0].code == "source.refused"
