"""Planted faults are found and named, clean recordings stay good, and no cut changes a verdict."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from engine.bundle import Bundle
from engine.cli import main
from engine.judges import judge_of
from engine.plan import SessionPlan, StreamPlan
from engine.player import Player
from engine.quality import Meter, Watch, meter_of
from engine.types import Array, Chunk, Event, Prediction, Signal, StreamInfo
from sources.feed import chunks, match_bundles, recording_plan
from sources.files import open_recording
from tests.streams import info, recut
from tests.test_exactness import play
from tests.toys import plan, toy

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
EDF = DATA / "eeg" / "eegmat_edf" / "Subject01_2.edf"
OPENBCI = DATA / "eeg" / "openbci" / "OpenBCI_2016-02-13_Jordan_focus.txt.gz"
FACES = DATA / "faces" / "muxspace_lfw_48.npz"
RATE_HZ = 128.0
FAULTS = ("flat", "railed", "line noise", "amplitude")


needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")


def eeg(n_s: float, seed: int = 0, n_channels: int = 3) -> Array:
    """Something like EEG: 1/f noise of about 20 uV."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(int(n_s * RATE_HZ), n_channels))
    spectrum = np.fft.rfft(white, axis=0)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))[:, None]
    x = np.fft.irfft(spectrum, len(white), axis=0)
    made: Array = (20 * x / x.std()).astype(np.float32)
    return made


def spoil(x: Array, fault: str, channel: int = 1, start: int = 0, end: int | None = None) -> Array:
    """A copy with one bad channel from item `start` to `end`."""
    x = x.copy()
    part = x[start:end, channel]  # a view
    t = np.arange(len(part)) / RATE_HZ
    if fault == "flat":
        part[:] = 3.0
    elif fault == "railed":
        part[:] = np.clip(1200 * np.sin(2 * np.pi * 1.3 * t), -600.0, 600.0)
    elif fault == "line noise":
        part += (150 * np.sin(2 * np.pi * 50.2 * t)).astype(np.float32)
    else:
        part *= 60
    return x


def chunk(x: Array) -> Chunk:
    return Chunk("eeg", 0, 0, ((0, 0.0),), x)


def predictions(x: Array, made: SessionPlan | None = None) -> list[Any]:
    return play(made or plan(), {"eeg": info()}, [chunk(x)])["prediction"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_channel_is_named_within_two_seconds_and_the_others_are_not(fault: str) -> None:
    onset_s = 6.1
    x = spoil(eeg(14), fault, start=int(onset_s * RATE_HZ))
    told = {p.t: p.modalities["eeg"].get("faults", {}) for p in predictions(x)}
    assert not any(told[t] for t in told if t < onset_s)
    after = [told[t] for t in told if t >= onset_s + 2.0]
    assert all(set(one) == {"C1"} and fault in one["C1"] for one in after)


def test_quality_is_the_share_of_good_channels_and_one_for_clean_ones() -> None:
    clean = [p.modalities["eeg"]["quality"] for p in predictions(eeg(8)) if p.label]
    assert clean == [1.0] * len(clean)
    spoilt = [p.modalities["eeg"]["quality"] for p in predictions(spoil(eeg(8), "flat")) if p.label]
    assert spoilt == pytest.approx([2 / 3] * len(spoilt))


def test_hum_alone_never_makes_a_modality_missing() -> None:
    x = eeg(8)
    for channel in range(3):
        x = spoil(x, "line noise", channel)
    about = predictions(x)[-1].modalities["eeg"]
    assert about["faults"] == {"all": ["line noise"]}
    assert 0.3 < about["quality"] < 0.5


def test_a_bad_signal_counts_as_missing_with_the_reason_and_comes_back() -> None:
    x, start, end = eeg(30), int(8 * RATE_HZ), int(16 * RATE_HZ)
    for channel in range(3):
        x = spoil(x, "flat", channel, start, end)
    out = play(plan(), {"eeg": info()}, [chunk(x)])
    gone = [p for p in out["prediction"] if p.missing and p.t > 2]
    assert {p.modalities["eeg"]["reason"] for p in gone} == {"quality"}
    assert all(p.modalities["eeg"]["faults"] == {"all": ["flat"]} for p in gone[1:-2])
    assert all(p.label is None and p.probabilities is None for p in gone)
    assert {p.t for p in out["prediction"] if 11 < p.t <= 16} <= {p.t for p in gone}
    assert out["prediction"][-1].label is not None
    told = [e.detail["class"] for e in out["event"] if e.code == "stream.quality"]
    assert "bad" in told
    assert told[-1] == "good"
    assert [e.code for e in out["event"] if e.code in ("degraded", "recovered")] == [
        "degraded", "recovered",
    ]  # fmt: skip


def test_min_quality_zero_lets_everything_through() -> None:
    through = SessionPlan("p1", "run", {"eeg": StreamPlan(toy(), min_quality=0.0)})
    x = np.repeat(eeg(8)[:, :1], 3, axis=1)
    for channel in range(3):
        x = spoil(x, "amplitude", channel)
    assert all(p.label for p in predictions(x, through)[2:])


def test_a_signal_that_flickers_is_told_at_most_every_five_seconds() -> None:
    watch = Watch(0.3)
    good, bad = Signal(1.0, {}), Signal(0.0, {"C0": ("flat",)})
    told = [t for t in range(60) if watch.news(float(t), bad if t % 2 else good)]
    assert len(told) > 5
    assert min(np.diff(told)) >= 5


def test_the_channels_that_a_bundle_does_not_read_do_not_count() -> None:
    x = spoil(eeg(8, n_channels=5), "flat", 4)
    named = replace(info(n_channels=5), channels=("C0", "C1", "C2", "EOG", "REF"))
    made = play(plan(), {"eeg": named}, [chunk(x)])["prediction"]
    assert made[-1].modalities["eeg"]["quality"] == 1.0


def test_dropouts_lower_the_quality_to_the_share_that_came() -> None:
    x = eeg(12)
    x[3::4] = np.nan
    last = predictions(x)[-1].modalities["eeg"]
    assert last["quality"] == pytest.approx(0.75, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    faults=st.lists(
        st.tuples(st.sampled_from(FAULTS), st.integers(0, 2), st.integers(0, 1500)), max_size=4
    ),
)
def test_what_is_said_of_a_signal_does_not_depend_on_the_cut(
    seed: int, faults: list[tuple[str, int, int]]
) -> None:
    x = eeg(14, seed)
    for fault, channel, start in faults:
        x = spoil(x, fault, channel, start, start + 300)
    once = play(plan(), {"eeg": info()}, [chunk(x)])
    for size in (1, 7, 160, np.random.default_rng(seed)):
        assert play(plan(), {"eeg": info()}, recut([chunk(x)], size)) == once


def voice(x: Array, rate_hz: float = 16000.0) -> Signal:
    """What a voice of three seconds is thought of."""
    meter = made(StreamInfo("voice", "voice", rate_hz, ("mono",), "fs", (1,)), len(x))
    meter.push(x, np.ones(len(x), bool))
    found = meter.look(0, len(x) - 1)
    assert found is not None
    return found


def made(about: StreamInfo, n: int) -> Meter:
    meter = meter_of(about, (), about.rate_hz or 15.0, n)
    assert meter is not None
    meter.begin(0)
    return meter


def test_a_clipped_voice_and_a_dead_microphone_are_told_from_a_quiet_one() -> None:
    rng = np.random.default_rng(0)
    speech = (0.2 * rng.laplace(size=(48000, 1))).astype(np.float32)
    assert voice(0.3 * speech) == Signal(1.0, {})
    assert voice(0.003 * speech).faults == {}
    clipped = voice(np.clip(8 * speech, -1, 1))
    assert clipped.faults == {"mono": ("clipped",)}
    assert clipped.quality < 0.1
    assert voice(0 * speech).faults == {"mono": ("silent",)}
    pauses = 0.3 * speech
    pauses[8000:40000] = 0.0  # a gate that cuts the pauses is no fault
    assert voice(pauses) == Signal(1.0, {})


@needs_data
def test_real_speech_is_good() -> None:
    import soundfile

    clips = (
        sorted((DATA / "speech").rglob("*.flac"))[::20]
        + sorted((DATA / "speech").rglob("*.wav"))[::20]
    )
    assert len(clips) > 10
    for path in clips:
        x, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        assert voice(x[:, :1], rate_hz).quality > 0.9, path


def faces(pictures: Array) -> list[Signal]:
    """What single pictures (n, height, width) are thought of."""
    about = StreamInfo("face", "face", 15.0, ("grey",), "crop", (*pictures.shape[1:], 1))
    meter = made(about, len(pictures))
    meter.push(pictures[..., None].astype(np.float32), np.ones(len(pictures), bool))
    found = [meter.look(i, i) for i in range(len(pictures))]
    return [signal for signal in found if signal is not None]


@needs_data
def test_real_faces_are_good_until_they_are_blurred_or_badly_lit() -> None:
    with np.load(FACES) as file:
        x = file["x"][::10].astype(np.float64)
    good = [signal.quality > 0.7 for signal in faces(x)]
    assert np.mean(good) > 0.99
    blurred = faces(gaussian_filter(x, (0, 3, 3)))
    assert np.mean([s.faults == {"face": ("blur",)} for s in blurred]) > 0.95
    for wrong in (0.12 * x, 215 + 0.15 * x):
        lit = [("exposure" in signal.faults.get("face", ())) for signal in faces(wrong)]
        assert np.mean(lit) > 0.95


@needs_data
def test_a_real_recording_is_good_until_its_padding() -> None:
    recording, bundle = open_recording(EDF), Bundle.load("workload-eegmat")
    player = Player(recording_plan(recording, match_bundles(recording, {"": bundle})))
    (stream,) = recording.streams
    name = stream.info.name
    found: list[Prediction | Event | Any] = [
        *player.command("connect", stream=name, info=stream.info)
    ]
    found += [m for _, c in chunks(recording, player.session.streams) for m in player.push(c)]
    found += player.command("end", stream=name)
    about = {m.t: m.modalities[name] for m in found if isinstance(m, Prediction)}
    before = [one for t, one in about.items() if 5 <= t <= 60]
    assert len(before) > 100
    assert min(one["quality"] for one in before) > 0.95
    assert not any("faults" in one for one in before)
    padding = about[62.0]  # zeros from about 61 s on
    assert (padding["used"], padding["reason"]) == (False, "quality")
    assert "flat" in padding["faults"]["all"]


@needs_data
def test_electrodes_that_lie_on_the_table_are_found_in_a_real_recording() -> None:
    with gzip.open(OPENBCI, "rt") as file:
        rows = [line.split(",")[1:9] for line in file if line[0].isdigit()]
    x = np.array(rows, np.float32)
    about = StreamInfo("eeg", "eeg", 250.0, tuple("12345678"), "uV", (8,))
    meter = made(about, len(x))
    meter.push(x, np.ones(len(x), bool))
    signal = meter.look(1500, 2500)
    assert signal is not None
    assert {c for c, names in signal.faults.items() if "railed" in names} == {"3", "5", "6", "8"}
    assert "1" not in signal.faults
    assert "2" not in signal.faults


@pytest.mark.parametrize(
    ("unit", "x", "faults"),
    [
        ("uS", np.full(80, 0.004), {"x": ("flat", "amplitude")}),
        ("uS", 2 + np.random.default_rng(0).normal(0, 0.01, 80), {}),
        ("degC", np.full(80, 33.1), {}),
        ("g", np.full(80, 1.0), {}),
        ("au", np.full(80, 12.0), {"x": ("flat",)}),
    ],
)
def test_what_stands_still_is_wrong_only_where_life_moves_it(
    unit: str, x: Array, faults: dict[str, Sequence[str]]
) -> None:
    meter = made(StreamInfo("x", "physio", 4.0, ("x",), unit, (1,)), len(x))
    meter.push(x[:, None].astype(np.float32), np.ones(len(x), bool))
    signal = meter.look(0, len(x) - 1)
    assert signal is not None
    assert signal.faults == faults


def test_ready_made_features_are_not_judged() -> None:
    assert judge_of(StreamInfo("eeg", "eeg", 0.25, ("FP1 delta",), "nat", (1,))) is None
    assert judge_of(StreamInfo("m", "marker", None, ("marker",), "", (1,))) is None


@pytest.mark.slow
def test_a_recorded_session_with_a_fault_replays_to_the_same_verdicts(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text(
        "session: p1\npublish: tcp://127.0.0.1:*\ncontrol: tcp://127.0.0.1:*\nstreams:\n"
        "  eeg:\n    bundle: simulated-eeg\n    source:\n      type: simulate\n      kind: eeg\n"
        "      person: 3\n      faults: [{kind: flat, at_s: 1, for_s: 9}]\n"
        f"sinks: [{{type: jsonl, path: {tmp_path / 'live.jsonl'}}}]\n"
    )
    path = tmp_path / "a.mcap"
    assert main(["record", str(config), "--out", str(path), "--duration", "5"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "live.jsonl").read_text().splitlines()]
    told = [line["modalities"]["eeg"] for line in lines if "modalities" in line]
    assert any("flat" in names for one in told for names in one.get("faults", {}).values())
    assert main(["verify", str(path)]) == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["voice", "crop"]))
def test_what_is_said_of_voices_and_faces_does_not_depend_on_the_cut(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    if kind == "voice":
        about = StreamInfo("voice", "voice", 1000.0, ("left", "right"), "fs", (2,))
        x = np.clip(rng.laplace(size=(4000, 2)) * rng.choice([0.0, 0.1, 2.0]), -1, 1)
    else:
        about = StreamInfo("face", "face", 15.0, ("grey",), "crop", (16, 16, 1))
        x = rng.uniform(0, 255, (40, 16, 16, 1)) * rng.choice([0.05, 1.0], (40, 1, 1, 1))
    x, valid = x.astype(np.float32), rng.random(len(x)) < 0.9
    found = []
    for longest in (1, 7, len(x)):
        meter, at = made(about, len(x)), 0
        while at < len(x):
            n = int(rng.integers(1, longest + 1))
            meter.push(x[at : at + n], valid[at : at + n])
            at += n
        found.append([meter.look(first, len(x) - 1) for first in range(0, len(x), len(x) // 8)])
    assert found[0] == found[1] == found[2]
    assert found[0][0] is not None
