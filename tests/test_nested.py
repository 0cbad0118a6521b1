"""The linear search goes through the serving session, and its choice sees no test subject."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.bundle import Bundle
from engine.cli import main
from engine.errors import ConfigError
from offline.datasets.simulate import people
from offline.evaluate import predict, summarise
from offline.nested import choose, fit, train
from offline.readers import read
from offline.recipe import load_recipe
from offline.splits import read_split
from offline.windows import cut

SMALL = {"folds.outer": "2", "folds.inner": "2", "subjects": "4", "search.c": "[0.01]"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(load_recipe("simulated-eeg", SMALL), people(900, 4), out, say=lambda text: None)
    return out


@pytest.mark.slow
def test_a_trained_bundle_loads_and_beats_chance_on_unseen_people(trained: Path) -> None:
    bundle = Bundle.load(trained / "bundle")
    rows = predict(bundle, people(950, 2))
    told = summarise(rows, bundle.labels, dataset="simulate", protocol="unseen", unit="window")
    assert told["uar"] > 0.4  # four labels: chance is 0.25
    assert bundle.seen_subjects == tuple(f"person-{p}" for p in range(900, 904))


@pytest.mark.slow
def test_no_subject_is_ever_on_two_sides(trained: Path) -> None:
    for path in sorted(trained.glob("split-*.json")):
        split = read_split(path)
        assert not set(split.test) & {*split.train, *split.val}
    told = json.loads((trained / "metrics.json").read_text())
    tested = [subject for fold in told["folds"] for subject in fold["test"]]
    assert sorted(tested) == [f"person-{p}" for p in range(900, 904)]


@pytest.mark.slow
def test_a_shuffled_channel_order_falls_towards_chance() -> None:
    bundle = Bundle.load("simulated-eeg")
    spec = bundle.inputs["eeg"]
    windows = cut(people(960, 2), bundle.inputs, 1.0)
    order = np.random.default_rng(0).permutation(len(spec.channels))
    x = windows.inputs["eeg"].reshape(len(windows), len(spec.channels), -1)
    shuffled = x[:, order].reshape(len(windows), -1)
    truth = np.array([bundle.labels.index(label) for label in windows.label])
    right = (bundle.runtime.run(windows.inputs, windows.valid).argmax(1) == truth).mean()
    wrong = (bundle.runtime.run({"eeg": shuffled}, windows.valid).argmax(1) == truth).mean()
    assert right > 0.55
    assert wrong < right - 0.15


def test_the_choice_sees_only_the_subjects_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("simulated-eeg", SMALL)
    windows = cut(people(900, 4), recipe.specs("plain"), 2.0)
    marked = {name: np.where(windows.subject[:, None] == "person-903", 1e9, x)
              for name, x in windows.inputs.items()}  # fmt: skip
    seen: list[float] = []

    def spy(x: np.ndarray, *rest: object) -> object:
        seen.append(float(x.max()))
        return fit(x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("offline.nested.fit", spy)
    from dataclasses import replace

    choose(recipe, {"plain": replace(windows, inputs=marked)}, [f"person-{p}" for p in (900, 901)])
    assert seen
    assert max(seen) < 1e9


def test_an_unknown_key_of_a_recipe_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    recipe = load_recipe("simulated-eeg")
    path.write_text(recipe.text.replace("vocabulary:", "vocabulry:"))
    with pytest.raises(ConfigError, match=r"r\.yaml:\d+:1: vocabulry: .*'vocabulary'"):
        load_recipe(str(path))


def test_a_data_set_without_its_folder_says_how_to_name_it() -> None:
    with pytest.raises(ConfigError, match="--data"):
        read("eegmat", None)


def test_evaluate_prints_one_object_and_leaves_seen_people_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline.datasets.simulate.N_PEOPLE", 42)
    assert main(["evaluate", "simulated-eeg", "--dataset", "simulate", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["subjects"] == ["person-1040", "person-1041"]
    assert len(told["seen_subjects"]) == 40
    assert np.array(told["confusion"]).sum() == told["n"] == told["per_window"]["n"]
    assert 0 <= told["uar_ci95"][0] <= told["uar"] <= told["uar_ci95"][1] <= 1
