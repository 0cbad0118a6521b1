"""Cut windows are found again while nothing changed, and a kill leaves a whole set or none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.bundle import InputSpec
from engine.errors import DataError
from offline import cache
from offline.cache import cached_cut, open_windows
from offline.datasets import LabelledRecording
from offline.windows import cut

LABELS = ("rest", "task")
RATE_HZ = 32
WAIT_S = 60


def spec(**fields: Any) -> dict[str, InputSpec]:
    given = {"kind": "eeg", "rate_hz": RATE_HZ, "channels": ("A", "B"), "unit": "uV",
             "window_s": 1.0, "min_filled_s": 0.5}  # fmt: skip
    return {"eeg": InputSpec(**{**given, **fields})}


@pytest.fixture
def recordings(tmp_path: Path) -> list[LabelledRecording]:
    """Four files of noise, of two subjects."""
    made = []
    for i in range(4):
        x = np.random.default_rng(i).normal(size=(RATE_HZ * 3, 2)).astype(np.float32)
        path = tmp_path / f"Subject0{1 + i // 2}_{1 + i % 2}.npz"
        np.savez(path, x=x, rate_hz=RATE_HZ, channels=["A", "B"], kind="eeg", unit="uV")
        uid = f"eegmat-0{1 + i // 2}/{1 + i % 2}"
        made.append(LabelledRecording(uid, "eegmat", uid[:9], LABELS[i % 2], path))
    return made


def test_the_cached_windows_are_those_that_are_cut(
    recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    whole = cut(recordings, spec(), 0.5)
    found = open_windows(cached_cut(recordings, spec(), 0.5, tmp_path, labels=LABELS, filled=1.0))
    assert np.array_equal(found.inputs["eeg"], whole.inputs["eeg"])
    assert np.array_equal(found.valid["eeg"], whole.valid["eeg"])
    for name in ("label", "subject", "recording", "t"):
        assert getattr(found, name).tolist() == getattr(whole, name).tolist()


def test_partly_filled_windows_are_kept_where_a_session_would_predict_from_them(
    recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    found = open_windows(cached_cut(recordings, spec(), 0.5, tmp_path, labels=("task",)))
    assert set(found.label) == {"task"}
    assert sorted(set(found.t)) == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert (found.valid["eeg"][found.t == 0.5].mean(1) < 0.6).all()


def test_an_equal_question_is_answered_from_the_cache(
    recordings: list[LabelledRecording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_cut(recordings, spec(), 0.5, tmp_path, labels=LABELS)

    def ticks(*about: object, **more: object) -> None:
        raise AssertionError("cut again")

    monkeypatch.setattr(cache, "ticks", ticks)
    assert cached_cut(recordings, spec(), 0.5, tmp_path, labels=LABELS) == first
    with pytest.raises(AssertionError, match="cut again"):
        cached_cut(recordings, spec(), 0.25, tmp_path, labels=LABELS)


def test_whatever_changes_the_windows_misses_the_cache(
    recordings: list[LabelledRecording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def path(**changes: Any) -> Path:
        told = {"hop_s": 0.5, "labels": LABELS, "inputs": spec(), "recordings": recordings}
        told |= changes
        return cached_cut(
            told.pop("recordings"), told.pop("inputs"), told.pop("hop_s"), tmp_path, **told
        )

    found = [
        path(),
        path(hop_s=0.25),
        path(skip_s=1.0),
        path(filled=1.0),
        path(labels=("rest",)),
        path(inputs=spec(steps=({"name": "clip", "low": -3.0, "high": 3.0},))),
        path(recordings=recordings[:3]),
    ]
    os.utime(recordings[0].path, ns=(1, 1))
    found.append(path())
    monkeypatch.setattr(cache, "_code", lambda: "other code")
    found.append(path())
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("damage", ["cut short", "a changed byte", "a lost file", "no manifest"])
def test_a_damaged_set_is_cut_again(
    damage: str, recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    path = cached_cut(recordings, spec(), 0.5, tmp_path, labels=LABELS)
    whole = open_windows(path).inputs["eeg"].copy()
    array = path / "inputs.eeg.npy"
    content = bytearray(array.read_bytes())
    if damage == "cut short":
        array.write_bytes(content[:-100])
    elif damage == "a changed byte":
        content[-10] ^= 1
        array.write_bytes(content)
    elif damage == "a lost file":
        array.unlink()
    else:
        (path / "manifest.json").unlink()
    again = cached_cut(recordings, spec(), 0.5, tmp_path, labels=LABELS)
    assert again == path
    assert np.array_equal(open_windows(path).inputs["eeg"], whole)


def test_no_window_at_all_is_told_and_leaves_nothing(
    recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="gave no window"):
        cached_cut(recordings, spec(), 0.5, tmp_path / "w", labels=("calm",))
    assert not list((tmp_path / "w").iterdir())


def test_a_kill_while_writing_leaves_no_set_and_is_swept_up(
    recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    folder = tmp_path / "windows"
    told = [(r.uid, r.label, str(r.path)) for r in recordings]
    code = f"""
import time
from pathlib import Path
from engine.bundle import InputSpec
from offline.cache import cached_cut
from offline.datasets import LabelledRecording
from tests.test_cache import LABELS, spec
def stop(done, total):
    if done == 2:
        print("half", flush=True)
        time.sleep({WAIT_S})
made = [LabelledRecording(u, "eegmat", u[:9], l, Path(p)) for u, l, p in {told!r}]
cached_cut(made, spec(), 0.5, Path({str(folder)!r}), labels=LABELS, progress=stop)
"""
    root = Path(__file__).parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.wait(WAIT_S)
    child.stdout.close()
    (left,) = folder.iterdir()
    assert left.name.startswith(".")
    path = cached_cut(recordings, spec(), 0.5, folder, labels=LABELS)
    assert list(folder.iterdir()) == [path]
    assert len(open_windows(path)) == len(cut(recordings, spec(), 0.5)) + 4  # the half full ones


def test_a_process_that_was_slower_takes_what_is_there(
    recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    path = cached_cut(recordings, spec(), 0.5, tmp_path / "a", labels=LABELS)

    def faster(done: int, total: int) -> None:
        if done == total:
            shutil.copytree(path, tmp_path / "b" / path.name)

    made = cached_cut(recordings, spec(), 0.5, tmp_path / "b", labels=LABELS, progress=faster)
    assert list((tmp_path / "b").iterdir()) == [made]


def test_what_is_written_into_an_open_set_stays_in_memory(
    recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    path = cached_cut(recordings, spec(), 0.5, tmp_path, labels=LABELS)
    open_windows(path).inputs["eeg"][:] = 7.0
    assert not (open_windows(path).inputs["eeg"] == 7.0).all()
    assert json.loads((path / "manifest.json").read_text())["inputs"] == ["eeg"]


def test_opening_takes_no_longer_than_reading_the_edges(
    recordings: list[LabelledRecording], tmp_path: Path
) -> None:
    """No time is judged here: a set is opened without its arrays being read."""
    path = cached_cut(recordings, spec(), 0.5, tmp_path, labels=LABELS)
    begin_s = time.perf_counter()
    found = open_windows(cached_cut(recordings, spec(), 0.5, tmp_path, labels=LABELS))
    assert time.perf_counter() - begin_s < WAIT_S
    assert isinstance(found.inputs["eeg"], np.memmap)
    assert path.is_dir()
