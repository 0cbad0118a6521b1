"""Where windows lie in a network: its last layer's input, and pictures of it in two dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.types import Array
from offline.baselines import window_statistics

__all__ = ["Embedder", "neighbours", "principal"]

_SD_FLOOR = 1e-6
_LEAST = 5  # points that t-SNE is tried with


class Embedder:
    """Gives what a network's last layer reads; where no layer is the last, window statistics.

    With `read`, the network's `read` is run on windows of embeddings, as it is served behind an
    encoder of frames.
    """

    def __init__(self, network: nn.Module, *, read: bool = False) -> None:
        self._network, self._read = network.eval(), read

    def __call__(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        """(rows, ...) and (rows, time) per input -> (rows, width)."""
        seen: list[tuple[Tensor, Tensor]] = []

        def note(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            if given and isinstance(given[0], Tensor) and isinstance(made, Tensor):
                seen.append((given[0], made))

        leaves = [m for m in self._network.modules() if not any(True for _ in m.children())]
        hooks = [module.register_forward_hook(note) for module in leaves]
        try:
            logits = self._logits(inputs, valid)
        finally:
            for hook in hooks:
                hook.remove()
        found = [given for given, made in seen if made is logits and given.dim() == 2]
        return found[-1].numpy() if found else window_statistics(inputs, valid)

    @torch.inference_mode()
    def _logits(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Tensor:
        x = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in inputs.items()}
        mask = {name: torch.from_numpy(np.array(array)) for name, array in valid.items()}
        network: Any = self._network
        if self._read:
            ((name, embeddings),) = x.items()
            logits: Tensor = network.read(embeddings, mask[name])
        else:
            logits = network(x, mask)
        return logits


def principal(x: Array) -> tuple[Array, Array]:
    """The first two principal components (rows, 2) of standardised (rows, width), and the share of
    the variance (2,) that they hold."""
    z = _standardised(x)
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    n = min(2, len(s))
    points, shares = np.zeros((len(x), 2)), np.zeros(2)
    points[:, :n] = u[:, :n] * s[:n]
    shares[:n] = s[:n] ** 2 / max(float((s**2).sum()), _SD_FLOOR)
    # a component's sign means nothing: the same picture from every library
    sign = np.sign(points[np.abs(points).argmax(0), [0, 1]])
    return points * np.where(sign == 0, 1, sign), shares


def neighbours(x: Array, seed: int = 0) -> Array | None:
    """t-SNE (van der Maaten and Hinton 2008) of (rows, width) to (rows, 2); None for a handful."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(x) < _LEAST:
        return None
    z = _standardised(x)
    if min(z.shape) > 50:
        z = PCA(50, random_state=seed).fit_transform(z)
    perplexity = min(30.0, (len(z) - 1) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own advice on defaults to come
        made: Array = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(z)
    return made


def _standardised(x: Array) -> Array:
    z = np.asarray(x, np.float64)
    made: Array = (z - z.mean(0)) / np.maximum(z.std(0), _SD_FLOOR)
    return made
