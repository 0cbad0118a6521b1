"""How a network is fitted to batches: steps, the mean of the weights, the look at validation."""

from __future__ import annotations

import copy
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import lightning
import torch
from torch import Tensor, nn

from offline.tuition import Descent

__all__ = ["Batch", "Drawn", "Judge", "Learner", "Tell", "device_of", "fit"]

_TELL_S = 0.2  # between two signs of life
_KEEP_S = 1.0  # between two checkpoints
Tell: TypeAlias = Callable[[int, int, str], None]  # steps done, of all, and what validation gave


@dataclass(frozen=True, slots=True)
class Batch:
    """`inputs` {name: (batch, ...)}, `valid` {name: (batch, time)}, `truth` (batch, labels)."""

    inputs: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]
    truth: Tensor


class Drawn(Protocol):
    """The batches of every epoch, each a pure function of seed, epoch and place."""

    seed: int

    def __len__(self) -> int: ...

    def batch(self, epoch: int, place: int) -> Batch: ...


class Judge(Protocol):
    """The UAR of a network that stands still, on validation."""

    def __call__(self, network: nn.Module) -> float: ...


class Learner(lightning.LightningModule):
    """The network in training, the running mean of its weights, and the best of those means.

    One step of lightning is a whole epoch of ours: what it does between steps takes longer than
    a small network's step itself.
    """

    weight: Tensor | None  # of the labels (labels,)
    offset: Tensor | None  # of their logits, in the loss alone (labels,)

    def __init__(
        self,
        network: nn.Module,
        told: Descent,
        drawn: Drawn,
        judge: Judge,
        weight: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.mean = copy.deepcopy(network).requires_grad_(False) if told.average else network
        self.best: dict[str, Any] = {"uar": -1.0, "epoch": -1, "state": {}}
        self.scores: list[tuple[int, float]] = []  # (epoch, validation UAR)
        self.losses: list[float] = []  # the mean of each epoch
        self.tell: Tell = lambda done, total, text: None
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self._told, self.drawn, self._judge = told, drawn, judge
        self._next_s = 0.0

    def train_dataloader(self) -> list[int]:
        return [0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        told = self._told
        return torch.optim.AdamW(
            self.network.parameters(), told.learning_rate, weight_decay=told.weight_decay,
            fused=True,
        )  # fmt: skip

    def training_step(self, *about: Any) -> None:
        """One epoch: (batch, ...) in, (batch, labels) out, a step down, for every batch of it."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        epoch, n = self.current_epoch, len(self.drawn)
        # Dropout, seeded anew: what was drawn before depends on whether this run was interrupted.
        torch.manual_seed(hash((self.drawn.seed, epoch)) % (1 << 31))
        self.network.train()
        total = torch.zeros((), device=self.device)
        for place in range(n):
            batch = self.drawn.batch(epoch, place)
            for group in optimizer.param_groups:
                group["lr"] = self._told.learning_rate * self._share(epoch * n + place)
            optimizer.zero_grad()
            loss = self._loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            if self._told.clip_gradient is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), self._told.clip_gradient)
            optimizer.step()
            self._follow(epoch * n + place + 1)
            total += loss.detach()
            if time.monotonic() >= self._next_s and place + 1 < n:
                self.say(epoch * n + place + 1)
        self.losses.append(float(total) / n)

    def _loss(self, batch: Batch) -> Tensor:
        half = self._told.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            logits = self.network(batch.inputs, batch.valid)
        logits = logits.float() if self.offset is None else logits.float() + self.offset
        loss = nn.functional.cross_entropy(
            logits, batch.truth, self.weight, label_smoothing=self._told.label_smoothing
        )
        extra = getattr(self.network, "extra_loss", None)
        return loss if extra is None else loss + extra

    def _share(self, step: int) -> float:
        """Of the learning rate: a ramp, then half a cosine down to nothing."""
        n_steps = self._told.epochs * len(self.drawn)
        n_warm = max(1, int(self._told.warm_up * n_steps))
        if step < n_warm:
            return (step + 1) / n_warm
        return 0.5 * (1.0 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the mean a little: slower later, so that it forgets how it began."""
        if self.mean is self.network:
            return
        decay = min(self._told.average, (1 + step) / (10 + step))
        means, values = list(self.mean.state_dict().values()), self.network.state_dict().values()
        pairs = [(a, b) for a, b in zip(means, values, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1.0 - decay)
        for mean, value in zip(means, values, strict=True):
            if not mean.is_floating_point():
                mean.copy_(value)

    def check(self) -> None:
        """Judge the mean on validation, at the epochs where that is due, and keep the best."""
        done = self.current_epoch + 1
        if done % self._told.check_every and done != self._told.epochs:
            return
        self.scores.append((done, self._judge(self.mean)))
        if self.scores[-1][1] > self.best["uar"]:
            state = {key: value.cpu().clone() for key, value in self.mean.state_dict().items()}
            self.best = {"uar": self.scores[-1][1], "epoch": done, "state": state}

    @property
    def tired(self) -> bool:
        """Whether validation has not got better for as many looks as the patience allows."""
        since = sum(epoch > self.best["epoch"] for epoch, _ in self.scores)
        return self._told.patience is not None and since >= self._told.patience

    def say(self, done: int) -> None:
        """Tell how many steps are done, and what validation gave so far."""
        self._next_s = time.monotonic() + _TELL_S
        last = self.scores[-1][1] if self.scores else None
        text = "" if last is None else f"validation UAR {last:.3f}, best {self.best['uar']:.3f}"
        self.tell(done, self._told.epochs * len(self.drawn), text)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = {"best": self.best, "scores": self.scores, "losses": self.losses}
        checkpoint["vagus"] = kept

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["vagus"]
        self.best, self.scores, self.losses = kept["best"], kept["scores"], kept["losses"]


class _Keep(lightning.Callback):
    """Has each epoch checked and logged, keeps checkpoints of their ends, stops one that is tired.

    A checkpoint takes longer than a small epoch: there is one a second, and one at the very end.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._next_s = path, 0.0

    def on_train_start(self, trainer: Any, learner: Any) -> None:
        trainer.should_stop = learner.tired

    def on_train_epoch_end(self, trainer: Any, learner: Any) -> None:
        learner.check()
        if trainer.logger is not None:
            told = {"loss": learner.losses[-1]}
            if learner.scores and learner.scores[-1][0] == len(learner.losses):
                told["validation_uar"] = learner.scores[-1][1]
            trainer.logger.log_metrics(told, step=len(learner.losses))
        trainer.should_stop = trainer.should_stop or learner.tired
        last = trainer.should_stop or len(learner.losses) == trainer.max_epochs
        if last or time.monotonic() >= self._next_s:
            part = self._path.with_suffix(".part")
            trainer.save_checkpoint(part)
            os.replace(part, self._path)
            self._next_s = time.monotonic() + _KEEP_S
        learner.say(len(learner.losses) * len(learner.drawn))


def device_of(told: Descent) -> torch.device:
    """Where it is trained; raises ResourceError for a GPU that is not there."""
    if told.device == "cuda" and not torch.cuda.is_available():
        from engine.errors import ResourceError

        raise ResourceError("device: cuda: this machine has no GPU that torch can use; take cpu")
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(auto if told.device == "auto" else told.device)


def fit(
    learner: Learner,
    told: Descent,
    checkpoint: Path,
    tell: Tell | None = None,
    logs: Path | None = None,
    stop_after: int | None = None,
) -> None:
    """Train `learner` to the end, or from `checkpoint` on where that exists: the same bits.

    `logs` is a folder for TensorBoard. `stop_after` ends early, at that epoch, as a machine that
    is switched off would.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    learner.tell = tell or learner.tell
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightning's advice on loaders and devices
        trainer = lightning.Trainer(
            max_epochs=told.epochs if stop_after is None else stop_after,
            accelerator="gpu" if device_of(told).type == "cuda" else "cpu",
            devices=1,
            logger=_logger(logs),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Keep(checkpoint)],
        )
        begun = str(checkpoint) if checkpoint.is_file() else None
        trainer.fit(learner, ckpt_path=begun, weights_only=True)


def _logger(logs: Path | None) -> Any:
    if logs is None:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(logs.parent, name=logs.name, version="")
