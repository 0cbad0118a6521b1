"""The readers of RAVDESS, EmoDB and nEMO: what names mean, what is left out, and the real files."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.errors import ConfigError, DataError
from offline.datasets import emodb, nemo, ravdess
from offline.fixtures import Fixture, fixture
from offline.readers import open_labelled, read, reader
from offline.splits import leaks, make
from tests.acted_clips import recall, sounds

DATA = Path(__file__).parents[2] / "shared" / "data"
real = pytest.mark.skipif(not (DATA / "speech").is_dir(), reason="the shared data is not there")
ONE = {"ravdess": "03-01-05-02-01-02-12", "emodb": "03a01Wa", "nemo": "EB0_anger_67"}
MODULES: dict[str, Any] = {"ravdess": ravdess, "emodb": emodb, "nemo": nemo}
each_dataset = pytest.mark.parametrize("dataset", ONE)


def write(folder: Path, *names: str) -> Path:
    """A tenth of a second of noise in each file; without a suffix it is a WAV."""
    for name in names:
        path = folder / (name if "." in name else f"{name}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 1600), 16000)
    return folder


def labels(dataset: str, root: Path) -> dict[str, str]:
    return {recording.path.stem: recording.label for recording in read(dataset, root)}


def test_a_ravdess_name_tells_emotion_intensity_actor_and_gender(tmp_path: Path) -> None:
    write(tmp_path, "Actor_12/03-01-05-02-01-02-12", "Actor_01/03-01-01-01-02-01-01")
    first, second = ravdess.recordings(tmp_path)
    assert (first.uid, first.subject, first.label) == (
        "ravdess-01/03-01-01-01-02-01-01",
        "ravdess-01",
        "neutral",
    )
    assert (second.subject, second.label, second.trial) == (
        "ravdess-12",
        "angry",
        "03-01-05-02-01-02-12",
    )
    assert first.groups == {"gender": "m", "intensity": "normal"}
    assert second.groups == {"gender": "f", "intensity": "strong"}
    assert open_labelled(first).streams[0].info.kind == "voice"


def test_every_ravdess_code_has_its_label(tmp_path: Path) -> None:
    write(tmp_path, *(f"03-01-0{code}-01-01-01-01" for code in range(1, 9)))
    assert list(labels("ravdess", tmp_path).values()) == [
        *("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise"),
    ]


def test_every_emodb_letter_has_its_label_and_boredom_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, *(f"03a01{letter}a" for letter in "NFTWAEL"))
    assert labels("emodb", tmp_path) == {
        "03a01Na": "neutral",
        "03a01Fa": "happy",
        "03a01Ta": "sad",
        "03a01Wa": "angry",
        "03a01Aa": "fear",
        "03a01Ea": "disgust",
    }
    (bored,) = emodb.left_out(tmp_path)
    assert (Path(bored.file).stem, bored.reason) == ("03a01La", "boredom has no canonical label")
    assert emodb.broken(tmp_path) == []


def test_the_speakers_of_emodb_have_their_gender(tmp_path: Path) -> None:
    write(tmp_path, "03a01Wa", "08b02N", "16b10Td")
    found = {r.subject: r.groups["gender"] for r in emodb.recordings(tmp_path)}
    assert found == {"emodb-03": "m", "emodb-08": "f", "emodb-16": "f"}


def test_every_nemo_word_has_its_label(tmp_path: Path) -> None:
    words = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
    write(tmp_path, *(f"EB0_{word}_1" for word in words))
    assert list(labels("nemo", tmp_path).values()) == [
        *("angry", "fear", "happy", "neutral", "sad", "surprise"),
    ]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (
            "MANIFEST.csv",
            "file,dataset,subject,gender\na,emodb,EB0,m\nb,nemo,nemo-EB0,f\nc,nemo,nemo-KS0,m\n",
        ),
        ("data.tsv", "file_id\tspeaker_id\tgender\nx\tEB0\tfemale\ny\tKS0\tmale\n"),
    ],
)
def test_the_gender_in_nemo_is_known_where_a_table_tells_it(
    tmp_path: Path, table: str, text: str
) -> None:
    root = write(tmp_path / "nemo", "EB0_anger_1", "KS0_fear_2")
    assert all(r.groups == {} for r in nemo.recordings(root))
    (tmp_path / table).write_text(text)
    found = {r.subject: r.groups["gender"] for r in nemo.recordings(root)}
    assert found == {"nemo-EB0": "f", "nemo-KS0": "m"}


def test_song_and_the_sound_of_videos_are_left_out_of_ravdess(tmp_path: Path) -> None:
    write(tmp_path, "03-02-05-01-01-01-01", "01-01-05-01-01-01-01", ONE["ravdess"])
    assert list(labels("ravdess", tmp_path)) == [ONE["ravdess"]]
    assert {Path(b.file).stem: b.reason for b in ravdess.left_out(tmp_path)} == {
        "03-02-05-01-01-01-01": "sung, not spoken",
        "01-01-05-01-01-01-01": "not the file with audio only",
    }


@pytest.mark.parametrize(
    ("dataset", "name", "reason"),
    [
        ("ravdess", "03-01-09-01-01-01-01", "the emotion 09 is none of 01 to 08"),
        ("ravdess", "03-01-05-03-01-01-01", "the intensity 03 is neither 01 nor 02"),
        ("ravdess", "03-01-05-01-01-01-25", "the actor 25 is none of 01 to 24"),
        ("emodb", "03a01Xa", "the emotion X is none of N, F, T, W, A, E, L"),
        ("nemo", "EB0_joy_1", "the emotion 'joy' is none of neutral, happiness"),
    ],
)
def test_a_code_without_meaning_is_named(
    tmp_path: Path, dataset: str, name: str, reason: str
) -> None:
    write(tmp_path, name, ONE[dataset])
    (fault,) = MODULES[dataset].broken(tmp_path)
    assert fault.file == str(tmp_path / f"{name}.wav")
    assert fault.reason.startswith(reason)
    assert list(labels(dataset, tmp_path)) == [ONE[dataset]]


@each_dataset
def test_a_damaged_file_is_named_with_the_reason(tmp_path: Path, dataset: str) -> None:
    write(tmp_path, ONE[dataset])
    path = tmp_path / f"{ONE[dataset]}.wav"
    assert MODULES[dataset].broken(tmp_path) == []
    path.write_bytes(path.read_bytes()[:1000])
    (fault,) = MODULES[dataset].broken(tmp_path)
    assert fault.file == str(path)
    assert fault.reason.startswith("the header promises 3200 bytes, there are 956")


@each_dataset
def test_a_clip_that_is_there_twice_is_read_once(tmp_path: Path, dataset: str) -> None:
    name = ONE[dataset]
    write(tmp_path, f"a/{name}", f"b/{name}.flac", f"b/x{name}", "other")
    assert [r.path for r in read(dataset, tmp_path)] == [tmp_path / "a" / f"{name}.wav"]


@each_dataset
def test_a_folder_without_clips_says_what_is_looked_for(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(DataError, match=f"no {dataset} recording below .* need files like"):
        read(dataset, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read(dataset, tmp_path / "none")


def test_clips_come_by_speaker_in_the_order_of_numbers(tmp_path: Path) -> None:
    write(tmp_path, "b/EB0_fear_10", "b/EB0_fear_9", "a/KS0_anger_1")
    assert [r.path.stem for r in nemo.recordings(tmp_path)] == [
        *("EB0_fear_9", "EB0_fear_10", "KS0_anger_1"),
    ]


def test_the_official_folds_of_ravdess_test_every_actor_once(tmp_path: Path) -> None:
    write(tmp_path, *(f"03-01-05-01-01-01-{actor:02d}" for actor in range(1, 25)))
    splits = make("official", ravdess.recordings(tmp_path))
    assert [len(split.test) for split in splits] == [4] * 6
    assert splits[0].test == ("ravdess-01", "ravdess-11", "ravdess-20", "ravdess-21")
    tested = sorted(subject for split in splits for subject in split.test)
    assert tested == [f"ravdess-{k:02d}" for k in range(1, 25)]
    for split in splits:
        assert {*split.train, *split.val, *split.test} == set(tested)
        assert len(split.val) == 4
        assert leaks(split) == []


def test_folds_of_speakers_who_are_not_there_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, *(f"03-01-05-01-01-01-{actor:02d}" for actor in (1, 2, 3)))
    splits = make("official", ravdess.recordings(tmp_path))
    assert [split.test for split in splits] == [("ravdess-01",), ("ravdess-03",), ("ravdess-02",)]
    write(tmp_path / "two", *(f"03-01-05-01-01-01-{actor:02d}" for actor in (1, 2)))
    with pytest.raises(ConfigError, match="2 speakers are too few for fold 0 of EmoBox"):
        make("official", ravdess.recordings(tmp_path / "two"))


@pytest.fixture(scope="module")
def acted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fixture]:
    """Files like RAVDESS's, of two actors."""
    out = tmp_path_factory.mktemp("ravdess")
    made: Fixture = fixture("ravdess").write(out, subjects=2, seed=1)
    return out, made


def test_speech_song_and_videos_of_ravdess_are_told_apart(acted: tuple[Path, Fixture]) -> None:
    root, made = acted
    assert made.files == sum(path.is_file() for path in root.rglob("*"))
    speech, song = read("ravdess", root), read("ravdess", root, {"channel": "song"})
    films = read("ravdess", root, {"media": "video"})
    assert Counter(r.label for r in speech) == {"neutral": 2} | dict.fromkeys(ravdess.LABELS[1:], 4)
    assert Counter(r.label for r in song) == {"neutral": 2} | dict.fromkeys(ravdess.LABELS[1:6], 4)
    assert Counter(r.label for r in films) == dict.fromkeys(ravdess.LABELS, 4)
    kinds = {open_labelled(r).streams[0].info.kind for r in films}
    rates = {open_labelled(r).streams[0].info.rate_hz for r in (*speech, *song)}
    assert (kinds, rates) == ({"face"}, {48000})
    assert ravdess.broken(root) == []


def test_a_stereo_clip_of_ravdess_keeps_both_channels(acted: tuple[Path, Fixture]) -> None:
    channels = [open_labelled(r).streams[0].info.channels for r in read("ravdess", acted[0])]
    assert Counter(channels) == {("mono",): 29, ("left", "right"): 1}


def test_of_a_picture_with_and_without_sound_one_is_read(acted: tuple[Path, Fixture]) -> None:
    names = {str(r.trial) for r in read("ravdess", acted[0], {"media": "video"})}
    assert "01-01-01-01-01-01-01" in names
    assert "02-01-01-01-01-01-01" not in names
    left = {Path(b.file).stem: b.reason for b in ravdess.left_out(acted[0], media="video")}
    assert left["02-01-01-01-01-01-01"] == "the same picture as 01, which has the sound too"
    assert len(left) == 2


def test_actor_18_of_ravdess_sings_nothing(tmp_path: Path) -> None:
    write(tmp_path, "03-02-03-01-01-01-17", "03-01-03-01-01-01-18")
    assert {r.subject for r in ravdess.recordings(tmp_path, channel="song")} == {"ravdess-17"}


@pytest.mark.parametrize(("dataset", "n"), [("emodb", 10), ("nemo", 6), ("ravdess", 0)])
def test_the_planted_emotions_are_heard_and_a_wrong_label_order_is_not(
    tmp_path: Path, dataset: str, n: int, acted: tuple[Path, Fixture]
) -> None:
    root, made = acted
    if n:
        root, made = tmp_path, fixture(dataset).write(tmp_path, subjects=n, seed=0)
    found = read(dataset, root)
    x = np.array([sounds(recording) for recording in found])
    labels, subjects = [r.label for r in found], [r.subject for r in found]
    names = reader(dataset).LABELS
    wrong = dict(zip(names, names[1:] + names[:1], strict=True))
    least, rate = (0.5, made.bayes["emotion"]) if n else (0.3, made.bayes["speech"])
    assert least < recall(x, labels, subjects) <= rate
    assert recall(x, labels, subjects, [wrong[label] for label in labels]) < 0.25


@real
@pytest.mark.parametrize(
    ("dataset", "n", "n_subjects"), [("ravdess", 1080, 18), ("emodb", 231, 7), ("nemo", 892, 6)]
)
def test_the_real_clips_are_read_as_the_manifest_lists_them(
    dataset: str, n: int, n_subjects: int
) -> None:
    root = DATA / "speech" / dataset
    found = read(dataset, root)
    with (DATA / "MANIFEST.csv").open(newline="") as table:
        told = {Path(row["file"]).name: row for row in csv.DictReader(table)}
    for recording in found:
        row = told[recording.path.name]
        assert (recording.subject, recording.label) == (row["subject"], row["label"])
        assert recording.groups["gender"] == row["gender"]
    assert (len(found), len({r.subject for r in found})) == (n, n_subjects)
    assert set(Counter(r.label for r in found)) <= set(reader(dataset).LABELS)
    assert MODULES[dataset].broken(root) == []
