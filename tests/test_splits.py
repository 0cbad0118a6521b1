"""No subject, session, trial or file stands on two sides of a split."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli import main
from engine.errors import ConfigError, DataError
from offline.datasets import LabelledRecording
from offline.splits import (
    LEAKY,
    Split,
    folds,
    hash_files,
    leaks,
    level,
    make,
    read_part,
    read_split,
    window_id,
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
    made = make("subject", recordings(n), n_folds=k, seed=seed)
    everybody = {f"s{i}" for i in range(n)}
    listed = [subject for split in made for subject in split.test]
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


def test_two_subjects_leave_nobody_to_validate_on() -> None:
    with pytest.raises(ConfigError, match="need 3 or more"):
        make("loso", recordings(2))


def test_a_recording_is_on_the_side_of_its_subject() -> None:
    split = make("subject", recordings(12), n_folds=4)[0]
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


def trials(n_subjects: int = 6, n_sessions: int = 3, n_trials: int = 6) -> list[LabelledRecording]:
    """Subjects of two data sets, sessions, and trials whose labels take turns."""
    made = []
    for i in range(n_subjects):
        dataset = ("toy", "other")[i % 2]
        for j in range(n_sessions):
            for k in range(n_trials):
                uid, label = f"{dataset}-{i}/{j}/{k}", ("rest", "task")[k % 2]
                made.append(
                    LabelledRecording(
                        uid, dataset, f"{dataset}-{i}", label, Path(uid), session=str(j),
                        trial=str(k),
                    )
                )  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("unit", "n"), [("trial", 3), ("session", 3), ("subject", 3), ("loso", 6), ("cross-corpus", 2)]
)
def test_every_unit_gives_three_sides_that_share_none_of_it(unit: str, n: int) -> None:
    made = make(unit, trials(), n_folds=3)
    assert len(made) == n
    tested = [group for split in made for group in split.test]
    assert len(tested) == len(set(tested))
    for split in made:
        assert leaks(split) == []
        assert split.train
        assert split.val
        assert {split.part_of(r) for r in trials()} == {"train", "val", "test"}
        assert split == make(unit, trials()[::-1], n_folds=3)[made.index(split)]
    assert {split.part_of(r) for split in made for r in trials()} == {"train", "val", "test"}


def test_trials_of_every_subject_and_label_are_on_all_sides() -> None:
    for split in make("trial", trials(), n_folds=3):
        for side in ("train", "val", "test"):
            found = [r for r in trials() if split.part_of(r) == side]
            assert {r.label for r in found} == {"rest", "task"}
            assert side == "val" or len({r.subject for r in found}) == 6
        assert "the same subjects on all sides" in split.protocol


def test_a_corpus_that_is_tested_is_not_trained_on() -> None:
    for split in make("cross-corpus", trials()):
        (tested,) = {group.rpartition("-")[0] for group in split.test}
        assert not any(g.startswith(tested) for g in (*split.train, *split.val))
        assert f"tested on {tested}" in split.protocol


def test_what_the_recordings_do_not_have_cannot_be_a_unit() -> None:
    with pytest.raises(ConfigError, match="toy tells no sessions"):
        make("session", recordings(9))
    with pytest.raises(ConfigError, match="there is only toy"):
        make("cross-corpus", recordings(9))
    with pytest.raises(ConfigError, match="'random' is no unit of a split"):
        make("random", recordings(9))


def test_the_official_split_is_asked_of_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from offline import readers

    given = [replace(r, dataset="simulate") for r in recordings(4)]
    with pytest.raises(ConfigError, match="simulate has no official split"):
        make("official", given)
    reader = readers.reader("simulate")
    splits = [replace(CLEAN, protocol=f"official {i}") for i in range(3)]
    monkeypatch.setattr(reader, "official", lambda recordings: splits, raising=False)
    assert make("official", given) == splits
    assert make("official:2", given) == splits[2:]
    with pytest.raises(ConfigError, match="need a number from 0 to 2"):
        make("official:3", given)
    monkeypatch.setattr(reader, "PRESETS", {"as-published": lambda found: CLEAN}, raising=False)
    assert make("official:as-published", given) == [CLEAN]


@pytest.mark.parametrize(
    ("unit", "rung"),
    [(LEAKY, "L0"), ("trial", "L1"), ("session", "L2"), ("loso", "L3"), ("cross-corpus", "L4")],
)
def test_a_split_stands_on_its_rung_of_the_ladder_of_leaks(unit: str, rung: str) -> None:
    windows = [window_id(f"s{i}/1", 1.0) for i in range(9)]
    assert {level(split) for split in make(unit, trials(), windows=windows)} == {rung}


def test_a_leaky_split_is_called_so_and_accused(tmp_path: Path) -> None:
    ids = [window_id(f"s1/{i}", t) for i in range(4) for t in (1.0, 1.5, 2.0)]
    split = make(LEAKY, recordings(4), n_folds=3, windows=ids)[0]
    assert "leaky-random" in split.protocol
    assert len(leaks(split)) > 1
    write_split(split, tmp_path / "split.json")  # it was asked for
    assert read_split(tmp_path / "split.json") == split
    sides = split.parts_of([i.partition("@")[0] for i in ids], [1.0, 1.5, 2.0] * 4)
    assert sorted(set(map(str, sides))) == ["test", "train", "val"]


def test_parts_of_one_file_are_hashed_apart(tmp_path: Path) -> None:
    path = tmp_path / "s01.dat"
    path.write_bytes(b"all trials")
    made = [replace(r, path=path, part=p) for r, p in zip(recordings(3, 1), "abb", strict=True)]
    hashes = hash_files([*made, replace(made[0], uid="s9/0", path=tmp_path / "none")])
    assert list(hashes) == ["s0/0", "s1/0", "s2/0"]
    assert hashes["s0/0"] != hashes["s1/0"] == hashes["s2/0"]


def test_random_labels_are_learnt_from_a_leaky_split_and_not_from_an_honest_one() -> None:
    """Each trial has a label by chance and a level of its own: nothing but the trial is there."""
    rng = np.random.default_rng(0)
    found = trials(8, 3, 8)
    n_windows = 12
    level = np.repeat(rng.normal(size=(len(found), 8)), n_windows, axis=0)
    x = level + 0.3 * rng.normal(size=level.shape)
    truth = np.repeat(rng.integers(0, 2, len(found)), n_windows)
    uids = np.repeat([r.uid for r in found], n_windows)
    ends_s = np.tile(np.arange(n_windows, dtype=float), len(found))
    ids = [window_id(uid, t) for uid, t in zip(uids, ends_s, strict=True)]

    def accuracy(unit: str) -> float:
        right = []
        for split in make(unit, found, n_folds=3, windows=ids):
            sides = np.array(split.parts_of(uids, ends_s), dtype=object)
            train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
            far = ((x[test][:, None] - x[train][None]) ** 2).sum(2)  # the nearest neighbour's
            right += list(truth[train][far.argmin(1)] == truth[test])
        return float(np.mean(right))

    assert accuracy(LEAKY) > 0.9
    for unit in ("trial", "session", "subject"):
        assert abs(accuracy(unit) - 0.5) < 0.1, unit  # three deviations of 192 trials


def test_the_command_accuses_a_leaky_split_and_no_honest_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = trials(4, 1, 4)
    ids = [window_id(r.uid, float(t)) for r in found for t in range(6)]
    for unit, code in (("subject", 0), (LEAKY, 2)):
        path = tmp_path / f"{unit}.json"
        write_split(make(unit, found, n_folds=3, windows=ids)[0], path)
        assert main(["data", "leak-check", str(path)]) == code
    said = capsys.readouterr()
    assert "no group and no file stands on two sides" in said.out
    assert str(tmp_path / f"{LEAKY}.json") in said.err


def test_a_part_is_named_behind_its_file(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    write_split(make("subject", trials(4, 1, 4), n_folds=3)[0], path)
    split, part = read_part(f"{path}:val")
    assert (split, part) == (read_split(path), "val")
    for where in (str(path), f"{path}:other"):
        with pytest.raises(ConfigError, match="expected FILE:PART with PART one of train, val"):
            read_part(where)
