"""Any network trains on any data set: under an honest split, on its training part, to the bit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import offline.evaluate
import offline.windows
from engine.bundle import Bundle
from engine.errors import ConfigError, DataError
from engine.networks.linear import Linear
from offline.batches import Draws, Judged, material
from offline.cache import open_windows
from offline.calls import prepare
from offline.datasets import LabelledRecording
from offline.datasets.simulate import people
from offline.evaluate import predict
from offline.fitting import Learner, fit
from offline.recipe import Recipe, load_recipe
from offline.splits import read_split
from offline.train import Run, _material, train

CPU = torch.device("cpu")
TEXT = """
bundle: small
dataset: simulate
labels: [happy, angry, sad, calm]
vocabulary: quadrants of valence and arousal
felt_or_expressed: felt
data: Simulated skin.
licence: Apache-2.0
inputs:
  skin:
    kind: physio
    rate_hz: 4
    unit: uS
    channels: [EDA]
    window_s: 8
    min_filled_s: 4
    features: [{name: statistics}]
hop_s: 4
network: linear
training:
  split: {folds: 3, only: [0]}
  epochs: 3
  learning_rate: 0.02
  mixup: 0.2
  augment:
    skin: [{name: noise, amount: 0.1}, {name: channel_drop}]
  device: cpu
"""


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Recipe]:
    """The small recipe, with keys changed."""
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return lambda **changes: load_recipe(
        str(path), {key.replace("__", "."): value for key, value in changes.items()}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle, Counter[str]]:
    """A training, and how often each recording was opened in it."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.yaml").write_text(TEXT)
    opened: Counter[str] = Counter()
    real = offline.evaluate.open_labelled

    def counting(recording: LabelledRecording) -> Any:
        opened[recording.subject] += 1
        return real(recording)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offline.evaluate, "open_labelled", counting)
        patch.setattr(offline.windows, "open_labelled", counting)
        recipe = load_recipe(str(folder / "small.yaml"))
        bundle = train(recipe, people(900, 6), folder / "out", lambda text: None)
    return folder / "out", bundle, opened


def test_a_training_leaves_what_the_command_promises(
    trained: tuple[Path, Bundle, Counter[str]],
) -> None:
    out, bundle, _ = trained
    for name in (
        "bundle/bundle.json",
        "metrics.json",
        "split.json",
        "config.yaml",
        "checkpoints",
        "report/index.html",
    ):
        assert (out / name).exists(), name
    assert list((out / "logs").rglob("events.out.tfevents*"))
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["protocol"] == bundle.protocol
    assert "subject 3-fold" in bundle.protocol
    assert [run["fold"] for run in figures["runs"]] == [0]
    again = load_recipe(str(out / "config.yaml"))
    assert again.training == load_recipe(str(out.parent / "small.yaml")).training


def test_the_figures_are_what_the_bundle_says_of_the_test_part(
    trained: tuple[Path, Bundle, Counter[str]],
) -> None:
    out, bundle, _ = trained
    split = read_split(out / "split.json")
    test = [r for r in people(900, 6) if split.part_of(r) == "test"]
    rows = predict(Bundle.load(out / "bundle"), test)
    figures = json.loads((out / "metrics.json").read_text())
    said = [max(row.probabilities, key=lambda k: row.probabilities[k]) for row in rows]
    right = np.mean([row.truth == label for row, label in zip(rows, said, strict=True)])
    assert figures["accuracy"] == pytest.approx(right)
    assert not {r.subject for r in test} & set(bundle.seen_subjects)


def test_the_test_part_is_read_once_and_the_others_are_not_judged(
    trained: tuple[Path, Bundle, Counter[str]],
) -> None:
    out, _, opened = trained
    split = read_split(out / "split.json")
    assert split.test
    assert set(opened.values()) == {1}  # trained and validated on, or tested
    assert set(opened) == {*split.train, *split.val, *split.test}


def test_only_the_training_part_reaches_the_normaliser(
    config: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    def settle(self: Linear, inputs: dict[str, torch.Tensor], valid: object) -> None:
        seen.append(inputs["skin"].numpy())

    monkeypatch.setattr(Linear, "settle", settle, raising=False)
    out = tmp_path / "out"
    train(config(), people(900, 6), out, lambda text: None)
    split = read_split(out / "split.json")
    (windows,) = (open_windows(path) for path in (tmp_path / "windows").iterdir())
    train_rows = np.isin(windows.subject, split.train)
    assert 0 < train_rows.sum() < len(windows)
    assert np.array_equal(np.concatenate(seen), windows.inputs["skin"][train_rows])
    assert set(windows.subject) == {*split.train, *split.val}  # of the test nothing is even cut


def test_a_training_that_was_interrupted_ends_with_the_same_bits(
    config: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = config(training__epochs="4", training__balance="sampling")
    train(recipe, people(900, 6), tmp_path / "out", lambda text: None)

    def learner() -> Learner:
        given, rows = _material(_run(recipe, tmp_path))
        assert recipe.training is not None
        drawn = Draws(given, rows["train"], recipe.training, 0, CPU)
        torch.manual_seed(0)
        network = Linear(given.shapes, 4)
        judged = Judged(given, rows["val"], False, CPU)
        return Learner(network, recipe.training, drawn, judged, drawn.weight)

    assert recipe.training is not None
    whole, first, second = learner(), learner(), learner()
    fit(whole, recipe.training, tmp_path / "whole.ckpt")
    fit(first, recipe.training, tmp_path / "part.ckpt", stop_after=2)
    fit(second, recipe.training, tmp_path / "part.ckpt")
    assert second.scores == whole.scores
    assert second.losses == whole.losses
    assert len(whole.losses) == 4
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_early_stopping_waits_for_its_patience_and_no_longer(
    config: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = config(training__epochs="50", training__patience="2", training__learning_rate="1e-9")
    train(recipe, people(900, 6), tmp_path / "out", lambda text: None)
    (run,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["runs"]
    assert len(run["scores"]) == run["epoch"] + 2 < 50


def test_what_is_compared_is_trained_under_the_same_split(
    config: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = config(network_args="{clip: 3}", training__compare="{clip: [0.01, 3]}")
    train(recipe, people(900, 6), tmp_path / "out", lambda text: None)
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(figures["compared"]) == {"clip 0.01", "clip 3"}
    assert figures["compared"]["clip 3"]["uar"] == figures["uar"]
    assert figures["compared"]["clip 0.01"]["n"] == figures["n"]
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 2


@pytest.mark.slow
def test_folds_in_processes_give_the_figures_of_folds_in_turn(
    config: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = config(training__split__only="[0, 1]")
    told = []
    for jobs in (1, 2):
        out = tmp_path / f"out-{jobs}"
        heard: set[str] = set()
        train(
            recipe, people(900, 6), out, lambda text: None, jobs=jobs,
            watch=lambda name, done, total, text: heard.add(name),  # noqa: B023
        )  # fmt: skip
        figures = json.loads((out / "metrics.json").read_text())
        for run in figures["runs"]:
            del run["seconds"]
        told.append(figures)
        assert heard >= {"fold 0, seed 0", "fold 1, seed 0"}
    assert told[0] == told[1]
    assert len(told[0]["runs"]) == 2
    assert (tmp_path / "out-2" / "splits" / "fold-1.json").is_file()


def test_what_is_trained_already_is_not_trained_again(
    config: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(config(), people(900, 6), tmp_path / "out", lambda text: None)

    def again(*about: object) -> None:
        raise AssertionError("trained or predicted a second time")

    monkeypatch.setattr("offline.train.fit", again)
    monkeypatch.setattr("offline.train.predict", again)
    second = train(config(), people(900, 6), tmp_path / "out", lambda text: None)
    assert second.sha256 == first.sha256
    with pytest.raises(AssertionError, match="second time"):
        train(config(training__epochs="2"), people(900, 6), tmp_path / "out", lambda text: None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "liner"}, r"network: no network is called 'liner'; did you mean 'linear'"),
        ({"network_args": "{clib: 3}"}, r"network_args\.clib: unknown key; did you mean 'clip'"),
        ({"dataset": "simulat"}, "no data set is called 'simulat'; did you mean 'simulate'"),
        ({"folds": "{outer: 3}"}, "folds: belongs to the linear search; beside `training`"),
        ({"training.augment": "{eeg: [{name: noise}]}"}, r"augment\.eeg: no such input"),
        ({"training.augment": "{skin: [{name: nois}]}"}, "did you mean 'noise'"),
        ({"training.augment": "{skin: [{name: noise, sd: 1}]}"}, r"skin\.0\.sd: unknown key"),
        ({"training.compare": "{clib: [1.0]}"}, r"compare\.clib: unknown key; did you mean 'clip'"),
        ({"training.split.unit": "person"}, "expected one of official, trial"),
        ({"training": "null", "network": "residual"}, "residual is trained by a map `training:`"),
    ],
)
def test_a_recipe_that_does_not_agree_says_where(
    changes: dict[str, str], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    with pytest.raises(ConfigError, match=words):
        load_recipe(str(path), changes)


def test_a_fold_that_is_not_there_is_told(config: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no fold 7; there are 0 to 2"):
        train(config(training__split__only="[7]"), people(900, 6), tmp_path / "out")


def test_a_label_that_nobody_shows_is_told(config: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = config(labels="[happy, angry, sad, calm, fear]")
    with pytest.raises(DataError, match="no window of fear is left to train"):
        train(recipe, people(900, 6), tmp_path / "out", lambda text: None)


def test_the_first_fold_is_what_a_notebook_judges(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    prepared = prepare(str(path), None, {"training.split.only": "[1, 0]"})
    again = prepare(str(path), None, {"training.split.only": "[1]"})
    assert prepared.test == again.test
    assert 0 < len(prepared.test) < len(prepared.recordings)


def test_votes_stand_for_the_label_where_that_is_asked_for(
    config: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = config()
    train(recipe, people(900, 6), tmp_path / "out", lambda text: None)
    windows = open_windows(_run(recipe, tmp_path).windows)
    votes = {"happy": 0.5, "sad": 0.25, "fear": 0.25}
    voted = LabelledRecording(
        windows.recording[0], "simulate", windows.subject[0], "happy", tmp_path, soft=votes
    )
    soft = material(windows, [voted], recipe.labels, soft=True).truth
    hard = material(windows, [voted], recipe.labels).truth
    assert soft[0].tolist() == pytest.approx([2 / 3, 0, 1 / 3, 0])
    other = torch.from_numpy(windows.recording != windows.recording[0])
    assert torch.equal(soft[other], hard[other])


def _run(recipe: Recipe, folder: Path) -> Run:
    """The run that `train` made in `folder`."""
    split = read_split(folder / "out" / "split.json")
    (windows,) = (path for path in (folder / "windows").iterdir())
    return Run(recipe, tuple(people(900, 6)), split, 0, 0, windows, folder / "out")
