"""Batches are drawn by index: a pure function of seed and epoch, of the training part alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from offline import augment, metrics
from offline.augment import AUGMENTS, Typical
from offline.batches import Draws, Judged, Material
from offline.chance import Chance
from offline.tuition import Training

CPU = torch.device("cpu")
PICTURES = ("crop", "cutout", "flip", "light", "turn")


def given(n: int = 60, n_labels: int = 3) -> Material:
    """Windows (16, 4) whose first value is their own number; label 0 is ten times as frequent."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 16, 4)).astype(np.float32)
    x[:, 0, 0] = np.arange(n)
    label = np.where(np.arange(n) % 12, 0, 1 + np.arange(n) // 12 % (n_labels - 1))
    return Material(
        {"eeg": torch.from_numpy(x)},
        {"eeg": torch.ones(n, 16, dtype=torch.bool)},
        torch.eye(n_labels)[label],
        np.arange(n) // 6,
        np.ones(n),
    )


def draws(seed: int = 0, rows: Any = None, **told: Any) -> Draws:
    rows = np.arange(60) if rows is None else rows
    return Draws(given(), rows, Training(batch=8, **told), seed, CPU)


def numbers(drawn: Draws, epoch: int = 0) -> list[int]:
    found = [drawn.batch(epoch, place).inputs["eeg"][:, 0, 0] for place in range(len(drawn))]
    return [int(x) for x in torch.cat(found)]


def test_an_epoch_holds_every_row_of_the_training_part_once_and_no_other() -> None:
    rows = np.arange(3, 60, 2)
    assert sorted(numbers(draws(rows=rows))) == rows.tolist()


def test_a_batch_depends_on_seed_epoch_and_place_and_not_on_what_was_drawn_before() -> None:
    noisy = {"augment": {"eeg": [{"name": "noise"}, {"name": "time_mask"}]}, "mixup": 0.4}
    one, other = draws(**noisy), draws(**noisy)
    numbers(other, epoch=3)
    a, b, later = one.batch(0, 2), other.batch(0, 2), one.batch(1, 2)
    assert torch.equal(a.inputs["eeg"], b.inputs["eeg"])
    assert torch.equal(a.valid["eeg"], b.valid["eeg"])
    assert torch.equal(a.truth, b.truth)
    assert not torch.equal(a.inputs["eeg"], later.inputs["eeg"])
    assert numbers(draws(seed=1)) != numbers(draws(seed=0))


@pytest.mark.parametrize(("balance", "least", "most"), [
    ("sampling", 0.5, 0.8), ("sqrt-sampling", 0.2, 0.5), ("none", 0.05, 0.12),
])  # fmt: skip
def test_balanced_draws_show_rare_labels_oftener(balance: str, least: float, most: float) -> None:
    drawn = draws(balance=balance, draws=60 if balance == "none" else 2000)
    truth = torch.cat([drawn.batch(0, place).truth for place in range(len(drawn))])
    assert least < 1.0 - float(truth[:, 0].mean()) < most
    assert drawn.weight is None


def test_weights_make_every_label_count_the_same() -> None:
    drawn = draws(balance="weights")
    assert drawn.weight is not None
    counts = given().truth.sum(0)
    assert torch.allclose(drawn.weight * counts, torch.full((3,), 20.0))


def test_mixup_mixes_windows_and_their_truth_in_the_same_shares() -> None:
    plain, mixed = draws().batch(0, 1), draws(mixup=0.5).batch(0, 1)
    assert torch.allclose(mixed.truth.sum(1), torch.ones(len(mixed.truth)))
    share, partner = augment.mixing(len(plain.truth), np.random.default_rng((0, 0, 1)), 0.5)
    part = torch.from_numpy(share)[:, None, None]
    x = plain.inputs["eeg"]
    assert torch.allclose(mixed.inputs["eeg"], part * x + (1 - part) * x[partner])


def test_what_is_typical_comes_from_the_training_part() -> None:
    rows = np.arange(10)
    drawn = draws(rows=rows, augment={"eeg": [{"name": "channel_drop", "share": 1.0}]})
    mean = given().inputs["eeg"][:10].mean((0, 1))
    assert torch.allclose(drawn.batch(0, 0).inputs["eeg"][0, 0], mean)


def test_validation_counts_recordings_or_windows() -> None:
    material, rows = given(), np.arange(12, 60)
    label = torch.from_numpy(np.arange(60) // 6 % 3)
    material = replace(material, truth=torch.eye(3)[label])
    said = torch.eye(3)[(label + (torch.arange(60) % 6 == 0)) % 3] * 5.0  # 5 of 6 windows right

    class Said(nn.Module):
        def forward(self, inputs: dict[str, Tensor], valid: dict[str, Tensor]) -> Tensor:
            return said[inputs["eeg"][:, 0, 0].long()]

    assert Judged(material, rows, True, CPU)(Said()) == 1.0
    counts = metrics.confusion(label[12:].numpy(), said[12:].argmax(1).numpy(), 3)
    assert Judged(material, rows, False, CPU)(Said()) == metrics.uar(counts) < 0.9


def window(name: str, n: int = 6) -> tuple[Tensor, Tensor, Typical]:
    shape = (n, 3, 24, 24, 1) if name in PICTURES else (n, 120, 10)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(shape[:2], dtype=torch.bool)
    return x, valid, Typical(x.mean((0, 1)), x.std((0, 1)))


@pytest.mark.parametrize("name", AUGMENTS)
def test_what_becomes_of_a_window_does_not_depend_on_its_batch(name: str) -> None:
    x, valid, typical = window(name)
    made, mask = AUGMENTS[name](x, valid, Chance(3, 1, torch.arange(6)), typical)
    alone, own = AUGMENTS[name](x[4:5], valid[4:5], Chance(3, 1, torch.tensor([4])), typical)
    assert torch.allclose(made[4], alone[0], atol=1e-6)
    assert torch.equal(mask[4], own[0])
    assert made.dtype == torch.float32
    assert made.shape == x.shape
    assert not torch.equal(made, x)
    assert bool(made.isfinite().all())


def test_a_mirror_twice_is_the_picture_and_a_crop_moves_all_of_a_window() -> None:
    x, valid, typical = window("flip")
    chance = Chance(0, 0, torch.arange(6))
    mirrored, _ = augment.flip(x, valid, chance, typical, share=1.0)
    assert torch.equal(mirrored.flip(3), x)
    still = x[:, :1].expand_as(x)
    moved, _ = augment.crop(still, valid, Chance(0, 0, torch.arange(6)), typical)
    assert torch.equal(moved[:, 0], moved[:, 2])


def test_a_faster_window_ends_in_invalid_items_and_a_slower_one_does_not() -> None:
    ramp = torch.arange(100.0).reshape(1, 100, 1).expand(4, -1, -1)
    valid = torch.ones(4, 100, dtype=torch.bool)
    chance, typical = Chance(0, 0, torch.arange(4)), Typical(torch.zeros(1), torch.ones(1))
    x, there = augment.speed(ramp, valid, chance, typical, slowest=1.25, fastest=1.25)
    assert there.sum(1).tolist() == [80] * 4
    assert torch.allclose(x[0, :80, 0], 1.25 * torch.arange(80.0), atol=1e-4)
    _, there = augment.speed(ramp, valid, chance, typical, slowest=0.8, fastest=0.8)
    assert bool(there.all())


def test_chance_is_even_normal_and_its_own_for_every_sample() -> None:
    chance = Chance(1, 2, torch.arange(20_000))
    even, normal, more = chance.uniform(4), chance.normal(4), chance.uniform(4)
    assert 0 <= float(even.min()) < 0.001 < 0.999 < float(even.max()) < 1
    assert float(even.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(normal.mean()) == pytest.approx(0.0, abs=0.015)
    assert float(normal.std()) == pytest.approx(1.0, abs=0.01)
    stacked = torch.stack([even.flatten(), more.flatten(), normal.flatten()])
    assert (torch.corrcoef(stacked) - torch.eye(3)).abs().max() < 0.02
    assert torch.equal(Chance(1, 2, torch.tensor([7])).uniform(4)[0], even[7])
    assert not torch.equal(Chance(1, 3, torch.tensor([7])).uniform(4)[0], even[7])
