"""No subject, session, trial or file stands on two sides of a split."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError, DataError
from offline.datasets import LabelledRecording
from offline.splits import (
    Split,
    folds,
    hash_files,
    leaks,
    read_split,
    subject_kfold,
    write_split,
)

CLEAN = Split("by hand", "subject", ("s1", "s2"), ("s3",), ("s4",), {"s1/1": "aa", "s4/1": "bb"})


def recordings(n_subjects: int, each: int = 2) -> list[LabelledRecording]:
    return [
        LabelledRecording(f"s{i}/{j}", "toy", f"s{i}", "rest", Path(f"{i}_{j}.npz"))
        for i in range(n_subjects)
        for j in range(each)
    ]


@given(st.integers(3, 40), st.integers(3, 12), st.integers(0, 5))
def test_every_subject_is_tested_once_and_on_one_side_of_each_split(
    n: int, k: int, seed: int
) -> None:
    if k > n:
        return
    made = subject_kfold(recordings(n), k, seed)
    everybody = {f"s{i}" for i in range(n)}
    for side in ("test", "val"):
        listed = [subject for split in made for subject in getattr(split, side)]
        assert sorted(listed) == sorted(everybody)
    for split in made:
        sides = [set(split.train), set(split.val), set(split.test)]
        assert set().union(*sides) == everybody
        assert sum(map(len, sides)) == n
        assert all(sides)
        assert leaks(split) == []


def test_folds_are_as_equal_as_can_be_and_do_not_depend_on_the_order_of_groups() -> None:
    names = [f"s{i}" for i in range(23)]
    made = folds(names, 6, seed=3)
    assert sorted(map(len, made)) == [3, 4, 4, 4, 4, 4]
    assert folds(names[::-1] + names, 6, seed=3) == made
    assert folds(names, 6, seed=4) != made


@pytest.mark.parametrize("k", [0, 1, 6])
def test_more_folds_than_groups_are_refused(k: int) -> None:
    with pytest.raises(ConfigError, match=f"{k} folds do not fit 5 groups; need 2 to 5"):
        folds(list("abcde"), k, seed=0)


def test_two_folds_leave_nobody_to_validate_on() -> None:
    with pytest.raises(ConfigError, match="need 3 or more"):
        subject_kfold(recordings(9), 2, seed=0)


def test_a_recording_is_on_the_side_of_its_subject() -> None:
    split = subject_kfold(recordings(12), 4, seed=0)[0]
    for recording in recordings(12):
        side = split.part_of(recording)
        assert side is not None
        assert recording.subject in getattr(split, side)
    assert split.part_of(replace(recordings(1)[0], uid="s11x/1")) is None
    assert split.part_of(replace(recordings(1)[0], uid="s99/1")) is None


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (replace(CLEAN, test=("s1",)), "subject s1 is in train and in test"),
        (replace(CLEAN, val=("s2",)), "subject s2 is in train and in val"),
        (
            replace(CLEAN, train=("s1/1/1",), test=("s1/2/1",)),
            "subject s1 is in train and in test",
        ),
        (
            replace(CLEAN, unit="session", train=("s1/1/1",), test=("s1/1/2",)),
            "session s1/1 is in train and in test",
        ),
        (
            replace(CLEAN, files={"s1/1": "aa", "s4/1": "aa"}),
            "s1/1 in train and s4/1 in test are the same file content",
        ),
    ],
)
def test_a_leak_is_found_and_named(split: Split, words: str) -> None:
    assert leaks(split) == [words]


@pytest.mark.parametrize(
    "split",
    [
        CLEAN,
        replace(CLEAN, unit="session", train=("s1/1",), val=("s1/2",), test=("s2/1",)),
        replace(CLEAN, unit="trial", train=("s1/1/1",), val=(), test=("s1/1/2",)),
        replace(CLEAN, train=("s1",), test=("s10",)),
        replace(CLEAN, files={"s1/1": "aa", "s1/2": "aa"}),
        replace(CLEAN, files={"s1/1": "aa", "s99/1": "aa"}),
    ],
)
def test_what_does_not_leak_is_not_accused(split: Split) -> None:
    assert leaks(split) == []


def test_a_split_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_split(CLEAN, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == CLEAN
    document = json.loads((tmp_path / "split.json").read_text())
    told = document.pop("hash")
    text = json.dumps(document, sort_keys=True)
    assert told == CLEAN.hash == hashlib.sha256(text.encode()).hexdigest()
    assert list(document) == ["protocol", "unit", "train", "val", "test", "files"]


def test_a_split_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    write_split(CLEAN, path)
    path.write_text(path.read_text().replace('"s3"', '"s5"'))
    with pytest.raises(DataError, match="its hash does not match"):
        read_split(path)


def test_a_split_that_leaks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="subject s1 is in train and in test"):
        write_split(replace(CLEAN, test=("s1",)), tmp_path / "split.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "no JSON"),
        ("[]", "no split: has list"),
        ('{"train": []}', "no split: has train; need files, hash"),
    ],
)
def test_a_file_that_is_no_split_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=words):
        read_split(tmp_path / "split.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "none.json")


def test_files_are_hashed_by_content(tmp_path: Path) -> None:
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    made = [replace(r, path=tmp_path / n) for r, n in zip(recordings(3, 1), "abc", strict=True)]
    hashes = hash_files(made)
    assert list(hashes) == ["s0/0", "s1/0", "s2/0"]
    assert hashes["s0/0"] == hashes["s1/0"] != hashes["s2/0"]
