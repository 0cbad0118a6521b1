"""Data sets as streams: each recording a session, its label the truth, as it would be judged."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import bundle as bundles
from engine.arguments import pairs
from engine.bundle import Bundle
from engine.cli import main
from engine.errors import ConfigError
from engine.runtime_onnx import OnnxRuntime
from offline.evaluate import predict
from offline.fixtures import FIXTURES, fixture
from offline.readers import DATASETS, open_labelled, read
from sources.datasets import find, open_with_truth, select
from sources.feed import session_name
from sources.play import with_labels
from sources.recording import Recording
from sources.replay import ReplaySource
from tests.bundles import graph

N_STATISTICS = 7

# What is replayed of each kind: a pattern of files below the root, "" for the root; the bundle,
# "" for one that is made for the stream; the first session.
SAMPLES = {
    "deap": ("", "", "s01-t01"),
    "seed-v": ("", "", "s1-s1-t01"),
    "eegmat": ("*_1.npz", "workload-eegmat", "Subject01_1"),
    "stress-predict": ("", "stress-wrist", "S02"),
    "recording": ("", "", "p01"),
    "manifest": ("", "", "day-1-1"),
    "ravdess": ("**/03-01-05-*.wav", "speech-4", "03-01-05-01-02-01-01"),
    "crema-d": ("**/1001_IEO_ANG_*.wav", "speech-4", "1001_IEO_ANG_HI"),
    "savee": ("**/a01.wav", "speech-4", "DC_a01"),
    "emodb": ("**/03a01Fa.wav", "speech-4", "03a01Fa"),
    "nemo": ("**/EB0_anger_1.wav", "speech-4", "EB0_anger_1"),
    "ck-plus": ("", "face-6", "ck-plus-row00000"),
    "fer2013": ("", "face-6", "fer2013-row00000"),
    "affectnet": ("", "face-6", "affectnet-train-1"),
    "faces": ("", "face-6", "faces-p717a4cc15a-faces_48-00000"),
}


def made_for(recording: Recording, folder: Path) -> Path:
    """A bundle without training that reads the first stream of `recording`."""
    info = recording.streams[0].info
    assert info.rate_hz is not None
    window_s = max(1.0, 2.0 / info.rate_hz)
    spec = {
        "kind": info.kind, "rate_hz": info.rate_hz, "channels": info.channels, "unit": info.unit,
        "window_s": window_s, "min_filled_s": window_s, "steps": [],
        "features": [{"name": "statistics"}],
    }  # fmt: skip
    told = {
        "id": "test", "labels": ("low", "high"), "vocabulary": "test", "hop_s": 0.5,
        "inputs": {info.name: spec}, "network": {"name": "linear", "args": {}},
        "temperature": 1.0, "abstain_below": 0.0, "batch_sizes": [1],
        "protocol": "none: weights by chance", "seen_subjects": [], "metrics": {},
        "data": "none", "licence": "Apache-2.0", "felt_or_expressed": "felt",
    }  # fmt: skip
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(N_STATISTICS * len(info.channels), 2)).astype(np.float32) / 10
    model = graph(weight, np.zeros(2, np.float32), info.name)
    x = rng.normal(size=(3, len(weight))).astype(np.float32)
    said = OnnxRuntime(model, [2]).run({info.name: x}, {})
    items = np.ones((3, round(window_s * info.rate_hz)), bool)
    golden = {info.name: x, f"{info.name}.valid": items, "probabilities": said}
    bundles.save(folder, told, weights=b"", model=model, golden=golden, card="# test\n")
    return folder


def written(dataset: str, folder: Path) -> Path:
    """Files of one subject, or a few pictures; where they lie, as its reader wants it."""
    folder.mkdir()
    fixture(dataset).write(folder, subjects=3 if dataset == "affectnet" else 1)
    return folder / "manifest.csv" if dataset == "manifest" else folder


def replayed(out: Path, *args: str) -> dict[str, list[Any]]:
    """{session: its predictions} of `vagus replay`."""
    assert main(["replay", *args, "--out", str(out)]) == 0
    found = defaultdict(list)
    for line in out.read_text(encoding="utf-8").splitlines():
        prediction = json.loads(line)
        found[prediction["session"]].append(prediction)
    return found


def judged(bundle: Bundle, dataset: str, path: Path, options: Mapping[str, str]) -> dict[str, Any]:
    """{session: {t: (truth, probabilities)}} as `vagus evaluate` would have them."""
    found: dict[str, Any] = {}
    for recording in select(dataset, path, options):
        name = session_name(open_labelled(recording).name)
        assert name not in found
        found[name] = {
            row.t: (row.truth, row.probabilities) for row in predict(bundle, [recording])
        }
    return found


def test_every_reader_of_files_has_its_sample_here() -> None:
    assert set(SAMPLES) == set(FIXTURES) == set(DATASETS) - {"simulate"}


@pytest.mark.parametrize("dataset", SAMPLES)
def test_a_data_set_streams_with_its_truth_and_is_told_as_it_is_judged(
    dataset: str, tmp_path: Path
) -> None:
    pattern, named, first = SAMPLES[dataset]
    root = written(dataset, tmp_path / "data")
    path = sorted(root.glob(pattern))[0] if pattern else root
    recordings = select(dataset, path)
    bundle = named or str(made_for(open_with_truth(recordings[0]), tmp_path / "bundle"))
    found = replayed(tmp_path / "out.jsonl", str(path), "--dataset", dataset, "--bundle", bundle)
    expected = judged(Bundle.load(bundle), dataset, path, {})
    assert next(iter(found)) == first
    assert set(found) == set(expected)
    n = 0
    for name, lines in found.items():
        told = {p["t"]: (p["truth"], p["probabilities"]) for p in lines if p["probabilities"]}
        assert told == expected[name]
        n += len(told)
    assert n > 0


def test_a_video_streams_with_its_truth_and_is_told_as_it_is_judged(tmp_path: Path) -> None:
    root = written("ravdess", tmp_path / "data")
    path = sorted(root.rglob("01-01-0?-*.mp4"))[0]
    given = ("--dataset", "ravdess", "--option", "media=video", "--bundle", "face-6")
    found = replayed(tmp_path / "out.jsonl", str(path), *given)
    expected = judged(Bundle.load("face-6"), "ravdess", path, {"media": "video"})
    assert list(found) == list(expected) == [path.stem]
    (lines,) = found.values()
    assert {p["truth"] for p in lines} == {"neutral"}
    told = {p["t"]: (p["truth"], p["probabilities"]) for p in lines if p["probabilities"]}
    assert told == expected[path.stem]


def test_an_option_of_the_reader_chooses_the_form_that_streams(tmp_path: Path) -> None:
    root = written("seed-v", tmp_path / "data")
    recordings = select("seed-v", root, {"form": "de"})
    bundle = made_for(open_with_truth(recordings[0]), tmp_path / "bundle")
    given = ("--dataset", "seed-v", "--option", "form=de", "--bundle", str(bundle))
    found = replayed(tmp_path / "out.jsonl", str(root), *given)
    assert len(found) == 45
    assert found["s1-s1-t01"][-1]["truth"] == recordings[0].label


def test_simulated_people_need_no_path(tmp_path: Path) -> None:
    one = read("simulate", None)[0]
    with ReplaySource(
        "", dataset="simulate", recording=one.uid, stream_in_file="skin", speed="max"
    ) as source:
        chunk = source.read(1.0)
    assert chunk is not None
    assert chunk.truth == (open_labelled(one).streams[1].truth or ())[: len(chunk.truth)]
    assert chunk.truth


def test_the_source_of_a_config_plays_one_recording_of_a_data_set(tmp_path: Path) -> None:
    root = written("deap", tmp_path / "data")
    labelled = read("deap", root, {"task": "arousal"})[2]
    with ReplaySource(
        root, dataset="deap", recording=labelled.uid, options={"task": "arousal"},
        stream_in_file="eeg", speed="max",
    ) as source:  # fmt: skip
        chunk = source.read(1.0)
    assert chunk is not None
    assert chunk.truth == ((0, labelled.label),)
    assert np.array_equal(chunk.data, open_labelled(labelled).streams[0].read(0, len(chunk)))


def test_a_uid_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    root = written("deap", tmp_path / "data")
    with pytest.raises(ConfigError, match=r"no recording 'deap-01/t99' .*; it has 20, such as"):
        find("deap", root, "deap-01/t99", {})


def test_labels_become_markers_where_a_recording_is_played_as_a_device(tmp_path: Path) -> None:
    root = written("stress-predict", tmp_path / "data")
    opened = with_labels(open_with_truth(read("stress-predict", root)[0]))
    values = [value for _, value in opened.markers if value.startswith("label=")]
    assert values[:2] == ["label=", "label=baseline"]
    assert "label=stress" in values
    assert [t for t, _ in opened.markers] == sorted(t for t, _ in opened.markers)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("x", "--dataset", "ravdes"), "no data set is called 'ravdes'; did you mean 'ravdess'?"),
        (("x", "--dataset", "zzz"), "known: affectnet, ck-plus, crema-d, deap, eegmat, emodb"),
        (("x", "--dataset", "deap", "--option", "task"), "task: expected key=value"),
        (("x", "--dataset", "deap", "--option", "tas=a"), "has no option 'tas'"),
        (("x", "--option", "form=de"), "--option is meant for a data set's reader"),
        ((), "which recordings? give a file"),
    ],
)
def test_a_replay_that_cannot_be_says_why(
    args: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *args]) == 2
    assert told in capsys.readouterr().err


def test_options_are_pairs() -> None:
    assert pairs(["form=de", "a=b=c"]) == {"form": "de", "a": "b=c"}
