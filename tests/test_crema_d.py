"""CREMA-D: names, media, votes, people, pointers, folds, on files like its own."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.errors import ConfigError, DataError
from offline.datasets import crema_d
from offline.fixtures import Fixture, fixture
from offline.readers import open_labelled, read
from offline.splits import leaks, make
from tests.acted_clips import recall, seen, sounds

ACTORS = 8
CODES = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy"} | {
    "NEU": "neutral",
    "SAD": "sad",
}
LETTERS = {code[0]: label for code, label in CODES.items()}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 20000\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crema-d")
    made: Fixture = fixture("crema-d").write(out, subjects=3, seed=1)
    assert made.files == sum(path.is_file() for path in out.rglob("*"))
    return out


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / "AudioWAV" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 1600), 16000)
    return folder


def test_a_name_tells_actor_emotion_and_intensity(tmp_path: Path) -> None:
    write(tmp_path, *(f"1001_TIE_{code}_XX" for code in CODES), "1002_IEO_ANG_HI", "1040_ITH_SAD_X")
    found = {r.path.stem: r for r in crema_d.recordings(tmp_path)}
    assert {code: found[f"1001_TIE_{code}_XX"].label for code in CODES} == CODES
    strong = found["1002_IEO_ANG_HI"]
    assert (strong.uid, strong.subject) == ("crema-d-1002/1002_IEO_ANG_HI", "crema-d-1002")
    assert strong.groups == {"intensity": "high"}
    assert found["1040_ITH_SAD_X"].label == "sad"
    assert open_labelled(strong).streams[0].info.kind == "voice"


def test_the_four_clips_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    names = ("1076_MTI_NEU_XX", "1076_MTI_SAD_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD")
    write(tmp_path, *names, "1001_TIE_SAD_XX")
    assert [r.path.stem for r in crema_d.recordings(tmp_path)] == ["1001_TIE_SAD_XX"]
    assert {Path(b.file).stem for b in crema_d.left_out(tmp_path)} == set(names)


def test_a_code_without_meaning_is_named(tmp_path: Path) -> None:
    write(tmp_path, "1001_TIE_JOY_XX", "1001_TIE_SAD_XX")
    (fault,) = crema_d.broken(tmp_path)
    assert fault.reason == "the emotion JOY is none of ANG, DIS, FEA, HAP, NEU, SAD"


def test_a_git_lfs_pointer_is_told_from_a_clip(tmp_path: Path) -> None:
    write(tmp_path, "1001_TIE_SAD_XX")
    pointer = tmp_path / "VideoFlash" / "1001_TIE_SAD_XX.flv"
    pointer.parent.mkdir()
    pointer.write_text(POINTER)
    (fault,) = crema_d.broken(tmp_path)
    assert fault.file == str(pointer)
    assert fault.reason == "a git-LFS pointer, not the clip itself: run git lfs pull"
    with pytest.raises(DataError, match=r"the first is .*git lfs pull"):
        crema_d.recordings(tmp_path, media="video")


def test_a_whole_wav_is_taken_before_an_mp3(tmp_path: Path, small: Path) -> None:
    write(tmp_path, "1001_TIE_SAD_XX")
    mp3 = tmp_path / "AudioMP3" / "1001_TIE_SAD_XX.mp3"
    mp3.parent.mkdir()
    x = 0.1 * np.sin(np.arange(16000) / 8)
    soundfile.write(mp3, x, 16000, format="MP3")
    assert [r.path.suffix for r in crema_d.recordings(tmp_path)] == [".wav"]
    wav = tmp_path / "AudioWAV" / "1001_TIE_SAD_XX.wav"
    wav.write_text(POINTER)
    (found,) = crema_d.recordings(tmp_path)
    assert found.path == mp3
    stream = open_labelled(found).streams[0]
    heard = stream.read(0, stream.n_items)[2000:14000, 0]
    assert heard.std() == pytest.approx(x.std(), rel=0.05)
    assert crema_d.broken(small) == []  # its one mp3 is a pointer, beside a whole WAV


def test_the_fixture_is_read_as_it_was_written(small: Path) -> None:
    found = read("crema-d", small)
    assert Counter(r.label for r in found) == {"neutral": 9, **dict.fromkeys(
        ("angry", "disgust", "fear", "happy", "sad"), 15)}  # fmt: skip
    assert {r.subject for r in found} == {"crema-d-1001", "crema-d-1046", "crema-d-1091"}
    assert all(CODES[r.path.stem.split("_")[2]] == r.label for r in found)
    assert {open_labelled(r).streams[0].info.rate_hz for r in found} == {16000}


def test_groups_come_from_the_table_of_the_actors(small: Path) -> None:
    for place in (small, small / "AudioWAV"):  # the table lies beside or above the clips
        groups = {r.subject: r.groups for r in crema_d.recordings(place)}
        assert {g["gender"] for g in groups.values()} == {"m", "f"}
        assert groups["crema-d-1046"]["race"] == "African American"
        assert groups["crema-d-1001"]["ethnicity"] == "Not Hispanic"
        assert {g["age"] for g in groups.values()} <= {"under 30", "30 to 44", "45 and over"}


@pytest.mark.parametrize(
    ("source", "column", "given"),
    [
        ("voice_vote", "VoiceVote", "1"),
        ("face_vote", "FaceVote", "2"),
        ("multimodal_vote", "MultiModalVote", "3"),
    ],
)
def test_labels_can_be_what_people_heard_or_saw(
    small: Path, source: str, column: str, given: str
) -> None:
    with (small / "processedResults/summaryTable.csv").open() as file:
        winners = {row["FileName"]: row[column] for row in csv.DictReader(file)}
    with (small / "processedResults/tabulatedVotes.csv").open() as file:
        counts = {r["fileName"]: r for r in csv.DictReader(file) if r[""].startswith(given)}
    found = {r.path.stem: r for r in read("crema-d", small, {"label_source": source})}
    ties = {name for name, winner in winners.items() if ":" in winner}
    assert found.keys() == winners.keys() - ties
    for name, recording in found.items():
        assert recording.label == LETTERS[winners[name]]
        assert recording.options["label_source"] == source
        assert recording.soft is not None
        shares = {label: int(counts[name][letter]) / 10 for letter, label in LETTERS.items()}
        assert recording.soft == pytest.approx(shares)
    left = {Path(b.file).stem: b.reason for b in crema_d.left_out(small, label_source=source)}
    assert ties or source == "multimodal_vote"
    assert left == {name: f"a tie of votes: {winners[name]}" for name in ties}


def test_votes_without_their_table_say_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path, "1001_TIE_SAD_XX")
    with pytest.raises(DataError, match=r"no summaryTable\.csv .* processedResults"):
        crema_d.recordings(tmp_path, label_source="voice_vote")
    with pytest.raises(ConfigError, match="label_source: 'votes' is none of intended, voice_vote"):
        read("crema-d", tmp_path, {"label_source": "votes"})


def test_the_official_folds_test_every_actor_once(tmp_path: Path) -> None:
    write(tmp_path, *(f"{actor}_TIE_ANG_XX" for actor in range(1001, 1092)))
    splits = make("official", crema_d.recordings(tmp_path))
    assert [len(split.test) for split in splits] == [18, 18, 18, 18, 19]
    assert splits[1].test[0] == "crema-d-1019"
    assert len({subject for split in splits for subject in split.test}) == 91
    for split in splits:
        assert len(split.val) in (14, 15)
        assert {*split.train, *split.val, *split.test} == set().union(*(s.test for s in splits))
        assert leaks(split) == []


def test_videos_show_the_faces_of_the_clips(small: Path) -> None:
    found = read("crema-d", small, {"media": "video"})
    assert Counter(r.label for r in found) == dict.fromkeys(crema_d.LABELS, 6)
    stream = open_labelled(found[0]).streams[0]
    assert (stream.info.kind, stream.info.rate_hz) == ("face", 30000 / 1001)
    assert stream.info.shape == (180, 240, 3)


@pytest.mark.slow
def test_the_planted_emotions_are_heard_and_seen_and_a_wrong_label_order_is_not(
    tmp_path: Path,
) -> None:
    made = fixture("crema-d").write(tmp_path, subjects=ACTORS, seed=0)
    for media, measure in (("audio", sounds), ("video", seen)):
        found = read("crema-d", tmp_path, {"media": media})
        x = np.array([measure(recording) for recording in found])
        labels, subjects = [r.label for r in found], [r.subject for r in found]
        wrong = dict(zip(crema_d.LABELS, crema_d.LABELS[1:] + crema_d.LABELS[:1], strict=True))
        right = recall(x, labels, subjects)
        assert 0.3 < right <= made.bayes[media] + 0.02, media
        assert recall(x, labels, subjects, [wrong[label] for label in labels]) < 0.25, media
