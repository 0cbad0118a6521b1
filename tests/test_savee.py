"""SAVEE: both layouts, letters, folds, on files like its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from offline.datasets import savee
from offline.fixtures import Fixture, fixture
from offline.readers import open_labelled, read
from offline.splits import leaks, make
from tests.acted_clips import recall, sounds

LETTERS = {"a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral"} | {
    "sa": "sad",
    "su": "surprise",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fixture]:
    out = tmp_path_factory.mktemp("savee")
    made: Fixture = fixture("savee").write(out, subjects=None, seed=0)
    return out, made


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 4410), 44100)
    return folder


@pytest.mark.parametrize("form", ["AudioData/DC/{}01", "DC_{}01"])
def test_every_letter_has_its_label_in_both_layouts(tmp_path: Path, form: str) -> None:
    write(tmp_path, *(form.format(letters) for letters in LETTERS))
    found = savee.recordings(tmp_path)
    assert {str(r.trial)[:-2]: r.label for r in found} == LETTERS
    assert {r.uid for r in found} == {f"savee-DC/{letters}01" for letters in LETTERS}
    assert {r.groups["gender"] for r in found} == {"m"}


def test_the_same_name_of_two_speakers_is_two_clips(tmp_path: Path) -> None:
    write(tmp_path, "DC/a10", "DC/a09", "JE/a09", "JK_a09", "other/a09", "XX_a09")
    assert [r.uid for r in savee.recordings(tmp_path)] == [
        *("savee-DC/a09", "savee-DC/a10", "savee-JE/a09", "savee-JK/a09"),
    ]


def test_a_letter_without_meaning_is_named(tmp_path: Path) -> None:
    write(tmp_path, "DC/a01", "KL_x01")
    (fault,) = savee.broken(tmp_path)
    assert fault.reason == "the emotion x is none of a, d, f, h, n, sa, su"
    assert Path(fault.file).stem == "KL_x01"


def test_the_fixture_is_read_as_it_was_written(whole: tuple[Path, Fixture]) -> None:
    root, made = whole
    found = read("savee", root)
    assert made.files == len(found) == 96
    assert Counter(r.label for r in found) == {
        label: 24 if label == "neutral" else 12 for label in LETTERS.values()
    }
    assert {r.subject for r in found} == {
        f"savee-{speaker}" for speaker in ("DC", "JE", "JK", "KL")
    }
    assert {open_labelled(r).streams[0].info.rate_hz for r in found} == {44100}
    assert savee.broken(root) == []


def test_the_official_split_leaves_one_speaker_out(whole: tuple[Path, Fixture]) -> None:
    splits = make("official", read("savee", whole[0]))
    assert [split.test for split in splits] == [
        *(("savee-DC",), ("savee-JE",), ("savee-JK",), ("savee-KL",)),
    ]
    assert all(len(split.val) == 1 and len(split.train) == 2 for split in splits)
    assert [leaks(split) for split in splits] == [[], [], [], []]


def test_the_planted_emotions_are_heard_and_a_wrong_label_order_is_not(
    whole: tuple[Path, Fixture],
) -> None:
    found = read("savee", whole[0])
    x = np.array([sounds(recording) for recording in found])
    labels, subjects = [r.label for r in found], [r.subject for r in found]
    wrong = dict(zip(savee.LABELS, savee.LABELS[1:] + savee.LABELS[:1], strict=True))
    assert 0.35 < recall(x, labels, subjects) <= whole[1].bayes["emotion"]
    assert recall(x, labels, subjects, [wrong[label] for label in labels]) < 0.2
