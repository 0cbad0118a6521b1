"""Reads acted clips as simply as can be: a few numbers per clip, and a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from engine.types import Array
from offline.datasets import LabelledRecording
from offline.readers import open_labelled

__all__ = ["recall", "seen", "sounds"]

_FRAME_S = 0.025
_LOW_HZ, _HIGH_HZ = 70, 450  # of a voice


def sounds(recording: LabelledRecording) -> Array:
    """Loudness, pitch, its range, pace and the slope of the spectrum of a clip."""
    (stream,) = [s for s in open_labelled(recording).streams if s.info.kind == "voice"]
    rate_hz = round(stream.info.rate_hz or 0)
    x = stream.read(0, stream.n_items).mean(axis=1)
    frames = x[: len(x) // round(_FRAME_S * rate_hz) * round(_FRAME_S * rate_hz)]
    frames = frames.reshape(-1, round(_FRAME_S * rate_hz))
    power = np.mean(frames**2, axis=1) + 1e-7
    loud = frames[power > 0.1 * np.quantile(power, 0.9)]
    spectrum = np.abs(np.fft.rfft(loud, 4 * loud.shape[1], axis=1)) ** 2
    again = np.fft.irfft(spectrum, axis=1)
    lags = slice(rate_hz // _HIGH_HZ, rate_hz // _LOW_HZ)
    pitch = np.log(rate_hz / (again[:, lags].argmax(axis=1) + lags.start))
    hz = np.fft.rfftfreq(4 * loud.shape[1], 1 / rate_hz)
    edges = (100, 300, 600, 1000, 1600, 2400, 3400, 5000, 7500)
    bands = [np.log(spectrum[:, (hz >= a) & (hz < b)].mean() + 1e-9) for a, b in pairwise(edges)]
    envelope = np.log(power)
    return np.array(
        [
            envelope.mean(), np.quantile(envelope, 0.9), np.abs(np.diff(envelope)).mean(),
            np.median(pitch), pitch.std(), np.quantile(pitch, 0.9), len(loud) / len(frames), *bands,
        ]
    )  # fmt: skip


def seen(recording: LabelledRecording) -> Array:
    """The mean picture of a film, small and grey."""
    import cv2

    (stream,) = [s for s in open_labelled(recording).streams if s.info.kind == "face"]
    picture = stream.read(0, stream.n_items).mean(axis=(0, 3)).astype(np.float32)
    head = picture[:, picture.shape[1] // 5 : -picture.shape[1] // 5]
    small = cv2.resize(head, (24, 30), interpolation=cv2.INTER_AREA)
    small = small - cv2.GaussianBlur(small, (0, 0), 4.0)
    return np.asarray(small.ravel() / small.std())


def recall(
    x: Array, labels: Sequence[str], subjects: Sequence[str], truth: Sequence[str] | None = None
) -> float:
    """The mean recall of speakers never heard, in two halves; of `truth` where it is given."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y, asked = np.array(labels), np.array(labels if truth is None else truth)
    known = sorted(set(subjects))
    half = np.isin(subjects, known[::2])
    said = np.empty_like(y)
    for test in (half, ~half):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
        said[test] = model.fit(x[~test], y[~test]).predict(x[test])
    return float(balanced_accuracy_score(asked, said))
