"""How a network is fitted to windows of clips: the draws, the loop, the look at validation."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from engine.networks.masked import normalise
from engine.types import Array
from offline import augment, metrics
from offline.recipe import Speech
from offline.takes import LEAST_QUALITY, Take, live_windows

__all__ = ["Draws", "Judged", "Learner", "Shape", "fit", "recording_means", "window_logits"]

_ROWS = 64  # windows judged at once
_WARM_UP = 0.1  # of all steps


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
        self.clip = np.array([i for i, _, _ in rows])
        self.x = np.stack([x for _, x, _ in rows])
        self.valid = np.stack([valid for _, _, valid in rows])
        self.weight = self.valid.mean(1)
        self.truth = np.array([labels.index(clip.recording.label) for clip in clips])


class Draws(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The batches of one epoch, each a pure function of seed, epoch and place.

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
        self._shape, self._recipe, self._labels, self._seed = shape, recipe, labels, seed
        self.epoch = 0
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

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, time, bins), (batch, time), (batch, labels)."""
        if place >= len(self):
            raise IndexError(place)
        rng = np.random.default_rng((self._seed, self.epoch, place))
        n = self._recipe.batch
        drawn = [self._draw(int(i), rng) for i in rng.choice(len(self._pool), n, p=self._chance)]
        x = np.stack([frames for frames, _, _ in drawn])
        valid = np.stack([mask for _, mask, _ in drawn])
        x = augment.coloured_noise(augment.colour(x, rng), valid, rng)
        x, valid = augment.stripes(x, valid, rng)
        frames, mask = torch.from_numpy(x), torch.from_numpy(valid)
        truth = torch.eye(len(self._labels))[[label for _, _, label in drawn]]
        share, partner = augment.mixing(n, rng, self._recipe.mixup)
        part = torch.from_numpy(share)[:, None, None]
        frames = normalise(frames, mask)
        frames = part * frames + (1 - part) * frames[partner]
        mixed = torch.from_numpy(share < 1)[:, None]
        return (
            frames,
            mask | (mixed & mask[partner]),
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


class Learner(lightning.LightningModule):
    """The network in training, the running mean of its weights, and the best of those means."""

    def __init__(
        self, network: nn.Module, recipe: Speech, draws: Draws, judged: Judged, name: str
    ) -> None:
        super().__init__()
        self.network = network
        self.mean = copy.deepcopy(network).requires_grad_(False)
        self.best: dict[str, Any] = {"uar": -1.0, "epoch": -1, "state": {}}
        self.scores: list[tuple[int, float]] = []
        self._recipe, self._draws, self._judged, self._name = recipe, draws, judged, name

    def train_dataloader(self) -> DataLoader[Any]:
        self._draws.epoch = self.current_epoch
        return DataLoader(self._draws, batch_size=None, shuffle=False)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self._recipe.learning_rate,
            weight_decay=self._recipe.weight_decay,
        )
        n_steps = self._recipe.epochs * len(self._draws)
        n_warm = max(1, int(_WARM_UP * n_steps))

        def share(step: int) -> float:
            if step < n_warm:
                return (step + 1) / n_warm
            return 0.5 * (1.0 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], place: int) -> Tensor:
        frames, valid, truth = batch
        # Dropout, seeded by place: what lightning draws between depends on whether it resumes.
        torch.manual_seed(hash((self._draws._seed, self.current_epoch, place)) % (1 << 31))
        self.network.train()
        logits = self.network({self._name: frames}, {self._name: valid}).float()
        return nn.functional.cross_entropy(
            logits, truth, label_smoothing=self._recipe.label_smoothing
        )

    def on_train_batch_end(self, *about: Any) -> None:
        """Move the mean a little: slower later, so that it forgets how it began."""
        decay = min(self._recipe.average, (1 + self.global_step) / (10 + self.global_step))
        now = self.network.state_dict()
        for key, value in self.mean.state_dict().items():
            if value.is_floating_point():
                value.lerp_(now[key].detach().to(value.dtype), 1.0 - decay)
            else:
                value.copy_(now[key])

    def check(self) -> None:
        """Judge the mean on validation, at the epochs where that is due, and keep the best."""
        done = self.current_epoch + 1
        if done % self._recipe.check_every and done != self._recipe.epochs:
            return
        logits = window_logits(self.mean, self._name, self._judged)
        counts = metrics.confusion(
            self._judged.truth,
            recording_means(logits, self._judged).argmax(1),
            logits.shape[1],
        )
        self.scores.append((done, metrics.uar(counts)))
        if self.scores[-1][1] > self.best["uar"]:
            state = {key: value.clone() for key, value in self.mean.state_dict().items()}
            self.best = {"uar": self.scores[-1][1], "epoch": done, "state": state}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["vagus"] = {"best": self.best, "scores": self.scores}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best, self.scores = checkpoint["vagus"]["best"], checkpoint["vagus"]["scores"]


class _Tell(lightning.Callback):
    """Has an epoch checked, keeps a checkpoint of its end, and says what validation gave."""

    def __init__(self, path: Path, say: Callable[[int, int, str], None]) -> None:
        self._path, self._say = path, say

    def on_train_epoch_end(self, trainer: Any, learner: Any) -> None:
        learner.check()
        trainer.save_checkpoint(self._path)
        text = "validation comes later"
        if learner.scores:
            done, uar = learner.scores[-1]
            text = f"validation UAR {uar:.3f} (epoch {done}), best {learner.best['uar']:.3f}"
        self._say(trainer.current_epoch + 1, trainer.max_epochs, text)


def fit(
    learner: Learner,
    recipe: Speech,
    checkpoint: Path,
    say: Callable[[int, int, str], None],
    stop_after: int | None = None,
) -> None:
    """Train `learner` to the end, or from `checkpoint` on where that exists: the same bits.

    `stop_after` ends early, at that epoch, as a machine that is switched off would.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightning's advice on loaders and devices
        trainer = lightning.Trainer(
            max_epochs=recipe.epochs if stop_after is None else stop_after,
            accelerator="cpu",
            devices=1,
            precision="bf16-mixed" if recipe.precision == "bfloat16" else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            reload_dataloaders_every_n_epochs=1,
            callbacks=[_Tell(checkpoint, say)],
        )
        begun = str(checkpoint) if checkpoint.is_file() else None
        trainer.fit(learner, ckpt_path=begun, weights_only=False)


def window_logits(network: nn.Module, name: str, judged: Judged) -> Array:
    """(windows, labels) float64 of a network that stands still."""
    network.eval()
    parts = []
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        for at in range(0, len(judged.x), _ROWS):
            x = torch.from_numpy(judged.x[at : at + _ROWS])
            valid = torch.from_numpy(judged.valid[at : at + _ROWS])
            parts.append(network({name: x}, {name: valid}).numpy())
    return np.concatenate(parts).astype(np.float64)


def recording_means(logits: Array, judged: Judged, temperature: float = 1.0) -> Array:
    """(recordings, labels): each one's mean probability over its windows, weighted by `filled`."""
    z = logits / temperature
    p = np.exp(z - z.max(1, keepdims=True))
    p *= (judged.weight / p.sum(1))[:, None]
    total = np.zeros((len(judged.truth), logits.shape[1]))
    np.add.at(total, judged.clip, p)
    mean: Array = total / np.maximum(total.sum(1, keepdims=True), 1e-12)
    return mean
