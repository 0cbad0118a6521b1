"""A window of pictures as one small grey picture."""

from __future__ import annotations

import numpy as np

from engine.errors import ConfigError
from engine.types import Array, StreamInfo

__all__ = ["Picture"]


class Picture:
    """The mean of the valid pictures, grey, in `size` x `size` squares, less its own mean.

    Levels are divided by their standard deviation over the squares, so that light and contrast
    do not count. A window without a valid picture is all 0.
    """

    def __init__(self, info: StreamInfo, n_items: int, *, size: int = 16) -> None:
        height, width = info.shape[:2] if len(info.shape) == 3 else (0, 0)
        if not height or height % size or width % size:
            raise ConfigError(
                f"picture: {size} x {size} squares do not fit items of the shape {info.shape}"
            )
        self._size, self._blocks = size, (height // size, width // size)
        self.names = tuple(f"square.{y}.{x}" for y in range(size) for x in range(size))

    def __call__(self, window: Array, valid: Array) -> Array:
        """(n_items, height, width, 3), (n_items,) -> (size * size,)."""
        n, (tall, wide) = self._size, self._blocks
        if not valid.any():
            return np.zeros(n * n, np.float32)
        grey = np.add.reduce(window[valid].astype(np.float64), axis=(0, 3))
        squares = np.add.reduce(grey.reshape(n, tall, n, wide), axis=(1, 3))
        squares -= squares.mean()
        spread = squares.std()
        scaled: Array = squares / spread if spread > 0 else squares
        return scaled.astype(np.float32).ravel()
