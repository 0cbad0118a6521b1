"""A voice bundle trains on what a session serves, resumes to the bit, and keeps speakers apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from engine.bundle import Bundle
from engine.errors import ConfigError, DataError
from offline import augment, drawing, fitting, speech
from offline.chance import Chance
from offline.evaluate import predict
from offline.readers import read
from offline.recipe import Recipe, load_recipe
from offline.shipping import network_of
from offline.speech import Sides, read_sides, train
from offline.splits import read_split
from offline.takes import cached_takes, last_frames, live_windows, take
from offline.tuition import Speech
from offline.windows import ticks

RATE_HZ = 16_000
SMALL = {
    "labels": "[happy, sad]",
    "dimensions": "null",
    "network_args": "{channels: [8, 8], strides: [[2, 2], [2, 2]], width: 16}",
    "speech.corpora": "{ravdess: 1.0}",
    "speech.val": "[ravdess-05]",
    "speech.test": "[ravdess-06]",
    "speech.seeds": "[0, 1]",
    "speech.epochs": "3",
    "speech.draws": "16",
    "speech.batch": "8",
    "speech.check_every": "1",
    "speech.speeds": "[1.0, 1.1]",
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers who hum: fast when happy, slowly when sad, with silence around."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(5)
    for actor in range(1, 7):
        for emotion, beats_hz in (("03", 7.0), ("04", 1.5)):
            for repetition in (1, 2):
                n = int(RATE_HZ * (1.7 + 0.3 * rng.random()))
                t = np.arange(n) / RATE_HZ
                tone = np.sin(2 * np.pi * 40 * actor * (1 + np.sin(2 * np.pi * beats_hz * t)) * t)
                quiet = (t < 0.3) | (t > 1.5)
                x = np.where(quiet, 0.0, 0.2 * tone) + 1e-4 * rng.standard_normal(n)
                name = f"03-01-{emotion}-01-01-{repetition:02d}-{actor:02d}.wav"
                soundfile.write(folder / name, x, RATE_HZ, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("speech-4", SMALL)


@pytest.fixture(scope="module")
def sides(recipe: Recipe, clips: Path) -> Sides:
    return read_sides(recipe, clips)


@pytest.fixture(scope="module")
def trained(
    recipe: Recipe, sides: Sides, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Bundle]:
    out = tmp_path_factory.mktemp("runs") / "small"
    return out, train(recipe, sides, out, say=lambda text: None)


def test_no_speaker_is_on_two_sides(trained: tuple[Path, Bundle]) -> None:
    split = read_split(trained[0] / "split.json")
    assert split.test == ("ravdess-06",)
    assert not set(split.train) & {*split.val, *split.test}
    assert "ravdess-06" not in trained[1].seen_subjects


def test_the_session_predicts_what_was_judged_in_training(
    recipe: Recipe, sides: Sides, trained: tuple[Path, Bundle]
) -> None:
    out, bundle = trained
    shape, _ = speech._shape(recipe, sides.val[0])
    val = drawing.Judged(
        cached_takes(sides.val, recipe.specs("plain"), 1.0, out.parent / "takes"),
        recipe.labels,
        shape,
    )
    rows = predict(bundle, sides.val)
    found = np.array([[row.probabilities[label] for label in recipe.labels] for row in rows])
    expected = bundle.runtime.run({"voice": val.x}, {"voice": val.valid})
    assert np.allclose(found, expected, atol=1e-6)  # live, they are made to sum to 1
    assert [row.filled for row in rows] == pytest.approx(val.weight)


def test_the_windows_of_a_take_are_the_bits_that_a_session_cuts(
    recipe: Recipe, sides: Sides
) -> None:
    inputs = recipe.specs("plain")
    for recording in sides.val:
        ours = list(live_windows(take(recording, inputs), 300, 100.0, 0.5, 100))
        cuts = list(ticks(recording, inputs, 0.5))
        assert len(ours) == len(cuts) > 1
        for (frames, valid), cut in zip(ours, cuts, strict=True):
            assert np.array_equal(frames, cut.inputs["voice"])
            assert np.array_equal(valid, cut.valid["voice"])


def test_a_faster_take_is_shorter_by_its_speed(recipe: Recipe, sides: Sides) -> None:
    inputs = recipe.specs("plain")
    n = [len(take(sides.val[0], inputs, speed).frames) for speed in (0.9, 1.0, 1.1)]
    assert n[0] * 0.9 == pytest.approx(n[1], abs=2)
    assert n[2] * 1.1 == pytest.approx(n[1], abs=2)


def test_a_clip_ends_with_one_tick_for_all_its_frames() -> None:
    assert last_frames(331, 100.0, 0.5, 100) == [101, 151, 201, 251, 301, 331]
    assert last_frames(151, 100.0, 0.5, 100) == [101, 151]
    assert last_frames(99, 100.0, 0.5, 100) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_that_was_interrupted_ends_with_the_same_bits(
    precision: str, clips: Path, tmp_path: Path
) -> None:
    recipe = load_recipe("speech-4", {**SMALL, "speech.precision": precision})
    sides = read_sides(recipe, clips)
    whole = _learner(recipe, sides, tmp_path)
    fitting.fit(whole, _told(recipe), tmp_path / "whole.ckpt")
    first = _learner(recipe, sides, tmp_path)
    fitting.fit(first, _told(recipe), tmp_path / "part.ckpt", stop_after=1)
    second = _learner(recipe, sides, tmp_path)
    fitting.fit(second, _told(recipe), tmp_path / "part.ckpt")
    assert second.scores == whole.scores
    assert second.best["epoch"] == whole.best["epoch"]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_a_batch_is_a_pure_function_of_seed_epoch_and_place(
    recipe: Recipe, sides: Sides, tmp_path: Path
) -> None:
    drawn = [_learner(recipe, sides, tmp_path).drawn for _ in range(2)]
    later = drawn[1].batch(1, 0)
    a, b = drawn[0].batch(0, 0), drawn[1].batch(0, 0)
    assert torch.equal(a.inputs["voice"], b.inputs["voice"])
    assert torch.equal(a.valid["voice"], b.valid["voice"])
    assert torch.equal(a.truth, b.truth)
    assert a.inputs["voice"].shape == later.inputs["voice"].shape
    assert not torch.equal(a.inputs["voice"], later.inputs["voice"])


def test_a_speaker_who_is_not_there_is_named(clips: Path) -> None:
    recipe = load_recipe("speech-4", {**SMALL, "speech.test": "[ravdess-06, ravdess-23]"})
    with pytest.raises(DataError, match="ravdess-23"):
        read_sides(recipe, clips)


def test_a_voice_network_without_its_map_is_refused() -> None:
    with pytest.raises(ConfigError, match="go together"):
        load_recipe("speech-4", {"dataset": "simulate"})
    with pytest.raises(ConfigError, match="two ways to train"):
        load_recipe("speech-4", {"training": "{epochs: 3}"})


def test_noise_adds_power_and_takes_none() -> None:
    x = torch.randn(5, 120, 16, generator=torch.Generator().manual_seed(0)) * 2 - 8
    chance = Chance(0, 0, torch.arange(5))
    noisy, _ = augment.coloured_noise(x, torch.ones(5, 120, dtype=torch.bool), chance, share=1.0)
    assert noisy.dtype == torch.float32
    assert (noisy >= x - 1e-4).all()
    assert (noisy > x + 0.1).any()


def test_stripes_leave_invalid_frames_invalid_and_the_rest_untouched() -> None:
    rng = torch.Generator().manual_seed(0)
    x, valid = torch.randn(8, 200, 16, generator=rng), torch.rand(8, 200, generator=rng) > 0.2
    striped, mask = augment.spec_augment(x, valid, Chance(0, 0, torch.arange(8)))
    assert not (mask & ~valid).any()
    assert (mask != valid).any()
    assert 0.3 < (striped == x).float().mean() < 1.0


def test_mixing_keeps_the_larger_share_for_the_row_itself() -> None:
    share, partner = augment.mixing(64, np.random.default_rng(0), 0.3)
    assert share.min() >= 0.5
    assert sorted(partner) == list(range(64))
    assert (augment.mixing(4, np.random.default_rng(0), 0.0)[0] == 1).all()


def test_the_shipped_recipes_train_on_none_of_the_speakers_that_they_judge() -> None:
    for name in ("speech-4", "speech-ravdess-8"):
        told = _told(load_recipe(name))
        assert not set(told.val) & set(told.test)


def _told(recipe: Recipe) -> Speech:
    assert recipe.speech is not None
    return recipe.speech


def _learner(recipe: Recipe, sides: Sides, folder: Path) -> fitting.Learner:
    specs = recipe.specs("plain")
    shape, shapes = speech._shape(recipe, sides.val[0])
    found = {
        corpus: [cached_takes(part, specs, speed, folder) for speed in _told(recipe).speeds]
        for corpus, part in sides.train.items()
    }
    val = drawing.Judged(cached_takes(sides.val, specs, 1.0, folder), recipe.labels, shape)
    torch.manual_seed(1)
    drawn = drawing.Draws(found, recipe.labels, shape, _told(recipe), 1)
    network = network_of(recipe, shapes)
    return fitting.Learner(network, _told(recipe), drawn, val)


def test_the_reader_finds_every_clip(clips: Path) -> None:
    assert len(read("ravdess", clips)) == 24
