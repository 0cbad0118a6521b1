"""`vagus fixture` and `vagus data check`: every data set is written small and read again."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from engine.cli import main
from offline.fixtures import FIXTURES, fixture
from offline.readers import DATASETS, open_labelled, read

MAX_BYTES = {"deap": 25_000_000, "seed-v": 25_000_000} | {  # whose rates allow no fewer
    "ravdess": 10_000_000,
    "savee": 10_000_000,
}
USUAL_BYTES = 5_000_000


def root_of(dataset: str, folder: Path) -> Path:
    return folder / "manifest.csv" if dataset == "manifest" else folder


def small(dataset: str, folder: Path, n: int, seed: int = 0) -> Path:
    folder.mkdir()
    fixture(dataset).write(folder, subjects=n, seed=seed)
    return root_of(dataset, folder)


def content(folder: Path) -> dict[str, bytes]:
    """Every file; of a zip archive, whose entries carry the time, what is in it."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                found |= {f"{path.name}/{name}": archive.read(name) for name in archive.namelist()}
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_every_data_set_with_files_can_be_made() -> None:
    assert set(FIXTURES) == set(DATASETS) - {"simulate"}


@pytest.mark.parametrize("dataset", FIXTURES)
def test_a_fixture_is_small_told_and_read_without_a_fault(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["fixture", dataset, str(out)]) == 0
    told = capsys.readouterr().out
    files = [path for path in out.rglob("*") if path.is_file()]
    assert told.startswith(f"{dataset}: {len(files)} files, ")
    assert sum(path.stat().st_size for path in files) < MAX_BYTES.get(dataset, USUAL_BYTES)
    rates = [float(rate) for rate in re.findall(r"^  Bayes rate (\d\.\d+)", told, re.MULTILINE)]
    assert rates
    assert all(0.3 < rate < 1.0 for rate in rates)
    assert main(["data", "check", dataset, str(root_of(dataset, out)), "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["broken"] == []
    assert checked["recordings"] > 0
    assert len(checked["labels"]) >= 2
    assert 1 / len(checked["labels"]) <= checked["majority"] < 0.9


@pytest.mark.parametrize("dataset", FIXTURES)
def test_the_seed_decides_what_is_planted(dataset: str, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        small(dataset, tmp_path / name, 1, seed)
    one, again, other = (content(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert one != other


@pytest.mark.parametrize("dataset", FIXTURES)
def test_what_is_written_opens_and_is_named_uniquely(dataset: str, tmp_path: Path) -> None:
    root = small(dataset, tmp_path / "out", 2)
    found = read(dataset, root)
    assert len({recording.uid for recording in found}) == len(found)
    for recording in (found[0], found[-1]):
        assert recording.uid.startswith(recording.subject)
        assert recording.subject.startswith(f"{dataset}-")
        for stream in open_labelled(recording).streams:
            assert stream.read(0, 1).shape == (1, *stream.info.shape)


def test_a_fixture_does_not_touch_a_folder_that_holds_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["fixture", "faces", str(tmp_path)]) == 2
    assert "is not empty; a fixture needs a folder of its own" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert main(["fixture", "faces", str(tmp_path / "notes.txt")]) == 2


def test_an_unknown_fixture_is_told_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fixture", "ckplus", str(tmp_path / "out")]) == 2
    assert "did you mean 'ck-plus'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_data_check_counts_and_tells_what_is_left_out_and_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small("fer2013", tmp_path / "out", 60)
    assert main(["data", "check", "fer2013", str(root)]) == 0
    told = capsys.readouterr().out
    assert "fer2013: 60 recordings of 60 subjects, label_source=fer2013" in told
    assert "note: the csv tells no persons" in told
    assert "with label_source=ferplus: " in told
    args = ["data", "check", "fer2013", str(root), "--option", "label_source=ferplus"]
    assert main(args) == 0
    told = capsys.readouterr().out
    assert "label_source=ferplus" in told.splitlines()[0]
    assert "left out: " in told
    assert main([*args, "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["recordings"] + len(checked["left_out"]) == 60
    assert checked["majority"] == max(checked["labels"].values()) / checked["recordings"]
    assert main(["data", "check", "fer2013", str(root), "--option", "votes=1"]) == 2
    assert "has no option 'votes'" in capsys.readouterr().err


def test_an_option_that_its_files_do_not_allow_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small("fer2013", tmp_path / "out", 10)
    (root / "fer2013new.csv").unlink()
    assert main(["data", "check", "fer2013", str(root)]) == 0
    assert "with label_source=ferplus: not possible: " in capsys.readouterr().out


def test_data_check_counts_seconds_where_the_truth_changes_and_exits_2_for_a_broken_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small("stress-predict", tmp_path / "out", 2)
    assert main(["data", "check", "stress-predict", str(root), "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["labels_unit"] == "second"
    assert checked["labels"] == {"baseline": 480, "stress": 480}
    (root / "S02" / "EDA.csv.gz").unlink()
    assert main(["data", "check", "stress-predict", str(root)]) == 2
    told = capsys.readouterr()
    assert f"broken: {root / 'S02' / 'EDA.csv'}: missing" in told.out
    assert "1 broken files" in told.err
