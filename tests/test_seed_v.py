"""The reader of SEED-V: time tables, the three forms, folds, and emotions planted in the files."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError
from engine.steps.entropy import BANDS, DifferentialEntropy
from engine.types import Array, StreamInfo
from offline.datasets import LabelledRecording, seed_v
from offline.datasets.seed_v import CHANNELS, FEATURES, LABELS, SESSIONS
from offline.fixtures import Fixture, fixture
from offline.fixtures.cnt import write_cnt
from offline.readers import open_labelled, read
from offline.splits import leaks, make

RAW = ("M1", *CHANNELS[::-1], "M2", "VEO", "HEO")  # in an order that is not ours


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fixture]:
    out = tmp_path_factory.mktemp("seed-v")
    return out, fixture("seed-v").write(out, subjects=4, seed=3)


def signal(recording: LabelledRecording) -> Array:
    (stream,) = open_labelled(recording).streams
    return stream.read(0, stream.n_items)


def windows(found: list[LabelledRecording]) -> tuple[Array, Array]:
    """All items of all recordings, and their labels."""
    parts = [signal(r) for r in found]
    labels = [r.label for r, part in zip(found, parts, strict=True) for _ in part]
    return np.concatenate(parts), np.array(labels)


# The time tables


def test_the_tables_hold_1823_windows_in_nine_blocks() -> None:
    sizes = [trial.n_windows for session in SESSIONS for trial in session]
    blocks = [sum(sizes[at : at + 5]) for at in range(0, 45, 5)]
    assert [sum(t.n_windows for t in session) for session in SESSIONS] == [681, 541, 601]
    assert list(accumulate(blocks)) == [183, 439, 681, 866, 1051, 1222, 1386, 1612, 1823]
    assert 16 * sum(sizes) == 29_168


def test_every_block_of_five_clips_holds_every_emotion_once() -> None:
    for session in SESSIONS:
        for at in range(0, 15, 5):
            assert sorted(trial.code for trial in session[at : at + 5]) == [0, 1, 2, 3, 4]


def test_the_windows_of_each_emotion_are_those_of_the_data_set() -> None:
    n = Counter[str]()
    for trial in (trial for session in SESSIONS for trial in session):
        n[LABELS[trial.code]] += trial.n_windows
    assert n == {"sad": 476, "fear": 373, "neutral": 367, "disgust": 306, "happy": 301}


def test_there_are_62_channels_and_310_features_channel_after_channel() -> None:
    assert (len(set(CHANNELS)), len(set(FEATURES))) == (62, 310)
    assert FEATURES[:6] == (
        *("FP1 delta", "FP1 theta", "FP1 alpha", "FP1 beta", "FP1 gamma", "FPZ delta"),
    )


# Features


def test_the_features_of_a_subject_are_1823_items_in_45_recordings(
    made: tuple[Path, Fixture],
) -> None:
    found = [r for r in read("seed-v", made[0], {"form": "de"}) if r.subject == "seed-v-02"]
    assert [r.uid for r in found[14:17]] == [
        *("seed-v-02/s1/t15", "seed-v-02/s2/t01", "seed-v-02/s2/t02"),
    ]
    x, labels = windows(found)
    assert x.shape == (1823, 310)
    assert Counter(labels.tolist()) == {
        "sad": 476, "fear": 373, "neutral": 367, "disgust": 306, "happy": 301
    }  # fmt: skip
    (stream,) = open_labelled(found[0]).streams
    assert (stream.info.name, stream.info.kind, stream.info.rate_hz, stream.info.unit) == (
        *("eeg", "eeg", 0.25, "nat"),
    )
    assert stream.info.channels == FEATURES
    assert x.dtype == np.float32
    with np.load(found[0].path) as archive:  # past the reader
        data = pickle.loads(archive["data"].item())
    assert np.array_equal(signal(found[16]), data[16].astype(np.float32))


def test_eye_features_are_33_physiological_channels(made: tuple[Path, Fixture]) -> None:
    found = read("seed-v", made[0], {"form": "eye"})
    opened = open_labelled(found[3])
    (stream,) = opened.streams
    assert (stream.info.name, stream.info.kind, stream.info.shape) == ("eye", "physio", (33,))
    assert (opened.name, stream.n_items) == ("s1-s1-t04", SESSIONS[0][3].n_windows)
    assert len(found) == 4 * 45


def test_subject_9_comes_before_subject_10(made: tuple[Path, Fixture], tmp_path: Path) -> None:
    folder = tmp_path / "EEG_DE_features"
    folder.mkdir()
    for number in (10, 9):
        (folder / f"{number}_123.npz").hardlink_to(made[0] / "EEG_DE_features" / "1_123.npz")
    subjects = [r.subject for r in read("seed-v", tmp_path, {"form": "de"})]
    assert subjects == ["seed-v-09"] * 45 + ["seed-v-10"] * 45


def rewrite(path: Path, **changed: Any) -> None:
    """Entries of a file of features as what `changed` holds: pickled, or bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    trials = [trial for session in SESSIONS for trial in session]
    content: dict[str, Any] = {
        "data": {k: np.zeros((t.n_windows, 310)) for k, t in enumerate(trials)},
        "label": {k: np.full(t.n_windows, t.code) for k, t in enumerate(trials)},
    }
    packed = {}
    for key, value in (content | changed).items():
        value = value(content[key]) if callable(value) else value
        packed[key] = value if isinstance(value, bytes) else pickle.dumps(value, protocol=3)
    np.savez(path, **packed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", lambda d: {str(k): x for k, x in d.items()}, "data is no dict of clips"),
        ("data", lambda d: {k + 1: x for k, x in d.items()}, "0 does not fit"),
        ("data", lambda d: dict(list(d.items())[:15]), "15 entries; need an array for each"),
        ("data", lambda d: d | {3: [1]}, "an array for each clip"),
        ("data", lambda d: d | {3: d[3][:, :300]}, "clip 3: data .*300. with labels"),
        ("data", lambda d: d | {3: d[3][:-1]}, "clip 3: data"),
        ("label", lambda d: d | {7: d[7] + 1}, "clip 7 is labelled 4, not 3"),
        ("data", b"cos\nsystem\n(S'true'\ntR.", "asks for the name os.system"),
        ("label", [1, 2], "label is no dict of clips"),
        ("other", {}, "it holds data, label, other; need data and label"),
    ],
)
def test_a_file_of_features_with_other_content_is_named_with_the_reason(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    path = tmp_path / "EEG_DE_features" / "1_123.npz"
    rewrite(path, **{key: value})
    (fault,) = seed_v.broken(tmp_path)
    assert fault.file == str(path)
    with pytest.raises(DataError, match=message):
        raise DataError(fault.reason)


def test_clips_of_another_length_count_as_broken(tmp_path: Path) -> None:
    path = tmp_path / "EEG_DE_features" / "1_123.npz"
    rewrite(path, data=lambda d: d | {2: d[2][1:]}, label=lambda d: d | {2: d[2][1:]})
    (fault,) = seed_v.broken(tmp_path)
    assert fault.reason == f"clip 2 has {SESSIONS[0][2].n_windows - 1} windows, not 59"


def test_an_array_where_a_pickle_belongs_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "EEG_DE_features"
    folder.mkdir()
    np.savez(folder / "1_123.npz", data=np.zeros(3), label=np.zeros(3))
    with pytest.raises(DataError, match=r"data is float64 .* need a pickle as bytes"):
        open_labelled(read("seed-v", tmp_path, {"form": "de"})[0])


# Raw recordings


def write_raw(folder: Path, seconds: float, rate_hz: int = 100, table: str = "") -> Array:
    """A recording of noise (time, 66); at 100 Hz, to be small."""
    folder.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(0).normal(0, 20, (round(seconds * rate_hz), 66))
    write_cnt(folder / "3_1_20180804.cnt", x, RAW, rate_hz)
    if table:
        (folder / "trials.csv").write_text("session,trial,start_s,end_s,label\n" + table)
    return x


def test_a_raw_clip_is_its_stretch_of_the_file_by_the_data_sets_times(tmp_path: Path) -> None:
    x = write_raw(tmp_path / "EEG_raw", 230.0)
    found = read("seed-v", tmp_path)
    assert [r.label for r in found[:5]] == ["happy", "fear", "neutral", "sad", "disgust"]
    opened = open_labelled(found[1])  # from 132 to 228 s
    (stream,) = opened.streams
    assert (stream.n_items, stream.info.channels, stream.info.unit) == (9600, CHANNELS, "uV")
    columns = [RAW.index(channel) for channel in CHANNELS]
    expected = x[13200:22800][:, columns]
    np.testing.assert_allclose(stream.read(17, 9600), expected[17:], atol=0.003)
    first = open_labelled(found[0]).start_wall
    assert first is not None
    assert opened.start_wall == first + 102
    with pytest.raises(DataError, match="trial 3 ends at 524 s, the file at 230 s"):
        open_labelled(found[2])
    (fault,) = seed_v.broken(tmp_path)
    assert fault.reason.startswith("trial 3 ends at 524 s")


def test_only_the_clips_own_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(tmp_path, 110.0)
    opened = open_labelled(read("seed-v", tmp_path)[0])
    read_items: list[int] = []
    fromfile = np.fromfile

    def counted(*args: Any, **kwargs: Any) -> Array:
        read_items.append(args[2])
        return fromfile(*args, **kwargs)

    monkeypatch.setattr(np, "fromfile", counted)
    opened.streams[0].read(0, 50)
    assert read_items == [50 * 66]


def test_a_table_beside_the_file_replaces_the_times(tmp_path: Path) -> None:
    rows = "1,2,1,2.5,sad\n2,1,0,1,happy\n1,10,3,4,fear\n1,9,2,3,neutral\n"
    x = write_raw(tmp_path, 4.0, table=rows)
    found = read("seed-v", tmp_path)
    assert [(r.uid, r.label) for r in found] == [
        ("seed-v-03/s1/t02", "sad"),
        ("seed-v-03/s1/t09", "neutral"),
        ("seed-v-03/s1/t10", "fear"),
    ]
    np.testing.assert_allclose(signal(found[0])[:, 0], x[100:250, RAW.index("FP1")], atol=0.003)
    assert seed_v.broken(tmp_path) == []


@pytest.mark.parametrize(
    "row", ["1,1,2,1,sad", "1,1,0,1,bored", "1,1,0", "one,1,0,1,sad", "1,1,0,inf,sad"]
)
def test_a_row_of_the_table_that_makes_no_sense_is_named(tmp_path: Path, row: str) -> None:
    write_raw(tmp_path, 4.0, table=f"1,1,0,1,sad\n{row}\n")
    with pytest.raises(DataError, match=r"trials\.csv:3: .*need session, trial, start_s"):
        read("seed-v", tmp_path)


def test_a_recording_that_lacks_channels_is_named_with_them(tmp_path: Path) -> None:
    write_cnt(tmp_path / "1_1_20180804.cnt", np.zeros((20000, 60)), RAW[:60], 100)
    with pytest.raises(DataError, match=r"1_1_20180804\.cnt: .*missing: FP1"):
        open_labelled(read("seed-v", tmp_path)[0])


def test_what_is_not_there_is_named(made: tuple[Path, Fixture], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"form raw .* need files like EEG_raw/1_1_20180804\.cnt"):
        read("seed-v", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read("seed-v", tmp_path / "none")
    with pytest.raises(DataError, match=r"there are files of the form de$"):
        read("seed-v", made[0] / "EEG_DE_features")


# Splits


def test_the_official_folds_test_every_clip_once_and_share_no_clip(
    made: tuple[Path, Fixture],
) -> None:
    found = read("seed-v", made[0], {"form": "de"})
    labels = {r.uid: r.label for r in found}
    splits = make("official", found)
    tested = [uid for split in splits for uid in split.test]
    assert sorted(tested) == sorted(labels)
    for p, split in enumerate(splits):
        assert {uid[-2:] for uid in split.test} == {f"{5 * p + k:02d}" for k in range(1, 6)}
        assert (len(split.train), len(split.val), len(split.test)) == (4 * 25, 4 * 5, 4 * 15)
        assert Counter(labels[uid] for uid in split.val) == dict.fromkeys(LABELS, 4)
        assert len(set(split.train + split.val + split.test)) == 4 * 45
        assert not leaks(split)
        assert f"fold {p}: clips {5 * p + 1}-{5 * p + 5} tested" in split.protocol


# What is planted


@pytest.mark.parametrize(("form", "least"), [("de", 0.55), ("eye", 0.5)])
def test_what_is_planted_is_found_in_a_new_person_and_lost_with_the_order(
    made: tuple[Path, Fixture], form: str, least: float
) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import balanced_accuracy_score

    root, told = made
    found = read("seed-v", root, {"form": form})
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)
    model.fit(*windows([r for r in found if r.subject != "seed-v-04"]))
    x, truth = windows([r for r in found if r.subject == "seed-v-04"])
    guess, rng = model.predict(x), np.random.default_rng(0)
    assert least < balanced_accuracy_score(truth, guess) < told.bayes[form] + 0.1
    n_bands = len(BANDS) if form == "de" else 1
    mixed = []
    for _ in range(20):
        order = rng.permutation(x.shape[1] // n_bands)[:, None] * n_bands + np.arange(n_bands)
        mixed.append(balanced_accuracy_score(truth, model.predict(x[:, order.ravel()])))
    assert abs(np.mean(mixed) - 0.2) < 0.05
    lost = [balanced_accuracy_score(rng.permutation(truth), guess) for _ in range(20)]
    assert abs(np.mean(lost) - 0.2) < 0.02


def test_the_raw_session_has_the_entropy_that_was_planted(made: tuple[Path, Fixture]) -> None:
    found = read("seed-v", made[0])
    assert [r.label for r in found] == ["happy", "fear", "neutral", "sad", "disgust"]
    info = StreamInfo("eeg", "eeg", 1000.0, CHANNELS, "uV", (62,))
    rows = {}
    for r in found:
        x = signal(r)
        entropy, _, _ = DifferentialEntropy(info)(x, np.ones(len(x), bool))
        rows[r.label] = entropy.reshape(62, 5)

    def at(label: str, *channels: str) -> float:
        return float(np.mean([rows[label][CHANNELS.index(c), 2] for c in channels]))

    up, down = ("PZ", "P1", "P2", "POZ"), ("FZ", "F1", "F2", "FCZ")
    for label in ("happy", "fear", "neutral", "disgust"):
        assert at("sad", *up) - at("sad", *down) > at(label, *up) - at(label, *down) + 0.3
    assert abs(rows["neutral"].mean(axis=0)[2] - 1.8) < 0.3  # nats, as planted


def test_the_bayes_rates_leave_room_above_chance_and_below_certainty(
    made: tuple[Path, Fixture],
) -> None:
    bayes = made[1].bayes
    assert all(0.6 < rate < 0.9 for rate in bayes.values())
    assert max(bayes["de"], bayes["eye"]) < bayes["de+eye"]
    assert made[1].files == 10
    assert seed_v.broken(made[0]) == []
