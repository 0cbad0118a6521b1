"""The voice gate by Silero's network: marks samples without speech invalid, strictly causally."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import BundleError, ConfigError, ResourceError
from engine.runtime_onnx import open_graph
from engine.steps.pointwise import NO_NOTES
from engine.types import Array, Notes, StreamInfo

__all__ = ["SileroGate"]

# What the graph of Silero VAD, version 5 and later, reads at 16 kHz (its utils_vad.py).
_RATE_HZ = 16000
_BLOCK, _CONTEXT = 512, 64  # samples judged, samples before them that are looked at again
_STATE = (2, 1, 128)
_INPUTS = {"input", "state", "sr"}
_STAYS = 0.15  # how far below the threshold an open gate stays open
_NEVER = -1


class SileroGate:
    """Marks samples (time, 1) at 16 kHz invalid where nobody speaks; removes no time.

    Stands before `log_mel`, in place of `voice_gate`: frames that touch an invalid sample are
    invalid. `model` is the path of Silero VAD's ONNX file, which is not part of vagus; with
    `sha256` no other file than that will do. The network judges block after block of 512 samples,
    and its verdict holds from the last sample of a block until that of the next: a sample depends
    on whole blocks up to it and on nothing behind. A block is voice from the probability
    `threshold` on, and 0.15 below it after one that was. The gate stays open for `hangover_s`. A
    block with an invalid sample is heard as silence there, and is no voice. Samples pass unchanged.

    Each block is run by itself with the state that the one before left: the same bits for any cut.
    """

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(
        self,
        info: StreamInfo,
        *,
        model: str,
        sha256: str | None = None,
        threshold: float = 0.5,
        hangover_s: float = 0.2,
    ) -> None:
        if info.rate_hz != _RATE_HZ or info.shape != (1,):
            raise ConfigError(
                f"silero_gate needs samples of one channel at {_RATE_HZ} Hz; those of stream "
                f"{info.name!r} have the shape {info.shape} at {info.rate_hz or 0:g} Hz: put it "
                "before log_mel, in an input of 16 kHz"
            )
        if not 0 < threshold < 1:
            raise ConfigError(f"silero_gate: threshold must be above 0, below 1, not {threshold:g}")
        if not 0 <= hangover_s < math.inf:
            raise ConfigError(f"silero_gate: hangover_s must be 0 or more, not {hangover_s:g}")
        self.info = info
        self._graph = _graph(model, sha256)
        self._threshold = threshold
        self._n_hangover = round(hangover_s * _RATE_HZ)
        self.reset()

    def reset(self) -> None:
        """Begin a new segment: silence came before it."""
        self._heard = np.zeros((1, _CONTEXT + _BLOCK), np.float32)  # the block that is being filled
        self._state = np.zeros(_STATE, np.float32)
        self._n_in = self._n_heard = 0  # items of the segment, of the block
        self._whole = True  # no invalid item in the block so far
        self._voice = False  # the last block was
        self._open_until = _NEVER  # the last item for which the gate is open

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        marks = np.zeros(len(x), bool)
        at = 0
        while at < len(x):
            n = min(_BLOCK - self._n_heard, len(x) - at)
            self._hear(x[at : at + n, 0], valid[at : at + n])
            marks[at : at + n] = np.arange(self._n_in, self._n_in + n) <= self._open_until
            self._n_in += n
            at += n
            if self._n_heard == _BLOCK:
                self._judge()
                marks[at - 1] = self._n_in - 1 <= self._open_until
        return x, valid & marks, NO_NOTES

    def _hear(self, x: Array, valid: Array) -> None:
        first = _CONTEXT + self._n_heard
        self._heard[0, first : first + len(x)] = np.where(valid, x, np.float32(0.0))
        self._whole = self._whole and bool(valid.all())
        self._n_heard += len(x)

    def _judge(self) -> None:
        """The verdict on the block that is full, from its last item on."""
        feed = {"input": self._heard, "state": self._state, "sr": np.array(_RATE_HZ, np.int64)}
        probability, self._state = self._graph.run(None, feed)
        least = self._threshold - (_STAYS if self._voice else 0.0)
        self._voice = self._whole and float(probability[0, 0]) >= least
        if self._voice:
            self._open_until = self._n_in - 1 + _BLOCK - 1 + self._n_hangover
        self._heard[0, :_CONTEXT] = self._heard[0, -_CONTEXT:]
        self._n_heard, self._whole = 0, True


def _graph(model: str, sha256: str | None) -> Any:
    """The network of the file `model`, checked to be what it should be."""
    path = Path(model).expanduser()
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise ResourceError(
            f"silero_gate: {model}: {error.strerror}; the key `model` wants the path of Silero "
            "VAD's ONNX file (silero_vad.onnx of the GitHub project snakers4/silero-vad, 2 MB, "
            "MIT): put it there, or use the step voice_gate behind log_mel, which needs no file"
        ) from error
    found = hashlib.sha256(contents).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise ResourceError(
            f"silero_gate: {path}: its SHA-256 is {found}; the bundle was made with {sha256}"
        )
    return _opened(str(path), contents)


@lru_cache(maxsize=4)
def _opened(path: str, contents: bytes) -> Any:
    """One graph for all gates of a process: what it remembers is handed in with each block."""
    try:
        graph = open_graph(contents)
    except BundleError as error:
        raise ResourceError(f"silero_gate: {path}: {error}") from error
    names = {i.name for i in graph.get_inputs()}
    if names != _INPUTS:
        raise ResourceError(
            f"silero_gate: {path}: reads {', '.join(sorted(names))}; Silero VAD from version 5 on "
            f"reads {', '.join(sorted(_INPUTS))}"
        )
    return graph
