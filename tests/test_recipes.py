"""The shipped configs of whole systems: from files like their data set's to what is said live."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.bundle import Bundle
from engine.cli import main
from engine.player import Player
from engine.types import Prediction
from offline.calls import Prepared, prepare, train
from offline.datasets import LabelledRecording
from offline.evaluate import predict
from offline.fixtures import fixture
from offline.readers import open_labelled
from offline.recipe import load_recipe, recipe_names
from offline.verdicts import Row, units_of
from sources.feed import match_bundles, play_recording, recording_plan

SUBJECTS = {
    "affectnet": 240, "ck-plus": 100, "crema-d": 3, "deap": 2, "eegmat": 6, "fer2013": 60,
    "ravdess": 3, "savee": 3, "seed-v": 1, "stress-predict": 4,
}  # fmt: skip
ONCE = {"training.epochs": "1", "training.split.only": "[0]", "training.device": "cpu"}
VOICE = {"training.batch": "16", "inputs.voice.window_s": "1", "hop_s": "1"}
FILM = {
    "training.batch": "8", "inputs.face.window_s": "1", "inputs.face.min_filled_s": "0.5",
    "training.split": "{unit: subject, folds: 3, only: [0]}",
}  # fmt: skip
WIDTH = {"network_args.width": "4"}
ROWS: Mapping[str, Mapping[str, str]] = {  # every system of the table, and what makes it small
    "seed-v-dnn": ONCE | {"training.epochs": "12", "training.batch": "32"},
    "seed-v-lstm": ONCE,
    "seed-v-cnn": ONCE,
    "seed-v-cnn-lstm": ONCE,
    "ravdess-parallel": ONCE | VOICE,
    "ck-plus-cnn": ONCE | WIDTH,
    "crema-d-audio-cnn": ONCE | VOICE,
    "crema-d-audio-rnn": ONCE | VOICE,
    "crema-d-video": ONCE | FILM,
    "crema-d-video-resnet": ONCE | FILM,
    "crema-d-video-bilstm": ONCE | FILM,
    "crema-d-video-3d": ONCE | FILM,
    "crema-d-video-attention": ONCE | FILM,
    "savee-cnn": ONCE | VOICE,
    "savee-rnn": ONCE | VOICE,
    "deap-lstm": ONCE,
    "deap-gru": ONCE | {"network_args.stem": "8"},
    "deap-bilstm": ONCE,
    "deap-lstm-all": ONCE,
    "deap-gru-all": ONCE | {"network_args.stem": "8"},
    "deap-bilstm-all": ONCE,
    "fer2013-cnn": ONCE | WIDTH,
    "affectnet-cnn": ONCE | WIDTH,
    "eegmat-eegnet": ONCE,
    "stress-wrist": {"folds": "{outer: 2, inner: 2}", "search": "{c: [0.01]}"}
    | {f"inputs.{name}.adapt.min_s": "120" for name in ("bvp", "eda", "temp")},  # short sessions
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The files of a data set, as its fixture writes them."""

    @cache
    def made(dataset: str) -> Path:
        root = tmp_path_factory.mktemp(dataset)
        fixture(dataset).write(root, subjects=SUBJECTS[dataset], seed=3)
        return root

    return made


@pytest.fixture(scope="module")
def system(
    files: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Prepared, Bundle, Path]]:
    """A config trained on its data set's files: what it read, the bundle, the folder."""
    runs = tmp_path_factory.mktemp("runs")

    @cache
    def made(name: str) -> tuple[Prepared, Bundle, Path]:
        dataset = load_recipe(name).datasets[0]
        prepared = prepare(name, files(dataset), ROWS[name])
        return prepared, train(prepared, runs / name, cache=runs / "windows"), runs / name

    return made


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_config_is_right(name: str) -> None:
    assert load_recipe(name).bundle == name


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_system_says_live_what_its_evaluation_judged(
    name: str, system: Callable[[str], tuple[Prepared, Bundle, Path]]
) -> None:
    prepared, bundle, out = system(name)
    figures = json.loads((out / "metrics.json").read_text())
    assert (out / "report" / "index.html").stat().st_size > 10_000
    judged = prepared.test or prepared.recordings
    rows = predict(Bundle.load(out / "bundle"), judged, prepared.recipe.calibrate_s)
    if prepared.test:
        again = units_of(rows, bundle.labels, figures["unit"])
        assert again.counts.tolist() == figures["confusion"]
    for recording in (judged[0], judged[-1]):
        mine = [row.probabilities for row in rows if row.recording == recording.uid]
        assert replayed(bundle, recording) == mine


def replayed(bundle: Bundle, recording: LabelledRecording) -> list[dict[str, float]]:
    """What a session says of a recording that comes in other chunks."""
    opened = open_labelled(recording)
    wanted = match_bundles(opened, {"": bundle})
    player = Player(recording_plan(opened, wanted))
    size = {"voice": 1777, "face": 3}.get(opened.streams[0].info.kind, 29)
    said = [m for m in play_recording(opened, player, size) if isinstance(m, Prediction)]
    return [m.probabilities for m in said if m.probabilities is not None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"), [("seed-v-dnn", 0.45), ("stress-wrist", 0.7), ("seed-v-cnn", 0.4)]
)
def test_what_is_planted_is_learnt(
    name: str, least: float, system: Callable[[str], tuple[Prepared, Bundle, Path]]
) -> None:
    _, _, out = system(name)
    assert json.loads((out / "metrics.json").read_text())["uar"] >= least


@pytest.mark.slow
def test_another_order_of_labels_or_of_channels_falls_to_chance(
    system: Callable[[str], tuple[Prepared, Bundle, Path]],
) -> None:
    prepared, bundle, out = system("seed-v-dnn")
    right = json.loads((out / "metrics.json").read_text())["uar"]
    turned = dict(zip(bundle.labels, (*bundle.labels[1:], bundle.labels[0]), strict=True))
    renamed = [replace(r, label=turned[r.label]) for r in prepared.test]
    assert uar(predict(bundle, renamed), bundle.labels) < 0.25 < right - 0.15

    spec = bundle.inputs["eeg"]
    order = np.random.default_rng(0).permutation(len(spec.channels))
    shuffled = tuple(spec.channels[i] for i in order)  # handed over in this order
    other = replace(bundle, inputs={"eeg": msgspec.structs.replace(spec, channels=shuffled)})
    assert uar(predict(other, prepared.test), bundle.labels) < right - 0.15
    assert uar(predict(other, prepared.test), bundle.labels) < 0.35


@pytest.mark.slow
def test_labels_at_random_are_not_found_in_clips_that_were_not_trained_on(
    files: Callable[[str], Path], tmp_path: Path
) -> None:
    prepared = prepare("seed-v-dnn", files("seed-v"), ROWS["seed-v-dnn"])
    labels = np.random.default_rng(5).permutation([r.label for r in prepared.recordings])
    lied = [replace(r, label=str(x)) for r, x in zip(prepared.recordings, labels, strict=True)]
    train(replace(prepared, recordings=tuple(lied)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["uar"] < 0.35


@pytest.mark.slow
def test_the_commands_give_what_the_calls_give(
    files: Callable[[str], Path],
    system: Callable[[str], tuple[Prepared, Bundle, Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, _, out = system("seed-v-dnn")
    args = [
        *("evaluate", str(out / "bundle"), "--dataset", "seed-v"),
        *("--data", str(files("seed-v")), "--option", "form=de", "--unit", "window"),
        *("--split", f"{out / 'split.json'}:test", "--include-seen", "--json"),
        *("--out", str(tmp_path / "judged")),
    ]
    assert main(args) == 0
    figures = json.loads(capsys.readouterr().out)
    trained = json.loads((out / "metrics.json").read_text())
    for key in ("n", "uar", "uar_ci95", "accuracy", "confusion", "level"):
        assert figures[key] == trained[key], key
    for name in trained["baselines"]:
        assert figures["baselines"][name]["uar"] == pytest.approx(trained["baselines"][name]["uar"])
    assert (tmp_path / "judged" / "report" / "index.html").is_file()


def uar(rows: Sequence[Row], labels: Sequence[str]) -> float:
    units = units_of(rows, labels, "window")
    return float(np.mean(units.counts.diagonal() / np.maximum(units.counts.sum(1), 1)))
