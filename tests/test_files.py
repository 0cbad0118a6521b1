"""Readers: what a good file gives, and what is said about a bad one."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest

from engine.errors import DataError
from sources.files import inspect, open_recording, recordings_below

DATA = Path(__file__).resolve().parents[1].parent / "shared/data/eeg"


def needs(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"the shared data are not on this machine: {path.name}")
    return path


def save_npz(path: Path, **change: Any) -> Path:
    """An npz recording of 50 items with 2 channels; a key given as None is left out."""
    arrays: dict[str, Any] = {
        "x": np.arange(100, dtype=np.float64).reshape(50, 2),
        "rate_hz": 25.0,
        "channels": ["a", "b"],
        "kind": "physio",
        "unit": "uS",
    }
    arrays.update(change)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def signal(label: str, rate_hz: float = 100.0, unit: str = "uV", gain: float = 1.0) -> Any:
    x = gain * np.random.default_rng(len(label)).normal(0, 20, round(4 * rate_hz))
    span = (-200.0 * gain, 200.0 * gain)
    return edfio.EdfSignal(x, rate_hz, label=label, physical_dimension=unit, physical_range=span)


def save_edf(path: Path, *signals: Any, **kwargs: Any) -> Path:
    """An EDF of 4 s in records of 1 s."""
    edfio.Edf(list(signals), data_record_duration=1, **kwargs).write(path)
    return path


def damaged(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def test_npz_gives_its_items_names_and_rate(tmp_path: Path) -> None:
    recording = open_recording(save_npz(tmp_path / "p1.npz"))
    (stream,) = recording.streams
    assert (recording.name, stream.info.name, stream.info.kind) == ("p1", "physio", "physio")
    assert (stream.info.rate_hz, stream.info.channels, stream.info.unit) == (25, ("a", "b"), "uS")
    x = stream.read(10, 13)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, [[20, 21], [22, 23], [24, 25]])
    assert (stream.n_items, stream.stamps, stream.truth, stream.segments) == (50, None, None, 1)


def test_npz_clock_and_labels_come_with_the_stream(tmp_path: Path) -> None:
    t = 100 + np.arange(50) / 24.0
    label = np.array(["calm"] * 20 + [""] * 10 + ["sad"] * 20)
    (stream,) = open_recording(save_npz(tmp_path / "p.npz", t=t, label=label)).streams
    assert stream.truth == ((0, "calm"), (20, None), (30, "sad"))
    assert stream.time(7) == t[7]


def test_one_label_stands_for_the_whole_recording(tmp_path: Path) -> None:
    assert open_recording(save_npz(tmp_path / "p.npz", label="sad")).streams[0].truth == (
        (0, "sad"),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"x": None},
            r"no x in it; there are rate_hz, channels, kind, unit, needed are x, rate_hz",
        ),
        ({"rate_hz": None}, "no rate_hz in it"),
        ({"x": np.array([[1, "b"]], object)}, "x holds Python objects, which are never unpickled"),
        ({"x": np.zeros((9, 2), complex)}, "x is of type complex128; need real numbers"),
        ({"x": np.zeros(9)}, r"x has the shape \(9,\); need \(time, channels\)"),
        ({"x": np.zeros((0, 2))}, "holds no items"),
        ({"x": np.zeros((9, 3))}, r"channels has 2 names, x \(9, 3\) has 3 channels"),
        ({"rate_hz": 0.0}, "rate_hz is 0.0; need one number above 0"),
        ({"rate_hz": -25}, "rate_hz is -25; need one number above 0"),
        ({"rate_hz": np.nan}, "rate_hz is nan"),
        ({"rate_hz": [1.0, 2.0]}, r"rate_hz is \[1.0, 2.0\]; need one"),
        ({"rate_hz": "fast"}, "rate_hz is of type <U4"),
        ({"kind": "eg"}, "kind is 'eg'; need one of eeg, face"),
        ({"channels": [1, 2]}, "channels is int64"),
        ({"t": np.zeros(3)}, r"t has the shape \(3,\); need one time for each of the 50"),
        ({"t": np.r_[0:49, 3.0]}, r"t\[49\] is 3; need seconds that never fall"),
        ({"label": ["a", "b"]}, "label is <U1"),
    ],
)
def test_npz_that_does_not_fit_is_refused_with_what_would(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = save_npz(tmp_path / "p.npz", **change)
    with pytest.raises(DataError, match=said) as caught:
        open_recording(path)
    assert str(caught.value).startswith(str(path))


def test_foreign_and_torn_npz_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "a.npz"
    foreign.write_text("time,a,b\n0,1,2\n")
    torn = damaged(save_npz(tmp_path / "b.npz"), lambda b: b[: len(b) // 2])
    flipped = damaged(save_npz(tmp_path / "c.npz"), lambda b: b[:150] + b"\x55" * 9 + b[159:])
    for path, said in ((foreign, "not a zip"), (torn, "not a zip"), (flipped, "damaged")):
        with pytest.raises(DataError, match=said):
            open_recording(path)


@pytest.mark.parametrize("suffix", [".npz", ".edf"])
def test_random_damage_gives_a_data_error_or_a_readable_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    if suffix == ".npz":
        save_npz(path, t=np.arange(50.0), label="sad")
    else:
        save_edf(path, signal("EEG Cz"), signal("EEG Pz"), annotations=[])
    good, rng, refused = path.read_bytes(), np.random.default_rng(5), 0
    for _ in range(300):
        body = bytearray(good[: rng.integers(1, len(good)) if rng.random() < 0.1 else None])
        for at in rng.integers(0, min(len(body), 1200), rng.integers(1, 4)):
            body[at] = rng.choice([rng.integers(0, 256), *b"0129 .-+"])
        path.write_bytes(body)
        try:
            (stream,) = open_recording(path).streams
            stream.read(0, min(10, stream.n_items))
            inspect(path)
        except DataError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("suffix", [".npz", ".edf"])
def test_empty_file_is_called_empty(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    path.touch()
    with pytest.raises(DataError, match="the file is empty"):
        open_recording(path)


def test_missing_file_names_the_nearest_in_its_folder(tmp_path: Path) -> None:
    save_npz(tmp_path / "sub-01.npz")
    with pytest.raises(DataError, match=r"no such file; did you mean 'sub-01\.npz'\?"):
        open_recording(tmp_path / "sub-1.npz")
    with pytest.raises(DataError, match="no folder"):
        open_recording(tmp_path / "there" / "p.npz")
    with pytest.raises(DataError, match="a folder, where one file is needed"):
        open_recording(tmp_path)


def test_unknown_suffix_names_the_readable_ones(tmp_path: Path) -> None:
    path = tmp_path / "p.docx"
    path.write_text("hello")
    with pytest.raises(DataError, match=r"cannot read \.docx; readable are .*\.csv, \.edf, "):
        open_recording(path)


def test_edf_gives_microvolts_of_the_commonest_rate_and_names_the_rest(tmp_path: Path) -> None:
    fp1, ecg = signal("EEG Fp1"), signal("ECG", unit="mV", gain=1e-3)
    path = save_edf(tmp_path / "p.edf", fp1, ecg, signal("Resp", 25.0), signal("Temp", unit="degC"))
    recording = open_recording(path)
    (stream,) = recording.streams
    assert (stream.info.channels, stream.info.unit, stream.info.kind) == (
        ("Fp1", "ECG"),
        "uV",
        "eeg",
    )
    assert (stream.info.rate_hz, stream.n_items) == (100.0, 400)
    assert len(recording.warnings) == 2
    assert any("Resp: 25 Hz" in warning for warning in recording.warnings)
    assert any("Temp: its unit is 'degC'" in warning for warning in recording.warnings)
    x = stream.read(133, 290)
    np.testing.assert_allclose(x[:, 0], fp1.data[133:290], atol=0.01)
    np.testing.assert_allclose(x[:, 1], 1e3 * ecg.data[133:290], atol=0.01)


def test_edf_annotations_are_markers_and_its_start_a_wall_time(tmp_path: Path) -> None:
    recording = open_recording(
        save_edf(
            tmp_path / "p.edf",
            signal("EEG Cz"),
            annotations=[
                edfio.EdfAnnotation(1.25, None, "open"),
                edfio.EdfAnnotation(3, 1, "shut"),
            ],
            recording=edfio.Recording(startdate=datetime.date(2020, 2, 3)),
            starttime=datetime.time(4, 5, 6),
        )
    )
    assert recording.markers == ((1.25, "open"), (3.0, "shut"))
    assert (
        recording.start_wall
        == datetime.datetime(2020, 2, 3, 4, 5, 6, tzinfo=datetime.UTC).timestamp()
    )


def test_edf_without_a_date_has_no_wall_time(tmp_path: Path) -> None:
    path = save_edf(tmp_path / "p.edf", signal("EEG Cz"), recording=edfio.Recording())
    assert open_recording(path).start_wall is None


def test_edf_that_pauses_has_a_segment_for_each_run(tmp_path: Path) -> None:
    path = save_edf(tmp_path / "p.edf", signal("EEG Cz"), annotations=[])

    def pause(b: bytes) -> bytes:
        b = b.replace(b"EDF+C", b"EDF+D").replace(b"+2\x14", b"+5\x14")
        return b.replace(b"+3\x14", b"+6\x14")

    (stream,) = open_recording(damaged(path, pause)).streams
    assert stream.segment_starts == (0, 200)
    assert [stream.time(i) for i in (0, 199, 200, 399)] == [0, 1.99, 5, 6.99]
    described = inspect(path)
    assert described["duration_s"] == 7
    assert described["streams"][0]["measured_rate_hz"] == pytest.approx(100)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_truncated_edf_says_how_many_records_are_there(tmp_path: Path, kept: float) -> None:
    path = save_edf(tmp_path / "p.edf", signal("EEG Cz"))
    damaged(path, lambda b: b[: 512 + int(kept * (len(b) - 512))])
    there = 2 if kept == 0.5 else 3
    with pytest.raises(DataError, match=f"promises 4 data records of 200 bytes; there are {there}"):
        open_recording(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b"\x89PNG" + b[4:], "not an EDF file"),
        (lambda b: b[:100], "not an EDF file"),
        (lambda b: b[:236] + b"many    " + b[244:], "damaged EDF header"),
        (lambda b: b[:252] + b"9   " + b[256:], "damaged EDF header"),
        (lambda b: b[:360] + b"wide    " + b[368:], "damaged EDF header"),
    ],
)
def test_edf_that_is_none_or_damaged_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    path = damaged(save_edf(tmp_path / "p.edf", signal("EEG Cz")), change)
    with pytest.raises(DataError, match=said):
        open_recording(path)


def test_edf_signal_whose_range_has_no_width_is_left_out(tmp_path: Path) -> None:
    path = save_edf(tmp_path / "p.edf", signal("EEG Cz"), signal("EEG Pz"))
    # physical_min and _max of two signals follow label, transducer and unit: 104 bytes for each
    at = 256 + 2 * 104
    damaged(path, lambda b: b[:at] + b"0       5       0       5" + b[at + 25 :])
    recording = open_recording(path)
    assert recording.streams[0].info.channels == ("Pz",)
    assert recording.warnings == ("EEG Cz: its range has no width",)


def test_edf_without_a_signal_in_volts_is_refused(tmp_path: Path) -> None:
    path = save_edf(tmp_path / "p.edf", signal("Temp", unit="degC"))
    with pytest.raises(DataError, match="no signal in volts in it; Temp: its unit is 'degC'"):
        open_recording(path)


def test_inspect_describes_each_stream(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "p.npz", t=10 + np.arange(50) / 20.0)
    described = inspect(path)
    assert (described["duration_s"], described["markers"]) == (pytest.approx(49 / 20 + 1 / 25), 0)
    (stream,) = described["streams"]
    assert stream.pop("measured_rate_hz") == pytest.approx(20.0)
    assert stream == {
        "name": "physio",
        "kind": "physio",
        "n": 50,
        "rate_hz": 25.0,
        "channels": ["a", "b"],
        "unit": "uS",
        "segments": 1,
        "first_s": 10.0,
        "last_s": 12.45,
    }


def test_a_folder_lists_its_recordings_with_9_before_10(tmp_path: Path) -> None:
    for name in ("s10/p1.npz", "s9/p10.edf", "s9/p9.NPZ", "notes.txt", "p2.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in recordings_below(tmp_path)]
    assert found == ["p2.npz", "s9/p9.NPZ", "s9/p10.edf", "s10/p1.npz"]
    assert recordings_below(tmp_path / "p2.npz") == [tmp_path / "p2.npz"]
    with pytest.raises(DataError, match="no recording in this folder"):
        recordings_below(tmp_path, {".mcap"})


def test_the_two_layouts_of_a_real_recording_hold_the_same_eeg() -> None:
    from scipy.signal import resample_poly

    (edf,) = open_recording(needs(DATA / "eegmat_edf/Subject01_2.edf")).streams
    (npz,) = open_recording(needs(DATA / "eegmat_128hz/Subject01_2.npz")).streams
    assert (edf.info.rate_hz, npz.info.rate_hz) == (500.0, 128.0)
    assert edf.info.channels[:20] == npz.info.channels[:20]
    assert (npz.n_items, edf.n_items) == (62 * 128, 62 * 500)
    a = resample_poly(edf.read(0, edf.n_items), 32, 125, axis=0)[128:-128, :19]
    b = npz.read(0, npz.n_items)[128:-128, :19]
    for column in range(19):
        assert np.corrcoef(a[:, column], b[:, column])[0, 1] > 0.95
        assert np.std(a[:, column]) == pytest.approx(np.std(b[:, column]), rel=0.1)


def test_inspect_of_a_real_edf_agrees_with_its_header() -> None:
    described = inspect(needs(DATA / "eegmat_edf/Subject01_1.edf"))
    assert (described["duration_s"], described["markers"]) == (182, 1)
    (stream,) = described["streams"]
    assert (stream["n"], len(stream["channels"]), stream["channels"][0]) == (91000, 21, "Fp1")
