"""Windows of voices: drawn out of takes to train on, and as a session has them to validate on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from engine.networks.masked import normalise
from engine.types import Array
from offline import augment, metrics
from offline.chance import Chance
from offline.fitting import Batch
from offline.takes import LEAST_QUALITY, Take, live_windows
from offline.tuition import Speech

__all__ = ["Draws", "Judged", "Shape", "recording_means", "window_logits"]

_ROWS = 64  # windows judged at once


class Shape:
    """What windows are: their name, frames, frames per second, hop, and the least frames."""

    def __init__(self, name: str, n_items: int, rate_hz: float, hop_s: float, least: int) -> None:
        self.name, self.n_items, self.rate_hz = name, n_items, rate_hz
        self.hop_s, self.least = hop_s, least


class Judged:
    """Clips as the windows that a session would predict from: x, valid, whose, truth."""

    def __init__(self, clips: Sequence[Take], labels: Sequence[str], shape: Shape) -> None:
        rows = [
            (i, *window)
            for i, clip in enumerate(clips)
            for window in live_windows(clip, shape.n_items, shape.rate_hz, shape.hop_s, shape.least)
        ]
        self.name = shape.name
        self.clip = np.array([i for i, _, _ in rows])
        self.x = np.stack([x for _, x, _ in rows])
        self.valid = np.stack([valid for _, _, valid in rows])
        self.weight = self.valid.mean(1)
        self.truth = np.array([labels.index(clip.recording.label) for clip in clips])

    def __call__(self, network: nn.Module) -> float:
        """The UAR over clips."""
        logits = window_logits(network, self)
        said = recording_means(logits, self).argmax(1)
        return metrics.uar(metrics.confusion(self.truth, said, logits.shape[1]))


class Draws:
    """The batches of every epoch, each a pure function of seed, epoch and place.

    `clips` are per corpus and speed; a corpus is drawn by its share, and within it a label by
    the square root of its number. Windows end anywhere that a session's may, late ends oftener.
    """

    def __init__(
        self,
        clips: Mapping[str, Sequence[Sequence[Take]]],
        labels: Sequence[str],
        shape: Shape,
        recipe: Speech,
        seed: int,
    ) -> None:
        self.seed = seed
        self._shape, self._recipe, self._labels = shape, recipe, labels
        self._pool = [
            versions for by_speed in clips.values() for versions in zip(*by_speed, strict=True)
        ]
        weights: list[float] = []
        for corpus, by_speed in clips.items():
            named = [clip.recording.label for clip in by_speed[0]]
            rare = np.array([1.0 / math.sqrt(named.count(label)) for label in named])
            weights.extend(recipe.corpora[corpus] * rare / rare.sum())
        self._chance = np.array(weights) / np.sum(weights)

    def __len__(self) -> int:
        return max(1, self._recipe.draws // self._recipe.batch)

    def batch(self, epoch: int, place: int) -> Batch:
        """(batch, time, bins), (batch, time), (batch, labels)."""
        rng = np.random.default_rng((self.seed, epoch, place))
        n = self._recipe.batch
        drawn = [self._draw(int(i), rng) for i in rng.choice(len(self._pool), n, p=self._chance)]
        x = torch.from_numpy(np.stack([frames for frames, _, _ in drawn]))
        valid = torch.from_numpy(np.stack([mask for _, mask, _ in drawn]))
        chance = Chance(self.seed, epoch, torch.arange(place * n, place * n + n))
        for change in (augment.colour, augment.coloured_noise, augment.spec_augment):
            x, valid = change(x, valid, chance)
        truth = torch.eye(len(self._labels))[[label for _, _, label in drawn]]
        share, partner = augment.mixing(n, rng, self._recipe.mixup)
        part = torch.from_numpy(share)[:, None, None]
        x = normalise(x, valid)
        name, mixed = self._shape.name, torch.from_numpy(share < 1)[:, None]
        return Batch(
            {name: part * x + (1 - part) * x[partner]},
            {name: valid | (mixed & valid[partner])},
            part[:, 0] * truth + (1 - part[:, 0]) * truth[partner],
        )

    def _draw(self, i: int, rng: np.random.Generator) -> tuple[Array, Array, int]:
        versions = self._pool[i]
        clip = versions[int(rng.integers(len(versions)))]
        n, least = len(clip.frames), self._shape.least
        end = n if n <= least else least + int((n - least + 1) * math.cbrt(rng.random()))
        frames, valid = clip.window(min(end, n), self._shape.n_items)
        if np.count_nonzero(valid) < LEAST_QUALITY * min(end, self._shape.n_items):
            frames, valid = clip.window(n, self._shape.n_items)
        return frames, valid, self._labels.index(clip.recording.label)


def window_logits(network: nn.Module, judged: Judged) -> Array:
    """(windows, labels) float64 of a network that stands still."""
    network.eval()
    name, parts = judged.name, []
    with torch.inference_mode():
        for at in range(0, len(judged.x), _ROWS):
            x = torch.from_numpy(judged.x[at : at + _ROWS])
            valid = torch.from_numpy(judged.valid[at : at + _ROWS])
            parts.append(network({name: x}, {name: valid}).numpy())
    return np.concatenate(parts).astype(np.float64)


def recording_means(logits: Array, judged: Judged) -> Array:
    """(recordings, labels): each one's mean probability over its windows, weighted by `filled`."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p *= (judged.weight / p.sum(1))[:, None]
    total = np.zeros((len(judged.truth), logits.shape[1]))
    np.add.at(total, judged.clip, p)
    mean: Array = total / np.maximum(total.sum(1, keepdims=True), 1e-12)
    return mean
