"""The eegmat reader on both layouts, on incomplete folders, and on the real files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from offline.datasets import eegmat
from offline.datasets.eegmat import CHANNELS, broken, recordings
from sources.files import open_recording

REAL = Path(__file__).parents[2] / "shared" / "data" / "eeg"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the shared data is not there")


def write(folder: Path, name: str, channels: tuple[str, ...] = CHANNELS) -> Path:
    """A second of noise in the npz layout."""
    folder.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(0).integers(-500, 500, (len(channels), 128)).astype(np.int16)
    scale, rate = np.float32(0.1), np.float32(128)
    np.savez(folder / f"{name}.npz", x=x, scale_uv=scale, sfreq=rate, ch=np.array(channels))
    return folder / f"{name}.npz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("Subject10_2", "Subject02_1", "Subject10_1", "Subject02_2"):
        write(tmp_path / "data", name)
    return tmp_path / "data"


def test_recordings_come_by_subject_with_rest_before_task(root: Path) -> None:
    assert [(r.uid, r.subject, r.label, r.path.stem) for r in recordings(root)] == [
        ("eegmat-02/1", "eegmat-02", "rest", "Subject02_1"),
        ("eegmat-02/2", "eegmat-02", "task", "Subject02_2"),
        ("eegmat-10/1", "eegmat-10", "rest", "Subject10_1"),
        ("eegmat-10/2", "eegmat-10", "task", "Subject10_2"),
    ]
    assert broken(root) == []


def test_other_files_beside_them_are_not_touched(root: Path) -> None:
    (root / "Subject03_1.txt").write_text("notes")
    (root / "Subject03_3.npz").write_bytes(b"")
    (root / "xSubject03_1.npz").write_bytes(b"")
    assert len(recordings(root)) == 4


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("Subject02_2", "missing: the task of Subject02_1.npz"),
        ("Subject10_1", "missing: the rest of Subject10_2.npz"),
    ],
)
def test_a_missing_partner_is_named(root: Path, gone: str, words: str) -> None:
    (root / f"{gone}.npz").unlink()
    (fault,) = broken(root)
    assert fault.file == str(root / f"{gone}.npz")
    assert fault.reason.startswith(words)
    assert len(recordings(root)) == 3


def test_damaged_files_and_lacking_channels_are_named(root: Path) -> None:
    (root / "Subject02_1.npz").write_bytes(b"PK cut short")
    write(root, "Subject10_1", CHANNELS[:-2])
    faults = {Path(fault.file).name: fault.reason for fault in broken(root)}
    assert set(faults) == {"Subject02_1.npz", "Subject10_1.npz"}
    assert "not an npz file" in faults["Subject02_1.npz"]
    assert faults["Subject10_1.npz"] == "lacks the channels Cz, Pz"


def test_a_recording_in_both_layouts_is_taken_once_from_the_larger_one(root: Path) -> None:
    (root / "edf").mkdir()
    (root / "edf" / "Subject02_1.edf").write_bytes(b"")
    assert {r.path.suffix for r in recordings(root)} == {".npz"}
    assert len(recordings(root)) == 4
    assert [r.path.suffix for r in recordings(root / "edf")] == [".edf"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("subject-info.csv", "Subject,Age,Gender\nSubject02,21,F\nSubject10,18,M\n"),
        (
            "MANIFEST.csv",
            "file,dataset,subject,gender\na,ravdess,ravdess-02,m\n"
            "b,eegmat,eegmat-02,f\nc,eegmat,eegmat-10,m\n",
        ),
    ],
)
def test_gender_is_known_where_a_table_tells_it(root: Path, table: str, text: str) -> None:
    assert all(r.groups == {} for r in recordings(root))
    (root.parent / table).write_text(text)
    told = {r.subject: r.groups["gender"] for r in recordings(root)}
    assert told == {"eegmat-02": "f", "eegmat-10": "m"}


def test_a_folder_without_recordings_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no eegmat recording below .* like Subject01_1\.edf"):
        recordings(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        recordings(tmp_path / "none")


@real
def test_the_real_recordings_are_whole_pairs_of_24_subjects() -> None:
    found = recordings(REAL)
    assert Counter(r.label for r in found) == {"rest": 24, "task": 24}
    assert len({r.subject for r in found}) == 24
    assert {r.groups["gender"] for r in found} == {"f", "m"}
    assert broken(REAL) == []


@real
def test_both_layouts_of_a_real_recording_hold_the_same_channels() -> None:
    (npz,) = open_recording(REAL / "eegmat_128hz" / "Subject01_1.npz").streams
    edf = open_recording(REAL / "eegmat_edf" / "Subject01_1.edf").streams[0]
    assert set(eegmat.CHANNELS) <= set(npz.info.channels)
    assert set(eegmat.CHANNELS) <= set(edf.info.channels)
    assert npz.info.unit == edf.info.unit == "uV"
    assert npz.n_items / npz.info.rate_hz == edf.n_items / edf.info.rate_hz
