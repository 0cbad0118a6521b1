"""A mirrored ring: the last items of a stream as one contiguous read-only view, never copied."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from engine.types import Array

__all__ = ["Ring"]


class Ring:
    """Keeps the last `capacity` items, each written twice so that every window is contiguous.

    Items are (time, *shape) with a validity (time,). Positions count all items ever pushed, from
    0, so a window is named by its end and stays valid while it is not overwritten.
    """

    __slots__ = ("_data", "_valid", "capacity", "n_pushed")

    def __init__(self, capacity: int, shape: tuple[int, ...], dtype: DTypeLike = np.float32):
        self.capacity = capacity
        self.n_pushed = 0
        self._data = np.zeros((2 * capacity, *shape), dtype)
        self._valid = np.zeros(2 * capacity, bool)

    def clear(self) -> None:
        """Forget all items."""
        self.n_pushed = 0

    def push(self, x: Array, valid: Array) -> None:
        """Append `x` (time, *shape) and `valid` (time,)."""
        n, size = len(x), self.capacity
        if n > size:
            self.n_pushed += n - size
            x, valid, n = x[-size:], valid[-size:], size
        at = self.n_pushed % size
        head = min(n, size - at)
        if head == n:
            self._data[at : at + n] = x
            self._data[at + size : at + size + n] = x
            self._valid[at : at + n] = valid
            self._valid[at + size : at + size + n] = valid
        else:
            self._data[at : at + n] = x  # runs on into the mirror, where it is right as well
            self._data[at + size :] = x[:head]
            self._data[: n - head] = x[head:]
            self._valid[at : at + n] = valid
            self._valid[at + size :] = valid[:head]
            self._valid[: n - head] = valid[head:]
        self.n_pushed += n

    def window(self, n: int, end: int) -> tuple[Array, Array]:
        """The `n` items before position `end`, as read-only views (n, *shape) and (n,)."""
        assert self.n_pushed - self.capacity <= end - n, "the window was overwritten"
        assert 0 <= end - n <= end <= self.n_pushed, "the window was never pushed"
        at = (end - n) % self.capacity
        data, valid = self._data[at : at + n], self._valid[at : at + n]
        data.flags.writeable = False
        valid.flags.writeable = False
        return data, valid
