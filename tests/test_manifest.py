"""Collections of one's own: a csv of files, our recordings with markers, and parts of either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine import wire
from engine.clock import SettableClock
from engine.errors import ConfigError, DataError
from engine.log import LogHeader, LogWriter
from engine.types import Array, Chunk, Marker, StreamInfo
from offline.datasets import LabelledRecording
from offline.datasets.excerpt import excerpt, position_at
from offline.fixtures import manifest, recording
from offline.readers import open_labelled, read, reader
from sources.recording import RecordedStream, Recording

HEAD = "file,label,subject"
INFO = StreamInfo("eeg", "eeg", 10.0, ("a", "b"), "uV", (2,))


def npz(path: Path, seconds: int = 10) -> Path:
    x = np.arange(20 * seconds, dtype=np.float32).reshape(-1, 2)
    np.savez(path, x=x, rate_hz=10.0, channels=np.array(["a", "b"]), kind=np.array("eeg"))
    return path


def table(folder: Path, *rows: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([*rows, ""]))
    return path


def items(n: int) -> RecordedStream:
    """`n` items that tell their position, and truth that changes."""
    data = np.repeat(np.arange(n, dtype=np.float32)[:, None], 2, axis=1)
    truth = ((0, "calm"), (35, None), (50, "happy"))
    return RecordedStream(INFO, n, lambda a, b: data[a:b], None, truth)


# -- the csv ----------------------------------------------------------------------------------


def test_a_row_is_a_recording_and_other_columns_are_groups(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    npz(tmp_path / "sub" / "one.npz")
    path = table(
        tmp_path,
        f"{HEAD},session,gender,age",
        "sub/one.npz,happy,7,day-2,f,",
    )
    (found,) = read("manifest", path)
    assert (found.uid, found.subject, found.label) == (
        "manifest-7/day-2/one",
        "manifest-7",
        "happy",
    )
    assert (found.session, found.trial, found.groups) == ("day-2", "one", {"gender": "f"})
    assert found.path == tmp_path / "sub" / "one.npz"
    assert open_labelled(found).streams[0].n_items == 100


def test_start_and_end_cut_a_part_out_of_a_file(tmp_path: Path) -> None:
    npz(tmp_path / "one.npz")
    path = table(
        tmp_path,
        f"{HEAD},start_s,end_s",
        "one.npz,happy,7,2.5,4",
        "one.npz,sad,7,4,",
        "one.npz,calm,7,,1",
    )
    found = read("manifest", path)
    assert [r.uid for r in found] == [
        *("manifest-7/one-2.5", "manifest-7/one-4", "manifest-7/one-"),
    ]
    parts = [open_labelled(r).streams[0] for r in found]
    assert [part.n_items for part in parts] == [15, 60, 10]
    assert parts[0].read(0, 2).tolist() == [[50.0, 51.0], [52.0, 53.0]]
    assert parts[0].time(0) == 0.0


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("one.npz,hapy,7", r":3: 'hapy' is no canonical label; did you mean 'happy'\?"),
        ("one.npz,sad,", ":3: the subject is empty"),
        (",sad,7", ":3: the file is empty"),
        ("one.npz,sad,7,4,2", r":3: start_s 4 and end_s 2: need 0 <= start_s < end_s"),
        ("one.npz,sad,7,soon,", ":3: start_s 'soon' and end_s '' must be seconds"),
        ("one.npz,sad,7,1,2,3", ":3: more fields than columns"),
        ("one.npz,sad,1,0,5", ":3: the same subject, session and trial as line 2"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: str, words: str) -> None:
    npz(tmp_path / "one.npz")
    path = table(tmp_path, f"{HEAD},start_s,end_s", "one.npz,calm,1,0,1", row)
    with pytest.raises(DataError, match=words):
        read("manifest", path)


def test_words_of_ones_own_are_labels_where_the_option_says_so(tmp_path: Path) -> None:
    npz(tmp_path / "one.npz")
    path = table(tmp_path, HEAD, "one.npz,bored,7")
    with pytest.raises(DataError, match="'bored' is no canonical label"):
        read("manifest", path)
    (found,) = read("manifest", path, {"labels": "any"})
    assert (found.label, found.options) == ("bored", {"labels": "any"})
    with pytest.raises(ConfigError, match="none of canonical, any"):
        read("manifest", path, {"labels": "some"})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), ":1: no column file, label, subject"),
        (("file;label;subject",), ":1: no column file, label, subject"),
        ((HEAD,), "no row behind the first line"),
    ],
)
def test_a_csv_without_what_is_needed_is_refused(
    tmp_path: Path, rows: Sequence[str], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read("manifest", table(tmp_path, *rows))


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a manifest is a csv with file,label,subject"):
        read("manifest", tmp_path)


def test_missing_files_and_empty_parts_are_broken(tmp_path: Path) -> None:
    npz(tmp_path / "one.npz")
    path = table(
        tmp_path, f"{HEAD},start_s", "one.npz,sad,7,3", "one.npz,sad,8,30", "none.npz,sad,9,"
    )
    reasons = [b.reason for b in reader("manifest").broken(path)]
    assert len(reasons) == 2
    assert "nothing stands from 30 to inf s; it lasts from 0 to 10 s" in reasons[0]
    assert "no such file" in reasons[1]


def amplitudes(found: Sequence[LabelledRecording], order: Sequence[int]) -> Array:
    parts = [open_labelled(r).streams[0] for r in found]
    return np.array([np.log(p.read(0, p.n_items)[:, order].std(axis=0)) for p in parts])


def test_the_planted_channel_tells_the_emotion_and_a_shuffled_order_does_not(
    tmp_path: Path,
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    fixture = manifest.write(tmp_path, seed=0)
    found = read("manifest", tmp_path / "manifest.csv")
    assert reader("manifest").broken(tmp_path / "manifest.csv") == []
    known = [r for r in found if int(r.subject.rpartition("-")[2]) % 2]
    new = [r for r in found if r not in known]
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(amplitudes(known, range(4)), [r.label for r in known])
    truth = [r.label for r in new]
    uar = balanced_accuracy_score(truth, model.predict(amplitudes(new, range(4))))
    assert 0.6 < uar < fixture.bayes["emotion"] + 0.08, uar
    wrong = balanced_accuracy_score(truth, model.predict(amplitudes(new, (1, 2, 3, 0))))
    assert wrong < 0.35


# -- parts of recordings ----------------------------------------------------------------------


def test_a_part_carries_its_truth_from_where_it_begins() -> None:
    whole = Recording("r", Path("r"), (items(100),), ((2.0, "a"), (4.5, "b")), 1000.0)
    part = excerpt(whole, 3.0, 6.0)
    (stream,) = part.streams
    assert stream.n_items == 30
    assert stream.truth == ((0, "calm"), (5, None), (20, "happy"))
    assert (part.markers, part.start_wall) == (((1.5, "b"),), 1003.0)
    assert stream.read(0, 1)[0, 0] == 30.0


def test_a_part_of_a_stream_with_stamps_keeps_its_clock_and_its_segments() -> None:
    data = np.arange(100, dtype=np.float32)[:, None]
    stamps = np.array([0, 40]), np.array([1.0, 9.0])
    stream = RecordedStream(
        StreamInfo("x", "physio", 10.0, ("x",), "", (1,)),
        100,
        lambda a, b: data[a:b],
        stamps,
        None,
        (0, 40),
    )
    assert [position_at(stream, t) for t in (0.0, 1.0, 4.95, 5.0, 9.0, 99.0, math.inf)] == [
        *(0, 0, 40, 40, 40, 100, 100),
    ]
    (part,) = excerpt(Recording("r", Path("r"), (stream,)), 4.0, 9.5).streams
    assert (part.n_items, part.segment_starts) == (15, (0, 10))
    assert [part.time(k) for k in (0, 9, 10, 14)] == pytest.approx([0.0, 0.9, 5.0, 5.4])
    assert part.read(9, 11)[:, 0].tolist() == [39.0, 40.0]


# -- our own recordings -----------------------------------------------------------------------


def log(
    path: Path, markers: Sequence[tuple[float, str]], first: Sequence[int] = (0,), raw: bool = True
) -> Path:
    """Chunks of ten items at the indices `first`, stamped by their index, from second 100 on."""
    header = LogHeader("run", path.stem, "{}", 100.0, 1e9, {})
    writer = LogWriter(path, header, clock=SettableClock(100.0), raw=raw)
    writer.command("connect", {"stream": "eeg", "info": INFO})
    for index in first:
        data = np.full((10, 2), index, np.float32) + np.arange(10, dtype=np.float32)[:, None]
        writer.chunk(Chunk("eeg", 0, index, ((index, 101.0 + index / 10),), data))
    for k, (t, value) in enumerate(markers):
        told = Marker("run", path.stem, k, 100.0 + t, None, "control", value)
        writer.message("marker", wire.encode(told))
    writer.close({})
    return path


def test_markers_of_a_recording_become_its_truth(tmp_path: Path) -> None:
    log(
        tmp_path / "p01.mcap",
        [(1.5, "label=stress"), (1.7, "door"), (2.0, "baseline"), (2.6, "label=")],
        first=(0, 10),
    )
    (found,) = read("recording", tmp_path)
    assert (found.uid, found.subject, found.label) == ("recording-p01/p01", "recording-p01", "")
    opened = open_labelled(found)
    (stream,) = opened.streams
    assert (stream.info, stream.n_items) == (INFO, 20)
    assert stream.truth == ((0, None), (5, "stress"), (10, "baseline"), (16, None))
    assert [stream.time(k) for k in (0, 19)] == pytest.approx([1.0, 2.9])
    assert stream.read(9, 11)[:, 0].tolist() == [9.0, 10.0]
    assert opened.start_wall == pytest.approx(1e9 + 101.0)


def test_an_index_that_jumps_begins_a_segment(tmp_path: Path) -> None:
    log(tmp_path / "p01.mcap", [(1.0, "calm")], first=(0, 10, 50))
    (stream,) = open_labelled(read("recording", tmp_path)[0]).streams
    assert stream.segment_starts == (0, 20)
    assert stream.time(20) == pytest.approx(6.0)


def test_recordings_without_labels_or_signals_are_told(tmp_path: Path) -> None:
    log(tmp_path / "p01.mcap", [(1.0, "calm")])
    log(tmp_path / "p02.mcap", [(1.0, "door")])
    log(tmp_path / "p03.mcap", [(1.0, "calm")], raw=False)
    assert [r.path.stem for r in read("recording", tmp_path)] == ["p01", "p02"]
    (fault,) = reader("recording").broken(tmp_path)
    assert "no marker names a label" in fault.reason
    (left,) = reader("recording").left_out(tmp_path)
    assert (Path(left.file).stem, left.reason) == ("p03", "holds no raw signals (raw: false)")
    with pytest.raises(DataError, match="record with raw: true"):
        read("recording", tmp_path / "p03.mcap")


def test_planted_stress_is_found_between_the_markers(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    fixture = recording.write(tmp_path, seed=0)
    rows, labels, person = [], [], []
    for number, found in enumerate(read("recording", tmp_path)):
        opened = {stream.info.name: stream for stream in open_labelled(found).streams}
        skin, pulse = opened["eda"], opened["bvp"]
        for (first, label), start_s in zip(skin.truth or (), range(0, 160, 20), strict=True):
            assert first == 4 * start_s
            wave = pulse.read(32 * start_s, 32 * (start_s + 20))
            rows.append([np.log(skin.read(first, first + 80)).mean(), np.log(wave.std())])
            labels.append(str(label))
            person.append(number % 2)
    x, y, test = np.array(rows), np.array(labels), np.array(person) == 1
    model = LogisticRegression(C=10).fit(x[~test], y[~test])
    uar = balanced_accuracy_score(y[test], model.predict(x[test]))
    assert 0.6 < uar < fixture.bayes["stress"] + 0.1, uar
