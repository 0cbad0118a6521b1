"""Log-mel frames computed once each, against librosa recomputing every window."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.result import Result, interleave, versions
from engine.steps.melspectrum import LogMel
from engine.types import Array, StreamInfo

__all__ = ["mel"]

RATE_HZ, HOP_S, WINDOW_S, N_MELS = 16000, 0.01, 3.0, 64
SECONDS = 5.0


def mel(n_repeats: int = 7) -> Result:
    """CPU per second of a voice whose 3 s window moves on by 10 ms at a time.

    Ours computes the one new frame of each hop. librosa, asked for the same bands of the window,
    computes all 298 again; it is timed on every 25th window and counted 25 times.
    """
    x = np.random.default_rng(0).normal(0, 0.1, int((WINDOW_S + SECONDS) * RATE_HZ))
    voice = x.astype(np.float32)
    runs = {"ours": lambda: _ours(voice), "librosa, every window": lambda: _librosa(voice)}
    found = interleave(runs, n_repeats)
    mine = found.pop("ours")
    details: dict[str, Any] = {"window_s": WINDOW_S, "hop_s": HOP_S, "bands": N_MELS}
    known = versions("vagus", "numpy", "scipy", "librosa")
    return Result("mel", "ms CPU per second of audio", mine, found, known, details)


def _ours(voice: Array) -> float:
    info = StreamInfo("voice", "voice", float(RATE_HZ), ("mono",), "fs", (1,))
    step = LogMel(info, n_mels=N_MELS, hop_s=HOP_S)
    hop, start = int(HOP_S * RATE_HZ), int(WINDOW_S * RATE_HZ)
    valid = np.ones(hop, bool)
    step(voice[:start, None], np.ones(start, bool))
    begin_s = time.process_time()
    for at in range(start, len(voice), hop):
        step(voice[at : at + hop, None], valid)
    return 1e3 * (time.process_time() - begin_s) / SECONDS


def _librosa(voice: Array, every: int = 25) -> float:
    import librosa

    hop, start = int(HOP_S * RATE_HZ), int(WINDOW_S * RATE_HZ)
    begin_s = time.process_time()
    for at in range(start, len(voice), hop * every):
        power = librosa.feature.melspectrogram(
            y=voice[at - start : at], sr=RATE_HZ, n_fft=400, hop_length=hop, center=False,
            n_mels=N_MELS, fmin=50,
        )  # fmt: skip
        np.log(power + 1e-10)
    return 1e3 * every * (time.process_time() - begin_s) / SECONDS
