"""Stress from the wrist: no way to the elapsed time, parts without a label, config to bundle."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.adapt import adapter
from engine.bundle import Bundle
from engine.errors import ConfigError
from engine.types import Array, StreamInfo
from offline.evaluate import predict, summarise
from offline.fixtures import fixture
from offline.metrics import confusion, uar
from offline.nested import Choice, fit, train
from offline.readers import read
from offline.recipe import Recipe, load_recipe
from offline.windows import cut

CONFIGS = ("stress-wrist", "stress-wrist-phasic", "stress-wrist-motion")
SKIN = StreamInfo("Watch", "physio", 4.0, ("EDA",), "uS", (1,))
SOON = {f"inputs.{name}.adapt.min_s": "120" for name in ("bvp", "eda", "temp")}  # a short session
QUICK = {
    "folds.outer": "2", "folds.inner": "2", "folds.draws": "1", "search.c": "[0.01]",
    "search.clip": "[3]",
}  # fmt: skip
# The ends of the phases of Stress-Predict, baseline and stress in turn, in minutes.
PHASES_MIN = (10.5, 16.5, 22.0, 31.5, 37.0, 39.0, 55.0)


def session(rng: np.random.Generator) -> tuple[Array, Array]:
    """The ticks of one person in seconds and whether the task was stress: (ticks,) each."""
    ends_s = 60 * np.array(PHASES_MIN) + rng.normal(0, 40, len(PHASES_MIN))
    t = np.arange(60.0, ends_s[-1], 5.0)
    return t, np.searchsorted(ends_s, t) % 2


def adapted(x: Array, t: Array) -> Array:
    """What the engine makes of (ticks, features) as they come, once it gives something."""
    spec = load_recipe("stress-wrist").inputs["eda"]["adapt"]
    adapt = adapter(spec, SKIN, x.shape[1], 60.0, 5.0, lambda at, told: None)
    rows = [adapt(float(at), row.astype(np.float32)) for at, row in zip(t, x, strict=True)]
    return np.array([row for row in rows if row is not None], np.float64)


def told_by(features: Callable[[Array, np.random.Generator], Array], adapts: bool) -> float:
    """The UAR on ten people of a model of `features` (ticks,) -> (ticks, n) of thirty others."""
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(40):
        t, y = session(rng)
        x = features(t, rng)
        x = adapted(x, t) if adapts else x
        parts.append((x, y[len(y) - len(x) :]))
    x, y = (np.concatenate(side) for side in zip(*parts[:30], strict=True))
    made = fit(x, y, 2, Choice("plain", 0.1, 3.0))
    x, y = (np.concatenate(side) for side in zip(*parts[30:], strict=True))
    return uar(confusion(y, made.logits(x).argmax(1), 2))


def noise(t: Array, rng: np.random.Generator) -> Array:
    return rng.normal(size=(len(t), 6))


def walk(t: Array, rng: np.random.Generator) -> Array:
    return noise(t, rng).cumsum(0)


def drift(t: Array, rng: np.random.Generator) -> Array:
    return t[:, None] * rng.uniform(0.5, 2, 3) + rng.normal(0, 60, (len(t), 3))


def constant(t: Array, rng: np.random.Generator) -> Array:
    return np.full((len(t), 3), 36.6)


def clock(t: Array, rng: np.random.Generator) -> Array:
    return np.cos(np.pi * t[:, None] / 3600 * np.arange(1, 11))


# A walk has but a few independent values a session: its figure varies by 0.05 from seed to seed.
@pytest.mark.parametrize(
    ("features", "spread"), [(noise, 0.04), (walk, 0.12), (drift, 0.04), (constant, 0.04)]
)
def test_standardising_by_the_session_so_far_does_not_tell_the_time(
    features: Callable[[Array, np.random.Generator], Array], spread: float
) -> None:
    assert told_by(features, adapts=True) == pytest.approx(0.5, abs=spread)


def test_the_time_alone_would_tell_the_task() -> None:
    assert told_by(clock, adapts=False) > 0.8


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configs_judge_alike_and_look_at_nothing_but_minutes_of_signal(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.dataset, recipe.folds, recipe.hop_s) == (
        "stress-predict", load_recipe("stress-wrist").folds, 5.0,
    )  # fmt: skip
    known = {"heart_rate_variability", "skin_conductance", "temperature", "log_band_power"}
    for variant in recipe.search.variants:
        for spec in recipe.specs(variant).values():
            assert spec.window_s == spec.min_filled_s == 60
            assert spec.adapt == {"method": "cumulative", "min_s": 240}
            assert {feature["name"] for feature in spec.features} <= known


def test_without_the_level_no_variant_has_a_tonic_measure_or_a_temperature() -> None:
    recipe = load_recipe("stress-wrist-phasic")
    for variant in recipe.search.variants:
        specs = recipe.specs(variant)
        assert set(specs) == {"bvp", "eda"}
        assert all(feature["level"] is False for feature in specs["eda"].features)


def test_a_variant_changes_single_inputs_and_none_that_is_not_there() -> None:
    specs = load_recipe("stress-wrist").specs("firm")
    assert specs["eda"].features[0]["least_rise"] == 0.03
    assert specs["bvp"] == load_recipe("stress-wrist").specs("lean")["bvp"]
    wrong = {"search.variants": "{odd: {inputs: {edo: {steps: []}}}}"}
    with pytest.raises(ConfigError, match=r"odd\.inputs: no input is called 'edo'.*'eda'"):
        load_recipe("stress-wrist", wrong)


def small() -> Recipe:
    """The config with the variant `lean` alone."""
    return load_recipe("stress-wrist", QUICK | SOON | {"search.variants": "{lean: {}}"})


@pytest.mark.slow
def test_what_has_no_label_is_neither_trained_on_nor_judged(tmp_path: Path) -> None:
    fixture("stress-predict").write(tmp_path, subjects=1, seed=2)
    (path,) = tmp_path.rglob("labels.csv.gz")
    rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress("\n".join(rows[:401]).encode()))  # 400 s, from second 10 on
    found = read("stress-predict", tmp_path)
    recipe = small()
    windows = cut(found, recipe.specs("lean"), recipe.hop_s)
    assert set(windows.label) == {"baseline", "stress"}
    assert windows.t.max() == pytest.approx(410, abs=5)
    assert windows.t.min() == pytest.approx(60 + 120 - 5, abs=5)  # 24 windows teach the first


@pytest.mark.slow
def test_the_config_goes_from_the_wristbands_files_to_a_bundle_that_beats_chance(
    tmp_path: Path,
) -> None:
    fixture("stress-predict").write(tmp_path / "data", subjects=6, seed=4)
    recordings = read("stress-predict", tmp_path / "data")
    bundle = train(small(), recordings, tmp_path / "run", say=lambda text: None)
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["uar"] > 0.7
    rows = predict(bundle, recordings[:1])
    assert np.isfinite([row.probabilities["stress"] for row in rows]).all()
    again = summarise(rows, bundle.labels, dataset="", protocol="", unit="window")
    assert again["uar"] > 0.7


def test_the_shipped_bundle_reads_a_wristband_and_names_its_limits() -> None:
    bundle = Bundle.load("stress-wrist")
    assert set(bundle.inputs) == {"bvp", "eda", "temp"}
    assert (bundle.licence, bundle.labels) == ("MIT", ("baseline", "stress"))
    assert bundle.metrics["uar"] > 0.7
    card = (bundle.path / "CARD.md").read_text()
    for words in ("elapsed time", "Without the level", "Movement"):
        assert words in card


@pytest.mark.slow
def test_the_shipped_bundle_says_what_it_says_whatever_the_label(tmp_path: Path) -> None:
    fixture("stress-predict").write(tmp_path, subjects=1, seed=5)
    (recording,) = read("stress-predict", tmp_path)
    bundle = Bundle.load("stress-wrist")
    told = [row.probabilities for row in predict(bundle, [recording])]
    other = [row.probabilities for row in predict(bundle, [replace(recording, label="stress")])]
    assert told == other[: len(told)]
    assert len(told) > 30
