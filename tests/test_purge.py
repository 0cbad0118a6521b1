"""Deleting what a session stored: its recordings, its lines, and nothing of anybody else."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import ResourceError
from sinks.jsonl import JsonlSink
from sinks.purge import find, remove
from sinks.table import TableSink
from tests import lab_log
from tests.engines import until
from tests.lab_log import CONFIG, WALL_S
from tests.messages import marker, prediction

DAY_S = 86400


def aged(path: Path, seconds: float = 60.0) -> Path:
    """The file as if nobody had written it for a while."""
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Recordings of three sessions, and the files of sinks that two of them share."""
    for name, session in (("a", "p01"), ("b", "p01"), ("c", "p02"), ("d", "p011")):
        aged(lab_log.record(tmp_path / f"{name}.mcap", session).path)
    lines = JsonlSink(tmp_path / "out" / "said.jsonl", max_mb=0.003, keep=20)
    rows = TableSink(tmp_path / "out" / "said.csv")
    for seq in range(20):
        for session in ("p01", "p02"):
            lines.write(prediction(seq, session, t_wall=WALL_S + seq * DAY_S))
            rows.write(prediction(seq, session, t_wall=WALL_S + seq * DAY_S))
    lines.write(marker(0, "p02"))
    lines.close()
    rows.close()
    for path in (tmp_path / "out").iterdir():
        aged(path)
    (tmp_path / "notes.csv").write_text("session,note\np01,keep me\n")
    (tmp_path / "notes.jsonl").write_text('{"session": "p01"}\nno json\n')
    return tmp_path


def sessions(folder: Path) -> dict[str, int]:
    """{session: lines} over all JSON lines below."""
    found: dict[str, int] = {}
    for path in (folder / "out").glob("said.jsonl*"):
        for line in path.read_text().splitlines():
            name = json.loads(line)["session"]
            found[name] = found.get(name, 0) + 1
    return found


def test_all_of_a_session_goes_and_nothing_of_another(place: Path) -> None:
    assert main(["purge", "p01", "--in", str(place), "--yes"]) == 0
    assert sorted(p.name for p in place.glob("*.mcap")) == ["c.mcap", "d.mcap"]
    assert sessions(place) == {"p02": 21}
    with (place / "out" / "said.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["session"], row["seq"]) for row in rows] == [("p02", str(k)) for k in range(20)]
    assert (place / "notes.csv").exists()
    assert (place / "notes.jsonl").read_text() == '{"session": "p01"}\nno json\n'
    assert not list(place.rglob("*.new"))
    assert find("p01", place).stored == []


def test_without_yes_all_is_listed_and_nothing_deleted(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["purge", "p01", "--in", str(place)]) == 0
    told = capsys.readouterr()
    assert "a.mcap  recording of p01, 2023-11-14 22:14 UTC" in told.out
    assert "said.csv  20 of 40 messages" in told.out
    assert "give --yes to delete" in told.err
    assert len(list(place.glob("*.mcap"))) == 4
    assert sessions(place)["p01"] == 20


def test_a_file_that_holds_one_session_alone_goes_as_a_whole(place: Path) -> None:
    for session in ("p01", "p02"):
        main(["purge", session, "--in", str(place), "--yes"])
    assert not list((place / "out").iterdir())


def test_one_recording_goes_by_its_path(place: Path) -> None:
    assert main(["purge", str(place / "a.mcap"), "--yes"]) == 0
    assert sorted(p.name for p in place.glob("*.mcap")) == ["b.mcap", "c.mcap", "d.mcap"]
    assert sessions(place)["p01"] == 20


def test_retention_spares_what_is_younger_and_what_declared_none(place: Path) -> None:
    config = json.dumps({k: v for k, v in CONFIG.items() if k != "retention_days"})
    aged(lab_log.record(place / "free.mcap", "p03", config=config).path)
    aged(lab_log.record(place / "young.mcap", "p02", wall_offset_s=WALL_S + 35 * DAY_S).path)
    found = find(None, place, WALL_S + 40 * DAY_S).stored
    assert [one.path.name for one in found if one.path.suffix == ".mcap"] == [
        "a.mcap", "b.mcap", "c.mcap", "d.mcap",
    ]  # fmt: skip
    remove(found)
    assert sessions(place) == {"p01": 10, "p02": 11}  # ten days of twenty, and a mark of no day
    assert sorted(p.name for p in place.glob("*.mcap")) == ["free.mcap", "young.mcap"]


def test_parquet_tables_lose_the_rows_of_a_session(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    sink = TableSink(tmp_path / "said.parquet")
    for session in ("p01", "p02"):
        sink.write(prediction(0, session))
    sink.close()
    aged(tmp_path / "said.parquet")
    (one,) = find("p01", tmp_path).stored
    remove([one])
    assert parquet.read_table(tmp_path / "said.parquet")["session"].to_pylist() == ["p02"]


def test_what_is_still_being_written_is_not_deleted(tmp_path: Path) -> None:
    lab_log.record(tmp_path / "now.mcap", close=False)
    until(lambda: len(find("p01", tmp_path).stored) == 1, "the header on the disk")
    (one,) = find("p01", tmp_path).stored
    with pytest.raises(ResourceError, match=r"end the engine or the recording first"):
        remove([one])
    assert one.path.exists()


def test_a_recording_that_was_just_closed_may_go(tmp_path: Path) -> None:
    lab_log.record(tmp_path / "done.mcap")
    (one,) = find("p01", tmp_path).stored
    remove([one])
    assert not one.path.exists()


def test_a_file_that_tells_nothing_is_named_and_stays(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "x.mcap").write_bytes(b"not a log")
    assert main(["purge", "p01", "--in", str(place), "--yes"]) == 0
    assert "not looked into" in capsys.readouterr().err
    assert (place / "x.mcap").exists()


def test_purge_wants_to_know_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["purge"]) == 2
    assert "which session?" in capsys.readouterr().err


def test_a_session_that_stored_nothing_is_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["purge", "p9", "--in", str(place), "--yes"]) == 0
    assert "nothing of 'p9' to delete" in capsys.readouterr().err
