"""Windows in memory: batches drawn out of them by index, and the part that validates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from engine.types import Array
from offline import augment, metrics
from offline.augment import AUGMENTS, Typical
from offline.chance import Chance
from offline.datasets import LabelledRecording
from offline.fitting import Batch
from offline.tuition import Training
from offline.windows import WindowSet

__all__ = ["Draws", "Judged", "Material", "material"]

_ROWS = 256  # windows judged at once
_SOME, _SOME_BYTES = 8192, 256e6  # windows that are enough to know what is typical
_NEVER = 1e-9  # the share of a label that there is none of
_ROOM = 0.6  # of a GPU's free memory that windows may take


@dataclass(frozen=True, slots=True)
class Material:
    """n windows as tensors: `inputs` {name: (n, ...)}, `valid` {name: (n, time)}, `truth` (n,
    labels) shares, `recording` (n,) numbers, `filled` (n,)."""

    inputs: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]
    truth: Tensor
    recording: Array
    filled: Array

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{input: shape of a row}, as networks want them."""
        return {name: tuple(x.shape[1:]) for name, x in self.inputs.items()}

    def batch(self, rows: Tensor, device: torch.device) -> Batch:
        """The windows numbered `rows`, on `device`."""
        at = rows.to(self.truth.device)
        return Batch(
            {n: x.index_select(0, at).to(device).float() for n, x in self.inputs.items()},
            {n: mask.index_select(0, at).to(device) for n, mask in self.valid.items()},
            self.truth.index_select(0, at).to(device),
        )

    def on(self, device: torch.device) -> Material:
        """The same on a GPU, if it has room for all of it; else as it is, to be sent in batches."""
        if device.type == "cpu":
            return self
        n_bytes = sum(x.nbytes for x in (*self.inputs.values(), *self.valid.values()))
        if n_bytes > _ROOM * torch.cuda.mem_get_info(device)[0]:
            return self
        return Material(
            {name: x.to(device) for name, x in self.inputs.items()},
            {name: mask.to(device) for name, mask in self.valid.items()},
            self.truth.to(device),
            self.recording,
            self.filled,
        )


def material(
    windows: WindowSet,
    recordings: Sequence[LabelledRecording],
    labels: Sequence[str],
    soft: bool = False,
) -> Material:
    """`windows` for training; with `soft`, the votes of a recording stand for its label."""
    index = {label: i for i, label in enumerate(labels)}
    truth = np.eye(len(labels), dtype=np.float32)[[index[label] for label in windows.label]]
    if soft:
        votes = {r.uid: r.soft for r in recordings if r.soft is not None}
        for row, uid in enumerate(windows.recording):
            shares = [votes[uid].get(label, 0.0) for label in labels] if uid in votes else []
            if sum(shares) > 0:
                truth[row] = np.array(shares) / sum(shares)
    _, recording = np.unique(windows.recording, return_inverse=True)
    filled = np.mean([mask.mean(1) for mask in windows.valid.values()], axis=0)
    return Material(
        {name: torch.from_numpy(x) for name, x in windows.inputs.items()},
        {name: torch.from_numpy(mask) for name, mask in windows.valid.items()},
        torch.from_numpy(truth),
        recording,
        filled,
    )


class Draws:
    """The batches of every epoch, each a pure function of seed, epoch and place.

    Out of the windows `rows` of `given` and no others: all of them once an epoch, or as many draws
    with `balance` between the labels. `weight` (labels,) is for the loss, and `offset` (labels,)
    for the logits in it: they learn what speaks for a label beyond its share of the draws (logit
    adjustment, Menon et al. 2021).
    """

    def __init__(
        self, given: Material, rows: Array, told: Training, seed: int, device: torch.device
    ) -> None:
        self.seed, self.rows = seed, rows
        self._given, self._told, self._device = given, told, device
        labels = given.truth[torch.from_numpy(rows)].argmax(1).cpu().numpy()
        counts = np.bincount(labels, minlength=given.truth.shape[1])
        rare = len(rows) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        weights = torch.tensor(rare, dtype=torch.float32)
        self.weight = weights if told.balance == "weights" else None
        power = {"sampling": 1.0, "sqrt-sampling": 0.5}.get(told.balance)
        self._chance = None if power is None else _shares(rare[labels] ** power)
        drawn = np.bincount(labels, self._chance, len(counts)) if power else counts
        share = torch.tensor(np.maximum(drawn, _NEVER) / drawn.sum(), dtype=torch.float32)
        self.offset = told.adjust * share.log() if told.adjust else None
        self._n = told.draws or len(rows)
        if self._chance is None:
            self._n = min(self._n, len(rows))
        self._epoch, self._order = -1, np.empty(0, int)
        self._typical = {name: self._usual(name) for name in told.augment}

    def __len__(self) -> int:
        return max(1, round(self._n / self._told.batch))

    def some(self) -> Batch:
        """Windows enough to fit a normaliser to, evenly out of the training part."""
        n_bytes = sum(x[0].nbytes for x in self._given.inputs.values())
        step = -(-len(self.rows) // int(min(_SOME, max(self._told.batch, _SOME_BYTES // n_bytes))))
        return self._given.batch(torch.from_numpy(self.rows[::step]), torch.device("cpu"))

    def batch(self, epoch: int, place: int) -> Batch:
        """(batch, ...) of each input, changed and mixed as the config says."""
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._drawn(epoch)
        n = len(self)
        first, last = place * self._n // n, (place + 1) * self._n // n
        samples = torch.from_numpy(self._order[first:last])
        made = self._given.batch(torch.from_numpy(self.rows[self._order[first:last]]), self._device)
        if self._told.augment:
            made = self._changed(made, Chance(self.seed, epoch, self._own(samples, first)))
        return self._mixed(made, epoch, place) if self._told.mixup else made

    def _drawn(self, epoch: int) -> Array:
        rng = np.random.default_rng((self.seed, epoch))
        if self._chance is None:
            return rng.permutation(len(self.rows))[: self._n]
        return rng.choice(len(self.rows), self._n, p=self._chance)

    def _own(self, samples: Tensor, first: int) -> Tensor:
        """Numbers of their own for draws: a window that is drawn twice is changed in two ways."""
        if self._chance is None:
            return samples.to(self._device)
        return torch.arange(first, first + len(samples), device=self._device)

    def _changed(self, batch: Batch, chance: Chance) -> Batch:
        inputs, valid = dict(batch.inputs), dict(batch.valid)
        for name, entries in self._told.augment.items():
            x, mask = inputs[name], valid[name]
            for entry in entries:
                args = {key: value for key, value in entry.items() if key != "name"}
                x, mask = AUGMENTS[entry["name"]](x, mask, chance, self._typical[name], **args)
            inputs[name], valid[name] = x, mask
        return Batch(inputs, valid, batch.truth)

    def _mixed(self, batch: Batch, epoch: int, place: int) -> Batch:
        rng = np.random.default_rng((self.seed, epoch, place))
        n = len(batch.truth)
        share, partner = augment.mixing(n, rng, self._told.mixup)
        part, other = torch.from_numpy(share).to(self._device), torch.from_numpy(partner)
        other = other.to(self._device)

        def mix(x: Tensor) -> Tensor:
            own = part.reshape(n, *[1] * (x.dim() - 1))
            return own * x + (1 - own) * x[other]

        mixed = (part < 1)[:, None]
        return Batch(
            {name: mix(x) for name, x in batch.inputs.items()},
            {name: mask | (mixed & mask[other]) for name, mask in batch.valid.items()},
            mix(batch.truth),
        )

    def _usual(self, name: str) -> Typical:
        """Over windows and time where the input has one: (*item)."""
        some = self.some()
        x = some.inputs[name]
        x = x[some.valid[name]] if x.dim() > 2 else x
        return Typical(x.mean(0).to(self._device), x.std(0).to(self._device))


class Judged:
    """The windows that validate: the UAR of a network over them, or over their recordings."""

    def __init__(
        self, given: Material, rows: Array, by_recording: bool, device: torch.device
    ) -> None:
        self._given, self._rows, self._device = given, torch.from_numpy(rows), device
        self._by_recording = by_recording
        self.truth = given.truth[self._rows.to(given.truth.device)].argmax(1).cpu().numpy()
        self.filled = given.filled[rows]
        _, first, self._recording = np.unique(
            given.recording[rows], return_index=True, return_inverse=True
        )
        self._recording_truth = self.truth[first]

    def __call__(self, network: nn.Module) -> float:
        """The UAR."""
        logits = self.logits(network)
        truth, p = self.truth, logits
        if self._by_recording:
            p = np.exp(logits - logits.max(1, keepdims=True))
            p *= (self.filled / p.sum(1))[:, None]
            total = np.zeros((len(self._recording_truth), p.shape[1]))
            np.add.at(total, self._recording, p)
            truth, p = self._recording_truth, total
        return metrics.uar(metrics.confusion(truth, p.argmax(1), p.shape[1]))

    def logits(self, network: nn.Module) -> Array:
        """(windows, labels) float64 of a network that stands still."""
        network.eval()
        parts = []
        with torch.inference_mode():
            for rows in torch.split(self._rows, _ROWS):
                batch = self._given.batch(rows, self._device)
                parts.append(network(batch.inputs, batch.valid).float().cpu().numpy())
        return np.concatenate(parts).astype(np.float64)


def _shares(weights: Array) -> Array:
    shares: Array = weights / weights.sum()
    return shares
