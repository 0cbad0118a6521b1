"""A bundle's frame encoder: every frame goes through its graph once, alone, on the way to the ring.

A window moves on by a few frames at a time; what was encoded before is not encoded again.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from engine.errors import BundleError, InferenceError
from engine.runtime_onnx import open_graph
from engine.types import Array, Notes, StreamInfo

__all__ = ["Encode", "FrameEncoder"]

_ALIGNED = 64  # bytes: a runtime's sums depend on where in a cache line its input begins
_NO_NOTES: Notes = MappingProxyType({})


class FrameEncoder:
    """A graph of frames (n, *shape) float32 to embeddings (n, width), run frame by frame.

    Alone, from one place in memory, a frame's bits cannot depend on its neighbours; in batches
    they may, from one kernel to another. Raises BundleError where the graph is of another form.
    """

    def __init__(self, model: bytes, width: int) -> None:
        self._session = open_graph(model)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleError("an encoder reads frames alone and gives embeddings alone")
        self._input, self._output = inputs[0].name, [outputs[0].name]
        self.shape = tuple(inputs[0].shape[1:])  # of a frame
        if not all(isinstance(size, int) for size in self.shape):
            raise BundleError(f"an encoder's frames are of one size, not {self.shape}")
        if tuple(outputs[0].shape[1:]) != (width,):
            raise BundleError(
                f"the encoder gives embeddings of {outputs[0].shape[1:]}; the bundle says {width}"
            )
        self.width = width
        self._frame = _aligned((1, *self.shape))

    def __call__(self, frames: Array, valid: Array) -> Array:
        """(n, *shape), (n,) -> (n, width) float32, zero where not valid."""
        found = np.zeros((len(frames), self.width), np.float32)
        for i in np.flatnonzero(valid):
            self._frame[0] = frames[i]
            try:
                found[i] = self._session.run(self._output, {self._input: self._frame})[0][0]
            except Exception as error:  # onnxruntime raises its own, unexported classes
                raise InferenceError(f"the encoder failed: {error}") from error
        return found

    def windows(self, windows: Array, valid: Array) -> Array:
        """(rows, time, *shape), (rows, time) -> (rows, time, width)."""
        n, n_items = valid.shape
        found = self(windows.reshape(n * n_items, *self.shape), valid.ravel())
        return found.reshape(n, n_items, self.width)


class Encode:
    """The step that a frame encoder is in a chain: (time, *shape) to (time, width)."""

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(self, info: StreamInfo, encoder: FrameEncoder) -> None:
        if info.shape != encoder.shape:
            raise BundleError(
                f"the encoder reads frames of the shape {encoder.shape}; those of stream "
                f"{info.name!r} have {info.shape}"
            )
        names = tuple(f"embedding.{i}" for i in range(encoder.width))
        self.info = replace(info, channels=names, unit="embedding", shape=(encoder.width,))
        self._encoder = encoder

    def reset(self) -> None:
        """Nothing is remembered."""

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        return self._encoder(x, valid), valid, _NO_NOTES


def _aligned(shape: tuple[int, ...]) -> Array:
    n_bytes = 4 * int(np.prod(shape))
    room = np.zeros(n_bytes + _ALIGNED, np.uint8)
    start = -room.ctypes.data % _ALIGNED
    return room[start : start + n_bytes].view(np.float32).reshape(shape)
