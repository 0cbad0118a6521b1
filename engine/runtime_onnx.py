"""The CPU runtime: a bundle's graph in onnxruntime, one thread, the same bits in any batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from engine.errors import BundleError, InferenceError
from engine.types import Array

__all__ = ["OnnxRuntime"]


class OnnxRuntime:
    """Runs `model` (a path, or the bytes) on batches padded to the sizes that are listed.

    Graph inputs are called like the bundle's inputs; where the graph wants a mask it is called
    `<input>.valid`. Warm after construction: each size was run once.
    """

    def __init__(self, model: Path | bytes, batch_sizes: Sequence[int] = (1,)) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = ort.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own, unexported classes
            name = "the graph" if isinstance(model, bytes) else model
            raise BundleError(f"{name}: onnxruntime cannot load it: {error}") from error
        self._sizes = sorted(set(batch_sizes))
        self._names = [i.name for i in self._session.get_inputs()]
        self._output = [self._session.get_outputs()[0].name]

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        """(batch, ...) per input and (batch, time) masks -> (batch, labels) probabilities.

        Raises InferenceError if the graph fails or gives what is no probability.
        """
        feed = {n: valid[n[:-6]] if n.endswith(".valid") else inputs[n] for n in self._names}
        n = len(feed[self._names[0]])
        largest = self._sizes[-1]
        if n > largest:
            parts = [
                self._run({k: a[i : i + largest] for k, a in feed.items()})
                for i in range(0, n, largest)
            ]
            return np.concatenate(parts)
        return self._run(feed)

    def _run(self, feed: dict[str, Array]) -> Array:
        n = len(feed[self._names[0]])
        size = next(s for s in self._sizes if s >= n)
        if size > n:
            feed = {k: _padded(a, size) for k, a in feed.items()}
        try:
            out: Array = self._session.run(self._output, feed)[0]
        except Exception as error:  # onnxruntime raises its own, unexported classes
            raise InferenceError(f"the graph failed: {error}") from error
        out = out[:n]
        if not np.isfinite(out).all():
            raise InferenceError("the graph gave what is no probability")
        return out


def _padded(array: Array, size: int) -> Array:
    whole = np.zeros((size, *array.shape[1:]), array.dtype)
    whole[: len(array)] = array
    return whole
