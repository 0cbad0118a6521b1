"""Stress-Predict and eegmat: streams of one clock, truth by the second, effects that are found."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.types import Array
from offline.datasets import LabelledRecording
from offline.datasets.eegmat import CHANNELS
from offline.fixtures import Fixture, eegmat, stress_predict
from offline.readers import open_labelled, read, reader
from sources.recording import RecordedStream

DATA = Path(__file__).parents[2] / "shared" / "data" / "physio"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not there")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fixture]:
    root = tmp_path_factory.mktemp("stress-predict")
    return root, stress_predict.write(root, seed=0)


def streams(recording: LabelledRecording) -> dict[str, RecordedStream]:
    return {stream.info.name: stream for stream in open_labelled(recording).streams}


def label_at(stream: RecordedStream, at_s: float) -> str | None:
    """The truth of the item that stands at `at_s`, straight from the definition."""
    position = round((at_s - stream.time(0)) * (stream.info.rate_hz or 0.0))
    held = [label for first, label in stream.truth or () if first <= position]
    return held[-1] if held else None


def packed(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()))


def test_a_subject_is_four_streams_with_their_units(planted: tuple[Path, Fixture]) -> None:
    root, _ = planted
    first, *others = read("stress-predict", root)
    assert (first.uid, first.subject, first.label) == (
        "stress-predict-S02/1",
        "stress-predict-S02",
        "",
    )
    told = {
        name: (s.info.rate_hz, s.info.unit, s.info.channels) for name, s in streams(first).items()
    }
    assert told == {
        "bvp": (64.0, "au", ("BVP",)),
        "eda": (4.0, "uS", ("EDA",)),
        "acc": (32.0, "g", ("x", "y", "z")),
        "temp": (4.0, "degC", ("TEMP",)),
    }
    assert all(s.info.kind == "physio" for s in streams(first).values())
    gravity = np.linalg.norm(streams(first)["acc"].read(0, 100), axis=1)
    assert gravity.mean() == pytest.approx(1.0, abs=0.1)
    assert set(streams(others[-1])) == {"bvp", "eda", "temp"}


def test_truth_is_that_of_the_labels_second_in_every_stream(planted: tuple[Path, Fixture]) -> None:
    root, _ = planted
    recording = read("stress-predict", root)[0]
    with gzip.open(recording.path.parent / "labels.csv.gz", "rt") as file:
        rows = [line.split(",") for line in file.read().splitlines()[1:]]
    start_s = open_labelled(recording).start_wall
    assert start_s is not None
    for stream in streams(recording).values():
        assert label_at(stream, 5.0) is None  # it settles, and nothing is labelled
        for unix_s, code, *_ in rows[::7]:
            at_s = float(unix_s) - start_s
            if at_s + 0.6 < stream.end_s:
                assert label_at(stream, at_s + 0.5) == ("baseline", "stress")[int(code)]


def test_streams_that_begin_at_other_times_stay_aligned(
    planted: tuple[Path, Fixture], tmp_path: Path
) -> None:
    root, _ = planted
    shutil.copytree(root / "S02", tmp_path / "S02")
    path = tmp_path / "S02" / "EDA.csv.gz"
    start, rate, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    late = f"{float(start) + 3:.6f}"  # the first three seconds of skin conductance are missing
    packed(path, "\n".join([late, rate, *rows[12:], ""]))
    (before,) = [r for r in read("stress-predict", root) if r.path.parent.name == "S02"]
    (after,) = read("stress-predict", tmp_path)
    whole, cut = streams(before)["eda"], streams(after)["eda"]
    assert (cut.time(0), cut.end_s) == (3.0, whole.end_s)
    assert np.array_equal(cut.read(0, 40), whole.read(12, 52))
    for at_s in np.arange(3.0, 480.0, 13.0):
        assert label_at(cut, at_s) == label_at(whole, at_s)
    assert streams(after)["bvp"].time(0) == 0.0


def test_seconds_without_a_label_are_of_unknown_truth(
    planted: tuple[Path, Fixture], tmp_path: Path
) -> None:
    root, _ = planted
    shutil.copytree(root / "S02", tmp_path / "S02")
    path = tmp_path / "S02" / "labels.csv.gz"
    rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    packed(path, "\n".join([*rows[:21], *rows[31:61]]))
    skin = streams(read("stress-predict", tmp_path)[0])["eda"]
    held = [label_at(skin, at_s) for at_s in (29.5, 30.0, 39.5, 40.0, 69.5, 70.5)]
    assert held == ["baseline", None, None, "baseline", "baseline", None]


def test_who_has_no_labels_is_left_out_and_what_is_damaged_is_named(
    planted: tuple[Path, Fixture], tmp_path: Path
) -> None:
    root, _ = planted
    assert [Path(b.file).name for b in reader("stress-predict").left_out(root)] == ["S01"]
    assert reader("stress-predict").broken(root) == []
    for name in ("S02", "S03", "S04", "S05"):
        shutil.copytree(root / name, tmp_path / name)
    (tmp_path / "S02" / "EDA.csv.gz").unlink()
    torn = tmp_path / "S03" / "BVP.csv.gz"
    torn.write_bytes(torn.read_bytes()[:2000])
    packed(tmp_path / "S04" / "labels.csv.gz", "unix_s,label\n1,0\n2,2\n")
    packed(tmp_path / "S05" / "TEMP.csv.gz", "1,1\n4,4\n1,2\n")
    told = {
        "/".join(Path(b.file).parts[-2:]): b.reason
        for b in reader("stress-predict").broken(tmp_path)
    }
    assert told["S02/EDA.csv"] == "missing"
    assert told["S03/BVP.csv.gz"].startswith("damaged: ")
    assert "3: the label '2' is not 0 or 1" in told[f"{tmp_path.name}/S04"]
    assert "need a row with the start" in told["S05/TEMP.csv.gz"]
    assert len(told) == 4


def test_an_empty_folder_is_told_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no Stress-Predict recording below this folder"):
        read("stress-predict", tmp_path)


def heart_and_skin(recording: LabelledRecording) -> tuple[Array, list[str]]:
    """(windows, 2): rate of the heart and log of skin conductance in the middle of each phase."""
    opened = streams(recording)
    pulse, skin = opened["bvp"], opened["eda"]
    rows, labels = [], []
    for start_s in range(20, 480, 80):
        wave = pulse.read(64 * start_s, 64 * (start_s + 60))[:, 0]
        power = np.abs(np.fft.rfft((wave - wave.mean()) * np.hanning(len(wave)), 1 << 15))
        hz = np.fft.rfftfreq(1 << 15, 1 / 64)
        inside = (hz > 0.7) & (hz < 2.5)
        beat_hz = hz[inside][power[inside].argmax()]
        level = skin.read(4 * start_s, 4 * (start_s + 60)).mean()
        rows.append([60 * beat_hz / 10, np.log(level)])
        labels.append(str(label_at(pulse, start_s + 30.0)))
    return np.array(rows), labels


def test_planted_stress_is_found_in_people_who_were_not_trained_on(
    planted: tuple[Path, Fixture],
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    root, fixture = planted
    found = [heart_and_skin(recording) for recording in read("stress-predict", root)]
    x = np.concatenate([rows for rows, _ in found])
    y = np.concatenate([labels for _, labels in found])
    person = np.repeat(np.arange(len(found)), 6)
    guess = np.empty_like(y)
    swapped = np.empty_like(y)  # the two sensors taken for each other
    for one in range(len(found)):
        model = LogisticRegression(C=10).fit(x[person != one], y[person != one])
        guess[person == one] = model.predict(x[person == one])
        swapped[person == one] = model.predict(x[person == one][:, ::-1])
    uar = balanced_accuracy_score(y, guess)
    assert 0.6 < uar < fixture.bayes["stress"] + 0.08, uar
    assert balanced_accuracy_score(y, swapped) < 0.6


@real
def test_the_real_recordings_are_all_there_and_labelled() -> None:
    found = read("stress-predict", DATA)
    assert len(found) == 23
    assert [Path(b.file).name for b in reader("stress-predict").left_out(DATA)] == ["S01"]
    opened = streams(found[0])
    assert list(opened) == ["bvp", "eda", "acc", "temp"]
    assert opened["bvp"].truth == (
        (0, None), (9 * 64, "baseline"), (622 * 64, "stress"), (998 * 64, "baseline"),
        (1270 * 64, "stress"), (1925 * 64, "baseline"), (2227 * 64, "stress"),
        (2357 * 64, "baseline"),
    )  # fmt: skip


def band_contrasts(recordings: Sequence[LabelledRecording], order: Array) -> Array:
    """(windows, channels): log power at 10 Hz of every 4 s, channels taken in `order`."""
    rows = []
    for recording in recordings:
        (stream,) = open_labelled(recording).streams
        rate = round(stream.info.rate_hz or 0)
        for first in range(0, stream.n_items - 4 * rate + 1, 4 * rate):
            x = stream.read(first, first + 4 * rate)[:, order]
            wave = np.exp(-2j * np.pi * 10.0 * np.arange(len(x)) / rate)
            rows.append(np.log(np.abs(wave @ x)))
    return np.array(rows)


def test_the_planted_task_lies_in_the_place_of_alpha_and_nowhere_else(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    fixture = eegmat.write(tmp_path, seed=0)
    found = read("eegmat", tmp_path)
    assert reader("eegmat").broken(tmp_path) == []
    right = np.arange(len(CHANNELS))
    back = np.flatnonzero(np.isin(CHANNELS, eegmat.BACK))
    front = np.flatnonzero(~np.isin(CHANNELS, eegmat.BACK))
    wrong = right.copy()  # half of the back stands where half of the front should
    wrong[back[::2]], wrong[front[:5]] = front[:5], back[::2]
    people = sorted({r.subject for r in found})
    train = [r for r in found if r.subject in people[:6]]
    test = [r for r in found if r.subject in people[6:]]
    y, truth = ([r.label for r in part for _ in range(_pieces(r))] for part in (train, test))
    model = LogisticRegression(C=0.1, max_iter=1000).fit(band_contrasts(train, right), y)
    uar = balanced_accuracy_score(truth, model.predict(band_contrasts(test, right)))
    assert 0.6 < uar < fixture.bayes["task"] + 0.08, uar
    lost = balanced_accuracy_score(truth, model.predict(band_contrasts(test, wrong)))
    assert 0.35 < lost < 0.65


def _pieces(recording: LabelledRecording) -> int:
    (stream,) = open_labelled(recording).streams
    return stream.n_items // round(4 * (stream.info.rate_hz or 0))


def test_both_layouts_of_eegmat_can_be_written(tmp_path: Path) -> None:
    eegmat.write(tmp_path, subjects=1, layout="edf")
    rest, task = read("eegmat", tmp_path)
    assert (rest.label, task.label, rest.path.suffix) == ("rest", "task", ".edf")
    assert reader("eegmat").broken(tmp_path) == []
    (stream,) = open_labelled(rest).streams
    assert (stream.info.rate_hz, stream.n_items) == (500.0, 92 * 500)
    assert 5 < stream.read(0, 5000).std() < 20  # microvolts
