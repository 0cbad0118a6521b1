"""The shipped configs of whole systems train on files like those of their data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline.calls import evaluate, prepare, train
from offline.fixtures import fixture
from offline.recipe import load_recipe, recipe_names

QUICK = {"training.epochs": "2", "training.batch": "32"}


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_config_is_right(name: str) -> None:
    assert load_recipe(name).bundle == name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dataset", "subjects", "changes"),
    [
        ("seed-v-dnn", "seed-v", 1, {"training.split.unit": "official:0"}),
        ("ck-plus-cnn", "ck-plus", 80, {"network_args": "{width: 4}"}),
        ("deap-lstm", "deap", 1, {"network_args": "{n_hidden: 8}"}),
    ],
)
def test_a_system_goes_from_files_to_a_bundle_that_says_live_what_was_judged(
    name: str, dataset: str, subjects: int, changes: dict[str, str], tmp_path: Path
) -> None:
    fixture(dataset).write(tmp_path, subjects=subjects, seed=3)
    prepared = prepare(name, tmp_path, QUICK | changes)
    bundle = train(prepared, tmp_path / "runs" / name)
    figures = json.loads((tmp_path / "runs" / name / "metrics.json").read_text())
    again = evaluate(bundle, prepared)
    for key in ("n", "uar", "accuracy", "unit", "confusion"):
        assert again[key] == figures[key], key
