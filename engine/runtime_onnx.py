"""The CPU runtime: a bundle's graph in onnxruntime, one thread, the same bits in any batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from engine.errors import BundleError, InferenceError
from engine.types import Array

__all__ = ["OnnxRuntime", "open_graph"]

_MASK = ".valid"
_SUM_LIMIT = 1e-3  # how far the probabilities of a row may be from a sum of 1


class OnnxRuntime:
    """Runs `model` (a path, or the bytes) on batches padded to the sizes that are listed.

    Graph inputs are called like the bundle's inputs; where the graph wants a mask it is called
    `<input>.valid`. A row's bits do not depend on the batch, the slot or the padding around it.
    One thread that never spins: engines share their machine.
    """

    def __init__(self, model: Path | bytes, batch_sizes: Sequence[int] = (1,)) -> None:
        self._session = open_graph(model)
        self.batch_sizes = tuple(sorted(set(batch_sizes)))
        names = [i.name for i in self._session.get_inputs()]
        self.inputs = tuple(n for n in names if not n.endswith(_MASK))
        self._masks = tuple((n, n.removesuffix(_MASK)) for n in names if n.endswith(_MASK))
        self._output = [self._session.get_outputs()[0].name]

    @property
    def masked(self) -> tuple[str, ...]:
        """The inputs whose validity the graph reads."""
        return tuple(name for _, name in self._masks)

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        """(batch, ...) per input and (batch, time) masks -> (batch, labels) probabilities.

        A batch beyond the largest size is run in parts. Raises InferenceError if the graph fails
        or gives what is no probability.
        """
        feed = {name: inputs[name] for name in self.inputs}
        for mask, name in self._masks:
            feed[mask] = valid[name]
        n = len(feed[self.inputs[0]])
        if n in self.batch_sizes:  # the way of every tick
            return self._run(feed, n)
        largest = self.batch_sizes[-1]
        parts = [
            self._padded({k: a[i : i + largest] for k, a in feed.items()}, min(largest, n - i))
            for i in range(0, max(n, 1), largest)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _padded(self, feed: dict[str, Array], n: int) -> Array:
        """Run `n` rows, at most the largest size, with rows of zeros behind."""
        size = next(s for s in self.batch_sizes if s >= n)
        if size > n:
            feed = {name: _with_zeros(array, size) for name, array in feed.items()}
        return self._run(feed, n)

    def _run(self, feed: dict[str, Array], n: int) -> Array:
        try:
            out: Array = self._session.run(self._output, feed)[0]
        except Exception as error:  # onnxruntime raises its own, unexported classes
            raise InferenceError(f"the graph failed: {error}") from error
        out = out[:n]
        total = np.add.reduce(out, axis=None)  # one pass: NaN and infinity do not add up to n
        if not abs(total - n) <= _SUM_LIMIT * n:
            raise InferenceError(
                f"the graph gave what is no probability: the rows sum up to {total / max(n, 1):g}"
            )
        return out


def open_graph(model: Path | bytes) -> ort.InferenceSession:
    """`model`, a path or the bytes, on one thread that never spins; BundleError if it is none."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own, unexported classes
        name = "the graph" if isinstance(model, bytes) else model
        raise BundleError(f"{name}: onnxruntime cannot load it: {error}") from error


def _with_zeros(array: Array, size: int) -> Array:
    whole = np.zeros((size, *array.shape[1:]), array.dtype)
    whole[: len(array)] = array
    return whole
