"""Data sets of stills: CK+, FER2013, AffectNet and the named faces, on files that we plant."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError
from engine.types import Array
from offline.datasets import LabelledRecording
from offline.fixtures import Fixture, affectnet, ck_plus, faces, fer2013
from offline.fixtures.stills import picture, pixel_csv
from offline.labels import CODES
from offline.readers import open_labelled, read, reader
from offline.splits import leaks, make

DATA = Path(__file__).parents[2] / "shared" / "data" / "faces"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not there")
WRITERS: Mapping[str, Callable[..., Fixture]] = {
    "ck-plus": ck_plus.write,
    "fer2013": fer2013.write,
    "affectnet": affectnet.write,
    "affectnet 2017": partial(affectnet.write, layout="2017"),
    "faces": faces.write,
}
each_kind = pytest.mark.parametrize("kind", WRITERS)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Fixture]]:
    made: dict[str, tuple[Path, Fixture]] = {}

    def write(kind: str) -> tuple[Path, Fixture]:
        if kind not in made:
            root = tmp_path_factory.mktemp(kind.replace(" ", "-"))
            made[kind] = root, WRITERS[kind](root, seed=0)
        return made[kind]

    return write


def pixels(recordings: Sequence[LabelledRecording]) -> Array:
    """(n, 2304) of what the reader opens."""
    opened = [open_labelled(recording).streams[0] for recording in recordings]
    return np.stack([stream.read(0, 1).ravel() for stream in opened]) / 255.0


def score(train: Array, label: Sequence[str], test: Array, truth: Sequence[str]) -> float:
    """UAR of a small linear model on 30 principal components."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        PCA(30, random_state=0), LogisticRegression(C=30, max_iter=2000, class_weight="balanced")
    )
    model.fit(train, label)
    return float(balanced_accuracy_score(truth, model.predict(test)))


def sides(found: Sequence[LabelledRecording]) -> tuple[list[Any], list[Any]]:
    """Trained on, and judged on, by the official split."""
    (split,) = make("official", found)
    assert leaks(split) == []
    train = [r for r in found if split.part_of(r) == "train"]
    return train, [r for r in found if split.part_of(r) in ("val", "test")]


@each_kind
def test_a_still_is_one_grey_crop_of_a_face(
    kind: str, planted: Callable[[str], tuple[Path, Fixture]]
) -> None:
    root, _ = planted(kind)
    recording = read(kind.split()[0], root)[3]
    (stream,) = open_labelled(recording).streams
    info = stream.info
    assert (info.kind, info.rate_hz, info.shape) == ("face", 15.0, (48, 48, 1))
    assert (info.channels, info.unit, stream.n_items) == (("grey",), "crop", 1)
    data = stream.read(0, 1)
    assert (data.shape, data.dtype) == ((1, 48, 48, 1), np.uint8)
    assert data.std() > 3


@each_kind
def test_the_planted_emotion_is_found_and_never_better_than_the_bayes_rate(
    kind: str, planted: Callable[[str], tuple[Path, Fixture]]
) -> None:
    root, fixture = planted(kind)
    train, test = sides(read(kind.split()[0], root))
    uar = score(pixels(train), [r.label for r in train], pixels(test), [r.label for r in test])
    best = next(iter(fixture.bayes.values()))
    assert 0.6 < uar < best + 0.06, (uar, best)  # some 150 pictures are judged


@each_kind
def test_a_shuffled_order_of_labels_or_pixels_falls_to_chance(
    kind: str, planted: Callable[[str], tuple[Path, Fixture]]
) -> None:
    root, _ = planted(kind)
    train, test = sides(read(kind.split()[0], root))
    labels = sorted({r.label for r in train})
    turned = dict(zip(labels, labels[1:] + labels[:1], strict=True))
    x, y, seen = pixels(train), [r.label for r in train], pixels(test)
    chance = 1.0 / len(labels)
    assert score(x, y, seen, [turned[r.label] for r in test]) < chance + 0.1
    shuffled = seen[:, np.random.default_rng(0).permutation(seen.shape[1])]
    assert score(x, y, shuffled, [r.label for r in test]) < chance + 0.12


def test_every_code_of_the_two_tables_is_the_picture_of_its_label(tmp_path: Path) -> None:
    """The registry's order and the fixture's drawing are told apart by the reader alone."""
    rng = np.random.default_rng(0)
    for dataset, name in (("ck-plus", "ckextended.csv"), ("fer2013", "fer2013.csv")):
        codes = list(CODES[dataset])
        drawn = [picture(rng, CODES[dataset][code]) for code in codes]
        (tmp_path / name).write_text(pixel_csv(drawn, codes, ["Training"] * len(codes)))
        found = read(dataset, tmp_path)
        assert [r.label for r in found] == list(CODES[dataset].values())
        for recording, x in zip(found, drawn, strict=True):
            opened = open_labelled(recording).streams[0].read(0, 1)
            assert np.array_equal(opened[0, :, :, 0], x)


def test_a_table_names_its_bad_rows_by_their_lines(tmp_path: Path) -> None:
    x = picture(np.random.default_rng(0), "happy")
    lines = pixel_csv([x] * 5, ["3"] * 5, ["Training"] * 5).splitlines()
    lines[2] = lines[2].replace("3,", "8,", 1)  # a code without meaning
    lines[3] = lines[3].replace(" ", " x", 1)
    lines[4] = "3,1 2 3,Training"
    lines[5] = lines[5].replace("Training", "Test")
    (tmp_path / "ckextended.csv").write_text("\n".join(lines) + "\n")
    assert [r.uid for r in read("ck-plus", tmp_path)] == ["ck-plus-row00000"]
    told = {b.file.rpartition(":")[2]: b.reason for b in reader("ck-plus").broken(tmp_path)}
    assert told["3"] == "the emotion '8' is none of 0, 1, 2, 3, 4, 5, 6, 7"
    assert told["4"] == "its pixels are no whole numbers"
    assert told["5"] == "has 3 pixels; need 2304, 48 rows of 48"
    assert told["6"] == "Usage is 'Test'; need one of Training, PublicTest, PrivateTest"


def test_a_table_that_changed_is_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "ckextended.csv"
    for n in (2, 3):
        pictures = [picture(rng, "sad") for _ in range(n)]
        path.write_text(pixel_csv(pictures, ["4"] * n, ["Training"] * n))
        assert len(read("ck-plus", tmp_path)) == n


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("ck-plus", r"no ckextended\.csv in this folder"),
        ("fer2013", r"no fer2013\.csv in this folder"),
        ("affectnet", "need train_set/ and val_set/"),
        ("faces", "no whole npz with the arrays x, y and subject"),
    ],
)
def test_an_empty_folder_is_told_what_is_looked_for(
    tmp_path: Path, dataset: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read(dataset, tmp_path)


def test_votes_become_soft_labels_and_the_faceless_are_left_out(
    planted: Callable[[str], tuple[Path, Fixture]],
) -> None:
    root, _ = planted("fer2013")
    found = read("fer2013", root, {"label_source": "ferplus"})
    assert {r.label for r in found} == set(CODES["ferplus"].values())
    with (root / "fer2013new.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for recording in found:
        row = rows[int(recording.part)]
        votes = {label: int(row[name]) for name, label in CODES["ferplus"].items()}
        assert recording.soft is not None
        assert sum(recording.soft.values()) == pytest.approx(1.0)
        assert recording.soft[recording.label] == max(recording.soft.values())
        assert recording.soft.keys() == {label for label, n in votes.items() if n}
    left_out = Counter(b.reason for b in fer2013_left_out(root))
    assert left_out["most votes are for no face or an unknown emotion"] >= 5
    assert len(found) + left_out.total() == len(rows)
    assert reader("fer2013").left_out(root) == []


def fer2013_left_out(root: Path) -> list[Any]:
    told: list[Any] = reader("fer2013").left_out(root, label_source="ferplus")
    return told


def test_votes_for_other_pictures_are_refused(tmp_path: Path) -> None:
    fer2013.write(tmp_path, subjects=5)
    votes = tmp_path / "fer2013new.csv"
    votes.write_text("\n".join(votes.read_text().splitlines()[:-1]))
    with pytest.raises(DataError, match=r"4 rows, but fer2013\.csv has 5"):
        read("fer2013", tmp_path, {"label_source": "ferplus"})
    votes.unlink()
    with pytest.raises(DataError, match="needs it beside"):
        read("fer2013", tmp_path, {"label_source": "ferplus"})


@pytest.mark.parametrize("layout", ["2021", "2017"])
def test_affectnet_tells_valence_and_arousal_from_0_to_1(tmp_path: Path, layout: str) -> None:
    affectnet.write(tmp_path, subjects=120, layout=layout)
    found = read("affectnet", tmp_path)
    assert all(r.dimensions is not None for r in found)
    mean = {
        (label, name): np.mean([(r.dimensions or {})[name] for r in found if r.label == label])
        for label in ("happy", "sad", "surprise")
        for name in ("valence", "arousal")
    }
    assert mean["happy", "valence"] == pytest.approx(0.85, abs=0.05)  # planted at 0.7 of -1 to 1
    assert mean["sad", "arousal"] == pytest.approx(0.35, abs=0.05)
    left_out = reader("affectnet").left_out(tmp_path)
    assert len(found) + len(left_out) == 120
    assert {b.reason for b in left_out} <= {"none of the emotions", "uncertain", "no face"}
    seven = read("affectnet", tmp_path, {"labels": "seven"})
    assert {r.label for r in seven} == {r.label for r in found} - {"contempt"}


def test_both_layouts_of_affectnet_show_the_same_faces(tmp_path: Path) -> None:
    for layout in ("2021", "2017"):
        (tmp_path / layout).mkdir()
        affectnet.write(tmp_path / layout, subjects=30, layout=layout)
    whole, cropped = (read("affectnet", tmp_path / layout) for layout in ("2021", "2017"))
    assert [r.label for r in whole] == [r.label for r in cropped]
    assert np.abs(pixels(whole) - pixels(cropped)).mean() < 3 / 255


def test_damaged_annotations_and_pictures_of_affectnet_are_named(tmp_path: Path) -> None:
    affectnet.write(tmp_path, subjects=12)
    folder = tmp_path / "train_set"
    first, second, third = sorted((folder / "images").iterdir())[:3]
    (folder / "annotations" / f"{first.stem}_exp.npy").write_bytes(b"\x93NUMPY")
    np.save(folder / "annotations" / f"{second.stem}_exp.npy", np.array("11"))
    third.write_bytes(b"")
    told = {Path(b.file).name: b.reason for b in reader("affectnet").broken(tmp_path)}
    assert set(told) == {first.name, second.name, third.name}
    assert f"its annotation {first.stem}_exp.npy is missing or damaged" in told[first.name]
    assert told[second.name] == "the expression '11' is none of 0 to 10"
    (empty,) = (r for r in read("affectnet", tmp_path) if r.path == third)
    with pytest.raises(DataError, match="the picture is missing or damaged"):
        open_labelled(empty)


def test_a_pickled_annotation_is_never_unpickled(tmp_path: Path) -> None:
    affectnet.write(tmp_path, subjects=8)
    note = next((tmp_path / "train_set" / "annotations").glob("*_exp.npy"))
    np.save(note, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (fault,) = reader("affectnet").broken(tmp_path)
    assert "missing or damaged" in fault.reason


def test_no_person_of_the_faces_stands_on_two_sides(
    planted: Callable[[str], tuple[Path, Fixture]],
) -> None:
    root, _ = planted("faces")
    found = read("faces", root)
    (split,) = make("official", found)
    assert split.unit == "subject"
    assert leaks(split) == []
    assert all(split.part_of(r) is not None for r in found)
    assert min(len(side) for side in (split.train, split.val, split.test)) > 5


def test_fear_is_among_seven_labels_of_the_faces_and_not_among_six(
    planted: Callable[[str], tuple[Path, Fixture]],
) -> None:
    root, _ = planted("faces")
    six, seven = read("faces", root), read("faces", root, {"labels": "seven"})
    fear = [r for r in seven if r.label == "fear"]
    assert len(seven) == len(six) + len(fear)
    assert len(fear) == len(reader("faces").left_out(root)) > 0
    assert {r.label for r in six} == set(reader("faces").LABELS)


def test_damaged_face_files_and_unknown_words_are_named(tmp_path: Path) -> None:
    x = np.zeros((2, 48, 48), np.uint8)
    names = np.array(["p1", "p2"])
    np.savez(tmp_path / "good.npz", x=x, y=np.array(["happy", "glad"]), subject=names)
    np.savez(tmp_path / "large.npz", x=x[:, :40], y=names, subject=names)
    np.savez(tmp_path / "other.npz", z=x)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    told = {Path(b.file).name: b.reason for b in reader("faces").broken(tmp_path)}
    assert set(told) == {"good.npz#1", "large.npz", "torn.npz"}
    assert told["good.npz#1"].startswith("the label 'glad' is none of neutral, happy")
    assert told["large.npz"] == "x is uint8 (2, 40, 48); need uint8 (n, 48, 48)"
    assert [r.uid for r in read("faces", tmp_path)] == ["faces-p1/good-00000"]


@real
def test_the_real_faces_are_all_there() -> None:
    found = read("faces", DATA, {"labels": "seven"})
    labels = Counter(r.label for r in found)
    assert labels == {
        "neutral": 3000, "happy": 3000, "surprise": 266, "sad": 219, "angry": 175,
        "disgust": 166, "fear": 19,
    }  # fmt: skip
    assert reader("faces").broken(DATA) == []
    (split,) = make("official", found)
    assert (len(split.train), len(split.val), len(split.test)) == (2269, 766, 775)
