"""The reader of DEAP on files as Python 2 wrote them: labels, baseline, splits, planted effects."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ConfigError, DataError
from engine.types import Array
from offline.datasets import LabelledRecording, deap
from offline.fixtures import fixture
from offline.readers import open_labelled, read
from offline.splits import leaks, make
from offline.unpickle import read_pickle

N_TRIALS = 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deap")
    fixture("deap").write(out, subjects=3, seed=5)
    return out


def write(root: Path, number: int, ratings: Array, data: Array | None = None) -> Path:
    """A file of these ratings (trials, 2), as Python 3 pickles it."""
    n = len(ratings)
    labels = np.concatenate((ratings, np.full((n, 2), 5.0)), axis=1)
    data = np.random.default_rng(0).standard_normal((n, 40, 640)) if data is None else data
    path = root / f"s{number:02d}.dat"
    path.write_bytes(pickle.dumps({"labels": labels, "data": data}, protocol=2))
    return path


def original(root: Path, subject: int = 1) -> Array:
    """(trials, 40, items) float64, past the reader."""
    path = root / "data_preprocessed_python" / f"s{subject:02d}.dat"
    return np.asarray(read_pickle(path)["data"])


def signals(recording: LabelledRecording) -> dict[str, Array]:
    return {s.info.name: s.read(0, s.n_items) for s in open_labelled(recording).streams}


def test_the_fixture_is_read_by_an_ordinary_unpickler_with_latin_1(root: Path) -> None:
    with (root / "data_preprocessed_python" / "s01.dat").open("rb") as file:
        content = pickle.load(file, encoding="latin1")
    assert (content["data"].dtype, content["labels"].shape) == (np.float64, (N_TRIALS, 4))
    assert np.array_equal(content["data"], original(root))


def test_a_trial_is_a_recording_of_two_streams_without_its_rest(root: Path) -> None:
    found = read("deap", root)
    assert [r.uid for r in found[N_TRIALS - 1 : N_TRIALS + 1]] == ["deap-01/t20", "deap-02/t01"]
    opened = open_labelled(found[2])
    eeg, physio = opened.streams
    assert (opened.name, eeg.info.kind, physio.info.kind) == ("s01-t03", "eeg", "physio")
    assert (eeg.info.rate_hz, eeg.info.unit, eeg.info.channels[:3]) == (
        *(128.0, "uV"),
        ("Fp1", "AF3", "F3"),
    )
    assert physio.info.channels[4:6] == ("GSR", "Respiration")
    x = original(root)[2].T[384:].astype(np.float32)
    assert np.array_equal(eeg.read(0, eeg.n_items), x[:, :32])
    assert np.array_equal(physio.read(5, 9), x[5:9, 32:])


def test_the_mean_second_of_the_rest_is_taken_from_every_second(root: Path) -> None:
    recording = read("deap", root, {"baseline": "subtract_mean_second"})[4]
    x = original(root)[4]
    rest = (x[:, :128] + x[:, 128:256] + x[:, 256:384]) / 3
    found = signals(recording)["eeg"]
    for second in range(3):
        expected = x[:32, 384 + 128 * second : 512 + 128 * second] - rest[:32]
        np.testing.assert_allclose(found[128 * second :][:128].T, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("task", "threshold", "expected"),
    [
        ("valence", "ge5", ["valence-low", "valence-high", "valence-high", "valence-low"]),
        ("valence", "gt5", ["valence-low", "valence-low", "valence-high", "valence-low"]),
        ("arousal", "ge5", ["arousal-high", "arousal-low", "arousal-high", "arousal-low"]),
        ("arousal", "gt5", ["arousal-high", "arousal-low", "arousal-low", "arousal-low"]),
        ("quadrants", "ge5", ["lvha", "hvla", "hvha", "lvla"]),
        ("quadrants", "gt5", ["lvha", "lvla", "hvla", "lvla"]),
    ],
)
def test_ratings_become_labels_by_the_threshold_that_is_asked_for(
    tmp_path: Path, task: str, threshold: str, expected: list[str]
) -> None:
    write(tmp_path, 1, np.array([[4.99, 9.0], [5.0, 1.0], [7.0, 5.0], [1.0, 4.5]]))
    found = read("deap", tmp_path, {"task": task, "threshold": threshold})
    assert [r.label for r in found] == expected
    assert found[0].dimensions == pytest.approx({"valence": 0.49875, "arousal": 1.0})


def test_subject_9_comes_before_subject_10(tmp_path: Path) -> None:
    for number in (10, 9):
        write(tmp_path, number, np.full((1, 2), 5.0))
    assert [r.subject for r in read("deap", tmp_path)] == ["deap-09", "deap-10"]


def test_a_file_is_read_once_for_all_of_its_trials(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read("deap", root)
    reads: list[Path] = []

    def counted(path: Path) -> Any:
        reads.append(path)
        return read_pickle(path)

    monkeypatch.setattr(deap, "read_pickle", counted)
    for recording in found:
        open_labelled(recording)
    assert len(reads) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.zeros((2, 40, 640))}, "it holds data; need data and labels"),
        ([1], "it holds list"),
        ({"data": np.zeros((2, 32, 640)), "labels": np.full((2, 4), 5.0)}, "shape .2, 32, 640"),
        ({"data": np.zeros((2, 40, 384)), "labels": np.full((2, 4), 5.0)}, "more than 384"),
        ({"data": np.zeros((2, 40), int), "labels": np.full((2, 4), 5.0)}, "data is int64"),
        ({"data": np.zeros((2, 40, 640)), "labels": np.full((3, 4), 5.0)}, r"labels .3, 4.; need"),
        ({"data": np.zeros((2, 40, 640)), "labels": np.zeros((2, 4))}, "from 1 to 9"),
        ({"data": "x", "labels": np.zeros((2, 4))}, "data is str"),
    ],
)
def test_a_file_with_other_content_is_named_with_the_reason(
    tmp_path: Path, content: Any, message: str
) -> None:
    path = tmp_path / "s03.dat"
    path.write_bytes(pickle.dumps(content, protocol=2))
    (fault,) = deap.broken(tmp_path)
    assert fault.file == str(path)
    with pytest.raises(DataError, match=rf"s03\.dat: .*{message}"):
        read("deap", tmp_path)


def test_what_is_not_there_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file of DEAP .*s01\.dat to s32\.dat"):
        read("deap", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read("deap", tmp_path / "none")
    with pytest.raises(ConfigError, match="none of ge5, gt5"):
        read("deap", root, {"threshold": "5"})
    assert deap.broken(root) == []


def test_the_official_splits_leave_one_video_out_of_everybody(root: Path) -> None:
    found = read("deap", root)
    splits = make("official", found)
    assert len(splits) == N_TRIALS
    for k, split in enumerate(splits, 1):
        assert split.test == tuple(f"deap-{s:02d}/t{k:02d}" for s in (1, 2, 3))
        assert (len(split.val), len(split.train)) == (6, 51)
        assert not leaks(split)
    assert splits[6].protocol == "deap-v2-ge5, leave one video out, t07"


def test_libeers_trials_are_24_8_8_of_each_subject_and_even_in_class(tmp_path: Path) -> None:
    for number in (1, 2):
        rng = np.random.default_rng(number)
        write(tmp_path, number, rng.uniform(1, 9, (40, 2)), rng.standard_normal((40, 40, 400)))
    found = read("deap", tmp_path, {"task": "quadrants", "threshold": "gt5"})
    split = deap.PRESETS["deap-libeer-trial"](found)
    assert split.protocol.startswith("deap-va4-gt5, deap-libeer-trial")
    labels = {r.uid: r.label for r in found}
    for subject in ("deap-01", "deap-02"):
        parts = [
            [uid for uid in part if uid.startswith(subject)]
            for part in (split.train, split.val, split.test)
        ]
        assert [len(part) for part in parts] == [24, 8, 8]
        n = Counter(labels[uid] for part in parts for uid in part)
        tested = Counter(labels[uid] for uid in parts[2])
        assert all(abs(tested[label] - n[label] / 5) <= 1 for label in n)
    assert split == deap.PRESETS["deap-libeer-trial"](found[::-1])
    assert not leaks(split)


def test_libeers_subjects_are_20_6_6_of_32() -> None:
    options = {"task": "arousal", "threshold": "ge5"}
    found = [
        LabelledRecording(f"deap-{k:02d}/t01", "deap", f"deap-{k:02d}", "", Path(), options=options)
        for k in range(1, 33)
    ]
    split = deap.PRESETS["deap-libeer-subject"](found)
    assert (len(split.train), len(split.val), len(split.test)) == (20, 6, 6)
    assert split.protocol.startswith("deap-a2-ge5, deap-libeer-subject")
    assert not leaks(split)
    with pytest.raises(ConfigError, match="2 subjects are too few"):
        deap.PRESETS["deap-libeer-subject"](found[:2])


def features(recording: LabelledRecording, order: Array | None = None) -> Array:
    """Log power of 32 channels in four bands, and of two peripheral channels; `order` is a wrong
    one of all 40."""
    parts = signals(recording)
    x = np.concatenate((parts["eeg"], parts["physio"]), axis=1)
    x = x if order is None else x[:, order]
    power = np.abs(np.fft.rfft(x[:, :32], axis=0)) ** 2
    freq_hz = np.fft.rfftfreq(len(x), 1 / 128)
    edges = ((4, 8), (8, 14), (14, 31), (31, 45))
    bands = [np.log(power[(freq_hz >= a) & (freq_hz < b)].mean(axis=0)) / 2 for a, b in edges]
    return np.concatenate((*bands, [np.log(x[:, 34].std()), x[:, 36].mean()]))


@pytest.mark.parametrize("task", ["valence", "arousal"])
def test_what_is_planted_is_found_in_new_people_and_lost_with_the_order(
    tmp_path: Path, task: str
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = fixture("deap").write(tmp_path, subjects=10, seed=1)
    found = read("deap", tmp_path, {"task": task})
    known = [r for r in found if r.subject <= "deap-06"]
    new = [r for r in found if r.subject > "deap-06"]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    model.fit(np.stack([features(r) for r in known]), [r.label for r in known])
    truth, rng = np.array([r.label for r in new]), np.random.default_rng(0)
    told = model.predict(np.stack([features(r) for r in new]))
    assert 0.7 < balanced_accuracy_score(truth, told) < made.bayes[task] + 0.1
    shuffled = [balanced_accuracy_score(rng.permutation(truth), told) for _ in range(20)]
    assert abs(np.mean(shuffled) - 0.5) < 0.05
    mixed = []
    for _ in range(10):
        order = np.concatenate((rng.permutation(32), 32 + rng.permutation(8)))
        wrong = model.predict(np.stack([features(r, order) for r in new]))
        mixed.append(balanced_accuracy_score(truth, wrong))
    assert abs(np.mean(mixed) - 0.5) < 0.08


def test_the_bayes_rates_are_those_of_a_good_reader(tmp_path: Path) -> None:
    bayes = fixture("deap").write(tmp_path, subjects=1).bayes
    assert all(0.6 < rate < 0.95 for rate in bayes.values())
    assert bayes["valence (eeg)"] < bayes["valence"]
    assert bayes["quadrants"] == pytest.approx(bayes["valence"] * bayes["arousal"], abs=0.01)
