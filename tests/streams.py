"""Device streams for tests: what a device may do to its chunks, and every way to cut them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.types import Chunk, StreamInfo


def info(rate_hz: float = 128.0, n_channels: int = 3, name: str = "eeg") -> StreamInfo:
    """A small EEG stream's description."""
    channels = tuple(f"C{i}" for i in range(n_channels))
    return StreamInfo(name, "eeg", rate_hz, channels, "uV", (n_channels,))


def device(
    rng: np.random.Generator,
    n_items: int = 2000,
    rate_hz: float = 128.0,
    *,
    faults: Sequence[str] = (),
    first: int = 0,
    n_channels: int = 3,
    stream: str = "eeg",
    start_s: float = 0.0,
) -> list[Chunk]:
    """Chunks as a device with `faults` would send them, stamped on each chunk's first item."""
    drift = 1 + (4e-4 if "drift" in faults else 0)
    chunks, at, shift_s, segment = [], first, start_s, 0
    end = first + n_items
    while at < end:
        n = min(int(rng.integers(1, 40)), end - at)
        jitter = rng.uniform(0, 0.3) if "jitter" in faults else 0.0
        if "jump" in faults and rng.random() < 0.02:
            shift_s += float(rng.choice([-15.0, 2.5, 10.0, 2e5]))
        if "lost" in faults and rng.random() < 0.02:  # its stamps are on the engine's clock again
            segment, shift_s = segment + 1, min(shift_s, 60.0) + 1.5
        stamp = (at, (at - first) / rate_hz * drift + shift_s + jitter)
        data = rng.normal(size=(n, n_channels)).astype(np.float32)
        if "nan" in faults and rng.random() < 0.1:
            data[rng.integers(0, n) :, int(rng.integers(n_channels))] = rng.choice(
                [np.nan, np.inf, -np.inf]
            )
        chunks.append(Chunk(stream, segment, at, (stamp,), data))
        at += n
        if "gap" in faults and rng.random() < 0.05:
            at += int(rng.integers(1, 30))
    return disorder(rng, chunks, faults)


def disorder(rng: np.random.Generator, chunks: list[Chunk], faults: Sequence[str]) -> list[Chunk]:
    """Send some chunks twice, and some in the wrong order."""
    out = list(chunks)
    if "duplicate" in faults:
        for i in sorted(rng.integers(0, len(out), len(out) // 10), reverse=True):
            out.insert(min(len(out), int(i) + int(rng.integers(1, 3))), out[int(i)])
    if "reorder" in faults:
        for i in rng.integers(0, len(out) - 2, len(out) // 10):
            out[int(i)], out[int(i) + 1] = out[int(i) + 1], out[int(i)]
    return out


def recut(chunks: Sequence[Chunk], size: int | np.random.Generator) -> list[Chunk]:
    """The same items in the same order, cut otherwise: to `size`, or at random.

    Neighbours that continue each other are joined first, so pieces may also grow.
    """
    joined: list[Chunk] = []
    for chunk in chunks:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.stream == chunk.stream
            and last.segment == chunk.segment
            and last.first_index + len(last) == chunk.first_index
            and last.data.shape[1:] == chunk.data.shape[1:]
        ):
            joined[-1] = Chunk(
                chunk.stream, chunk.segment, last.first_index, last.stamps + chunk.stamps,
                np.concatenate([last.data, chunk.data]), last.truth + chunk.truth,
            )  # fmt: skip
        else:
            joined.append(chunk)
    out: list[Chunk] = []
    for rest in joined:
        while True:
            n = size if isinstance(size, int) else int(size.integers(1, 600))
            if n >= len(rest):
                break
            head, rest = rest.cut(n)
            out.append(head)
        out.append(rest)
    return out
