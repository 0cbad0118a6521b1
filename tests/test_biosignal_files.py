"""XDF, FIF, BDF, BrainVision and EEGLAB files, held against pyxdf and mne; and files as devices."""

from __future__ import annotations

import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ConfigError, DataError, SourceLost
from engine.player import Player
from engine.types import Chunk, Marker, Prediction
from sources.feed import play_recording, recording_plan
from sources.files import open_recording
from sources.lsl import LslSource
from sources.play import play
from tests.toys import toy

mne = pytest.importorskip("mne")
pyxdf = pytest.importorskip("pyxdf")
XDF = Path(__file__).parents[2] / "shared" / "data" / "xdf"
RATE_HZ = 128.0


def xdf(name: str) -> Path:
    if not (XDF / name).is_file():
        pytest.skip(f"no {name} here")
    return XDF / name


@pytest.mark.parametrize("name", ["clock_resets.xdf", "minimal.xdf", "empty_streams.xdf"])
def test_an_xdf_file_loads_as_pyxdf_loads_it(name: str) -> None:
    recording = open_recording(xdf(name))
    loaded, _ = pyxdf.load_xdf(str(XDF / name), verbose=False)
    signals = [
        one
        for one in loaded
        if one["info"]["channel_format"][0] != "string"
        and float(one["info"]["nominal_srate"][0]) > 0
        and len(one["time_stamps"])
    ]
    assert len(recording.streams) == len(signals)
    for stream, one in zip(recording.streams, signals, strict=True):
        assert stream.n_items == len(one["time_stamps"])
        read = stream.read(0, stream.n_items)
        assert np.array_equal(read, np.asarray(one["time_series"], np.float32))
        assert stream.stamps is not None
        positions, times_s = stream.stamps
        assert np.array_equal(times_s, one["time_stamps"][positions])
        whole = np.array([stream.time(i) for i in range(0, stream.n_items, 97)])
        assert np.abs(whole - one["time_stamps"][::97]).max() < 2e-3
    texts = [one for one in loaded if one["info"]["channel_format"][0] == "string"]
    assert len(recording.markers) == sum(len(one["time_stamps"]) for one in texts)


def test_a_clock_reset_makes_two_segments_and_a_rate_that_is_off_is_measured() -> None:
    recording = open_recording(xdf("clock_resets.xdf"))
    (stream,) = recording.streams
    assert stream.segment_starts == (0, 12876)
    assert stream.info.rate_hz == pytest.approx(92.934, abs=0.01)
    assert any("declared 100 Hz" in warning for warning in recording.warnings)


def test_a_damaged_xdf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.xdf").write_bytes(b"no xdf at all")
    with pytest.raises(DataError, match="is no XDF file"):
        open_recording(tmp_path / "x.xdf")


@pytest.fixture
def raw() -> Any:
    rng = np.random.default_rng(0)
    info = mne.create_info(["Fz", "Cz", "EOG1", "STI"], RATE_HZ, ["eeg", "eeg", "eog", "stim"])
    made = mne.io.RawArray(rng.normal(0, 1e-5, (4, 1280)), info, verbose="ERROR")
    made.set_annotations(mne.Annotations([2.0, 5.0], [0.0, 0.0], ["clap", "bow"]))
    return made


def save(raw: Any, folder: Path, suffix: str) -> Path:
    path = folder / f"a{'_raw' if suffix == '.fif' else ''}{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if suffix == ".fif":
            raw.save(path, verbose="ERROR")
        else:
            mne.export.export_raw(path, raw, verbose="ERROR")
    return path


@pytest.mark.parametrize("suffix", [".fif", ".set", ".vhdr", ".bdf"])
def test_a_file_that_mne_reads_has_its_signals_units_and_markers(
    raw: Any, suffix: str, tmp_path: Path
) -> None:
    try:
        path = save(raw, tmp_path, suffix)
    except (RuntimeError, ImportError, ValueError) as error:
        pytest.skip(f"mne cannot write it here: {error}")
    recording = open_recording(path)
    stream = recording.streams[0]
    assert stream.info.channels[:2] == ("Fz", "Cz")
    assert (stream.info.unit, stream.info.rate_hz) == ("uV", RATE_HZ)
    whole = stream.read(0, stream.n_items)
    assert np.abs(whole[:1280, :2] - 1e6 * raw.get_data()[:2].T).max() < 0.1
    assert np.array_equal(stream.read(100, 200), whole[100:200])
    if suffix in (".fif", ".vhdr", ".set"):
        assert [value for _, value in recording.markers if value in ("clap", "bow")]


def test_a_file_that_mne_cannot_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a_raw.fif").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="cannot be read"):
        open_recording(tmp_path / "a_raw.fif")


def test_markers_of_a_file_are_told_in_time_with_its_predictions(raw: Any, tmp_path: Path) -> None:
    recording = open_recording(save(raw, tmp_path, ".fif"))
    player = Player(recording_plan(recording, {"eeg": eeg_toy()}))
    told = list(play_recording(recording, player))
    markers = [(m.t, m.value) for m in told if isinstance(m, Marker)]
    assert markers == [(2.0, "clap"), (5.0, "bow")]
    at = [i for i, m in enumerate(told) if isinstance(m, Marker)]
    before = [m.t for m in told[: at[0]] if isinstance(m, Prediction)]
    assert max(before) <= 2.1


def eeg_toy() -> Any:
    return toy({"eeg": {"channels": ("Fz", "Cz"), "rate_hz": RATE_HZ}})


@pytest.mark.slow
def test_a_file_played_over_lsl_gives_the_items_of_its_replay_on_a_shifted_clock(
    raw: Any, tmp_path: Path
) -> None:
    recording = open_recording(save(raw.crop(0, 3.0), tmp_path, ".fif"))
    stop = threading.Event()
    sent: list[int] = []
    thread = threading.Thread(target=lambda: sent.append(play(recording, "eeg", stop=stop)))
    thread.start()
    found: list[Chunk] = []
    with LslSource(match={"source_id": "vagus-play-a_raw-eeg"}, stream="eeg") as source:
        info = source.info
        end_s = time.monotonic() + 15.0
        while sum(map(len, found)) < recording.streams[0].n_items and time.monotonic() < end_s:
            with suppress(SourceLost):
                chunk = source.read(0.5)
                found += [] if chunk is None else [chunk]
    thread.join(10.0)
    stream = recording.streams[0]
    items = np.concatenate([chunk.data for chunk in found])
    assert np.array_equal(items, stream.read(0, stream.n_items))
    assert sent == [stream.n_items]
    assert info.difference(stream.info) == ""
    shifts = [t - stream.time(i) for chunk in found for i, t in chunk.stamps]
    assert np.ptp(shifts) < 2e-3  # one clock, as far as LSL can measure it


def test_only_numbers_can_be_played_and_an_unknown_stream_is_named(
    raw: Any, tmp_path: Path
) -> None:
    recording = open_recording(save(raw, tmp_path, ".fif"))
    with pytest.raises(ConfigError, match="no stream 'egg'"):
        play(recording, "egg")
