"""Tables of samples as recordings: times, units, labels, markers, pauses, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.player import Player
from engine.types import Prediction
from sinks.export import Recorded, export
from sources.feed import play_recording, recording_plan
from sources.files import Recording, open_recording, recordings_below
from tests import lab_log
from tests.toys import toy

RATE_HZ = 128.0


def table(folder: Path, text: str, name: str = "x.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def opened(folder: Path, text: str) -> Recording:
    return open_recording(table(folder, text))


def rows(n: int, time: str = "t", separator: str = ",", **columns: str) -> str:
    """`n` rows at 128 Hz: seconds (or other units), two channels that count, and constants."""
    factor = 1e3 if "ms" in time else 1.0
    head = separator.join([time, "Fz", "Cz", *columns])
    body = [
        separator.join([f"{i / RATE_HZ * factor:.6f}", str(i), str(-i), *columns.values()])
        for i in range(n)
    ]
    return "\n".join([head, *body]) + "\n"


@pytest.mark.parametrize("time", ["t", "Time", "timestamps", "time_ms", "Timestamp (ms)"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_samples_stand_at_their_times(time: str, separator: str, tmp_path: Path) -> None:
    recording = opened(tmp_path, rows(256, time, separator))
    (stream,) = recording.streams
    info = stream.info
    assert (info.kind, info.unit, info.channels, info.rate_hz) == ("eeg", "uV", ("Fz", "Cz"), 128)
    assert stream.read(10, 12).tolist() == [[10, -10], [11, -11]]
    assert stream.time(128) == pytest.approx(1.0)
    assert recording.start_wall is None


def test_it_is_replayed_like_the_same_samples_in_npz(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(0, 20, (1280, 2)).astype(np.float32)
    body = "".join(f"{i / RATE_HZ!r},{a!r},{b!r}\n" for i, (a, b) in enumerate(x.tolist()))
    table(tmp_path, "t,Fz,Cz\n" + body)
    np.savez(
        tmp_path / "x.npz", x=x, rate_hz=RATE_HZ, channels=["Fz", "Cz"], kind="eeg",
        t=np.arange(1280) / RATE_HZ,
    )  # fmt: skip
    said = []
    for name in ("x.csv", "x.npz"):
        recording = open_recording(tmp_path / name)
        bundle = toy({"eeg": {"channels": ("Fz", "Cz"), "rate_hz": RATE_HZ}})
        player = Player(recording_plan(recording, {"eeg": bundle}))
        told = [m for m in play_recording(recording, player) if isinstance(m, Prediction)]
        said.append([(m.t, m.probabilities) for m in told])
    assert said[0] == said[1]
    assert len(said[0]) == 20


def test_labels_markers_and_unix_time(tmp_path: Path) -> None:
    recording = opened(
        tmp_path,
        "timestamp,EDA (uS),TEMP (uS),label,event\n"
        "1700000000.0,1,2,,\n1700000000.5,1,2,calm,go\n1700000001.0,1,2,calm,go\n"
        "1700000001.5,1,2,happy,0\n1700000002.0,,2,,stop\n",
    )
    (stream,) = recording.streams
    assert (stream.info.kind, stream.info.rate_hz, stream.info.unit) == ("physio", 2, "uS")
    assert stream.info.channels == ("EDA", "TEMP")
    assert stream.truth == ((0, None), (1, "calm"), (3, "happy"), (4, None))
    assert recording.markers == ((1700000000.5, "go"), (1700000002.0, "stop"))
    assert recording.start_wall == 1.7e9
    assert np.isnan(stream.read(4, 5)[0, 0])


def test_what_the_table_cannot_say_stands_above_its_head(tmp_path: Path) -> None:
    recording = opened(tmp_path, "# rate_hz: 64\n# kind: eeg\n# unit: mV\na;b\n1,5;2\n3;4\n")
    (stream,) = recording.streams
    assert (stream.info.kind, stream.info.rate_hz, stream.info.unit) == ("eeg", 64, "mV")
    assert stream.read(0, 2).tolist() == [[1.5, 2], [3, 4]]
    assert stream.stamps is None


def test_pauses_and_a_column_of_segments_begin_new_ones(tmp_path: Path) -> None:
    times = [0, 0.1, 0.2, 5.0, 5.1, 5.2]
    body = "".join(f"{t},{i}\n" for i, t in enumerate(times))
    assert opened(tmp_path, "t,EDA\n" + body).streams[0].segment_starts == (0, 3)
    body = "".join(f"{i % 3},{i // 3},{i}\n" for i in range(9))  # its clock begins again
    (stream,) = opened(tmp_path, "t,segment,EDA\n" + body).streams
    assert (stream.segment_starts, stream.info.rate_hz) == ((0, 3, 6), 1)


def test_text_is_left_out_and_told(tmp_path: Path) -> None:
    recording = opened(tmp_path, "t,EDA,who\n0,1,anna\n1,2,anna\n")
    assert recording.streams[0].info.channels == ("EDA",)
    assert recording.warnings == ("column 'who' holds text, not numbers",)


def test_our_own_tables_are_read_back(tmp_path: Path) -> None:
    lab = lab_log.record(tmp_path / "p01.mcap")
    paths = export(Recorded.open(lab.path), "csv", tmp_path)
    recording = open_recording(next(p for p in paths if p.name == "p01_eeg.csv"))
    (stream,) = recording.streams
    assert (stream.info.kind, stream.info.channels) == ("eeg", ("Fz", "Cz", "Pz"))
    assert stream.info.rate_hz == 250
    read = stream.read(0, stream.n_items)
    assert np.array_equal(read[~np.isnan(read[:, 0])], lab.items("eeg"))


def test_a_folder_is_not_searched_for_tables(tmp_path: Path) -> None:
    path = table(tmp_path, rows(4))
    assert recordings_below(path) == [path]
    with pytest.raises(DataError, match="no recording in this folder"):
        recordings_below(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,4\n", r"neither a column 't' .* '# rate_hz: 128' .* there are a, b"),
        ("# rate_hz: fast\na,b\n1,2\n3,4\n", r"rate_hz is 'fast'; need one number above 0"),
        ("# kind: brain\nt,b\n1,2\n3,4\n", r"kind is 'brain'; need one of eeg, physio, voice"),
        ("t,a\n0,1\n1,2\n2,x\n", r"line 4, column 'a': 'x' is no number"),
        ("t,a\n0,1\n1,2,3\n", r"line 3 has 3 cells, the head 2"),
        ("t,a\n1,1\n0,2\n", r"line 3: time goes back by 1 s"),
        ("t,a\n0,1\n,2\n", r"line 3: no time in column 't'"),
        ("t,a\n12:00,1\n12:01,2\n", r"column 't' holds text \('12:00'\)"),
        ("t,a\n5,1\n5,2\n", r"time stands still"),
        ("t,a\n5,1\n", r"1 rows below the head; need two or more"),
        ("1,2\n3,4\n5,6\n", r"line 1 is all numbers; the first line names columns"),
        ("t,a,a\n1,2,3\n3,4,5\n", r"several columns are called a"),
        ("t,who\n1,anna\n2,anna\n", r"no column of samples; there are t, who"),
        ("# nothing else\n", r"no head"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        opened(tmp_path, text)


def test_bytes_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00" * 50)
    with pytest.raises(DataError, match="no table of text"):
        open_recording(tmp_path / "x.csv")
