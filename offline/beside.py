"""What is noted of windows while a bundle judges them: a linear baseline's verdict, embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.bundle import Bundle
from engine.types import Array
from offline.baselines import Linear
from offline.embeddings import Embedder

__all__ = ["Beside", "Onlooker", "join"]

_MOST = 1000  # windows whose embedding is kept: more make a picture slower, not clearer


@dataclass(frozen=True, slots=True)
class Beside:
    """Beside n rows: `linear` (n, labels) or None; `embeddings` (m, width) of rows `at` (m,)."""

    linear: Array | None
    embeddings: Array
    at: Array

    def save(self, path: Path) -> None:
        """As npz, whole or not at all."""
        part = path.with_suffix(".part.npz")
        linear = {} if self.linear is None else {"linear": self.linear}
        np.savez(part, allow_pickle=False, embeddings=self.embeddings, at=self.at, **linear)
        os.replace(part, path)

    @staticmethod
    def load(path: Path) -> Beside:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as kept:
            linear = kept["linear"] if "linear" in kept.files else None
            return Beside(linear, kept["embeddings"], kept["at"])

    def __getitem__(self, rows: Array) -> Beside:
        """Of the rows that a mask (n,) selects."""
        number = np.cumsum(rows) - 1
        kept = rows[self.at]
        linear = None if self.linear is None else self.linear[rows]
        return Beside(linear, self.embeddings[kept], number[self.at[kept]])


class Onlooker:
    """Sees every window that `bundle` judges: hand it to `offline.evaluate.predict` as `look`.

    Has `linear` judge each of them, too, and notes where up to 1000 of them, drawn evenly and by
    `seed`, lie in the network.
    """

    def __init__(self, bundle: Bundle, linear: Linear | None = None, seed: int = 0) -> None:
        from engine.runtime_torch import load_network

        self._embedder = Embedder(load_network(bundle), read=bool(bundle.encoders))
        self._linear, self._rng = linear, np.random.default_rng(seed)
        self._verdicts: list[Array] = []
        self._kept: list[Array] = []
        self._at: list[int] = []
        self._n = 0

    def __call__(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> None:
        """One window, (1, ...) and (1, time) per input."""
        if self._linear is not None:
            self._verdicts.append(self._linear.probabilities(inputs, valid)[0])
        place = len(self._kept)  # a reservoir (Vitter 1985): each window as likely as any other
        if place == _MOST:
            place = int(self._rng.integers(self._n + 1))
        if place < _MOST:
            embedding = self._embedder(inputs, valid)[0]
            if place == len(self._kept):
                self._kept.append(embedding)
                self._at.append(self._n)
            else:
                self._kept[place], self._at[place] = embedding, self._n
        self._n += 1

    def noted(self) -> Beside:
        """All that was noted so far."""
        order = np.argsort(np.array(self._at, int))
        kept = np.array(self._kept)[order] if self._kept else np.zeros((0, 0))
        linear = np.array(self._verdicts) if self._linear is not None else None
        return Beside(linear, kept, np.array(self._at, int)[order])


def join(parts: Sequence[Beside]) -> Beside:
    """Beside the rows of all `parts`, one part after the other, which each have verdicts.

    Networks of different folds put windows in different places: the embeddings are the first
    part's.
    """
    linear = [part.linear for part in parts]
    known = [one for one in linear if one is not None]
    whole = np.concatenate(known) if len(known) == len(linear) else None
    return Beside(whole, parts[0].embeddings, parts[0].at)
