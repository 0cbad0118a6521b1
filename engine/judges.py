"""What is wrong with half a second of a signal, or with one picture: severities, fault by fault.

Flat, railed and swinging channels, mains hum, clipped or silent sound, blurred or badly lit faces.
A judge sees blocks of a fixed length that begin at fixed items, so what it says does not depend on
how the stream was cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from engine.types import Array, StreamInfo

__all__ = ["Judge", "judge_of"]

Judged: TypeAlias = tuple[Array, float]  # severities (faults, channels), each 0 to 1; the weight

DROPOUT = "dropout"
_MICROVOLTS = {"uV": 1.0, "mV": 1e3, "V": 1e6}
_EEG_BLOCK_S, _VOICE_BLOCK_S, _FAST_BLOCK_S, _SLOW_BLOCK_S = 0.5, 0.5, 1.0, 5.0
_FAST_HZ = 32.0
_MAINS_HZ = (50.0, 60.0)
_HUM = (0.5, 0.9)  # of a channel's power
_HUM_MOST = 0.6  # hum is filtered away later: it alone never makes a modality count as missing
_STUCK = (0.02, 0.2)  # the share of items that stand still at the rail
_EEG_FLAT_UV = 0.5  # peak to peak; the quietest scalp has ten times that
_EEG_SWING_UV = (400.0, 1500.0)  # peak to peak in half a second; blinks stay below
_EEG_RAIL_UV = 500.0  # what stands still out here stands at the amplifier's rail
_ELECTRODES_OFF_US = 0.02  # Boucsein 2012: the skin conducts 0.05 uS at the very least
_CLIPPED, _CLIPS = 0.985, (0.005, 0.05)  # of full scale; the share of samples up there
_SILENT = 1e-4  # of full scale: three steps of a 16-bit converter, below any microphone's noise
_SHARP = (0.02, 0.005)  # variance of the Laplacian over variance; see `_face`
_BRIGHT, _DARK = (200.0, 235.0), (45.0, 15.0)  # mean grey level
_LEAST_CONTRAST = (12.0, 4.0)  # standard deviation of the grey levels
_SIDE_PX = 48  # pictures are looked at about this large, as crops are


@dataclass(frozen=True, slots=True)
class Judge:
    """How a kind of stream is judged: `look` at blocks of `n_items`, (n_items, *item) and the
    validity (n_items,). `faults` names the rows of the severities. A fault stands while the mean
    severity of the last `recent_s` (None: of the whole window) is one half or more. Blocks of
    weight 0 count only where there are no others."""

    n_items: int
    faults: tuple[str, ...]
    channels: tuple[str, ...]
    look: Callable[[Array, Array], Judged]
    recent_s: float | None


def judge_of(info: StreamInfo) -> Judge | None:
    """The judge of a stream's items as `info` describes them; None for derived numbers."""
    if info.kind == "face":
        if info.unit not in ("crop", "level"):
            return None
        return Judge(1, ("blur", "exposure"), ("face",), _face, None)
    if info.rate_hz is None or len(info.shape) != 1:
        return None
    if info.kind == "voice" and info.unit == "fs":
        n = max(1, round(_VOICE_BLOCK_S * info.rate_hz))
        return Judge(n, ("clipped", "silent", DROPOUT), info.channels, _voice, None)
    if info.unit in _MICROVOLTS:
        return _volts(info, info.rate_hz, _MICROVOLTS[info.unit])
    return _other(info, info.rate_hz) if info.kind == "physio" else None


def _volts(info: StreamInfo, rate_hz: float, factor: float) -> Judge:
    """EEG, and other voltages without EEG's limits of amplitude."""
    n = max(3, round(_EEG_BLOCK_S * rate_hz))
    eeg, hum = info.kind == "eeg", _Hum(n, rate_hz)
    limits = np.array([_STUCK, _EEG_SWING_UV if eeg else (0.0, np.inf), _HUM])[:, :, None]
    good, gain = limits[:, 0], 1.0 / np.diff(limits, axis=1)[:, 0]

    def look(items: Array, valid: Array) -> Judged:
        x = np.multiply(items.T, np.float32(factor), order="C")
        low, high = x.min(axis=1), x.max(axis=1)
        swing = high - low
        still = swing <= _EEG_FLAT_UV
        levels = np.array((_stuck(x, low, high), swing, hum(x)), np.float64)
        levels = np.minimum(np.maximum((levels - good) * gain, 0.0), 1.0)
        levels[2] *= _HUM_MOST
        if still.any():
            far = eeg & still & (np.abs(low) >= _EEG_RAIL_UV)
            levels[0, still], levels[2, still] = far[still], 0.0
            still = still & ~far
        return _judged((still, *levels), valid)

    faults = ("flat", "railed", "amplitude", "line noise", DROPOUT)
    return Judge(n, faults, info.channels, look, 2 * _EEG_BLOCK_S)


def _other(info: StreamInfo, rate_hz: float) -> Judge:
    """Pulse, skin conductance, temperature, motion: what stands still, at the rail or at nothing.

    A temperature and a wrist at rest may stand still; skin without current has lost its electrodes.
    """
    block_s = _FAST_BLOCK_S if rate_hz >= _FAST_HZ else _SLOW_BLOCK_S
    n = max(3, round(block_s * rate_hz))
    may_rest, skin = info.unit in ("degC", "g"), info.unit == "uS"

    def look(items: Array, valid: Array) -> Judged:
        x = items.T.astype(np.float64, order="C")
        low, high = x.min(axis=1), x.max(axis=1)
        still = (low == high) & (not may_rest)
        railed = np.where(low == high, 0.0, _ramp(_stuck(x, low, high), *_STUCK))
        railed = np.zeros_like(low) if rate_hz < _FAST_HZ or may_rest else railed
        off = (high < _ELECTRODES_OFF_US) & skin
        return _judged((still, railed, off), valid)

    return Judge(n, ("flat", "railed", "amplitude", DROPOUT), info.channels, look, 2 * block_s)


class _Hum:
    """The share of a channel's power that is mains hum: (channels, time) to (channels,).

    A sine's power by its one Fourier coefficient under a Hann window, over the windowed power of
    what is left of the block without its mean and trend; the larger of 50 and 60 Hz.
    """

    def __init__(self, n: int, rate_hz: float) -> None:
        window = np.hanning(n + 1)[:n]
        line = np.stack([np.full(n, n**-0.5), np.linspace(-1.0, 1.0, n)])  # mean and trend
        line[1] /= np.linalg.norm(line[1])
        self._line = line.astype(np.float32)
        turns = [f / rate_hz for f in _MAINS_HZ if f < 0.48 * rate_hz]
        angles = 2 * np.pi * np.outer(turns, np.arange(n)) if turns else np.zeros((0, n))
        waves = np.concatenate([np.cos(angles), np.sin(angles)])  # (2 * lines, time)
        self._waves = (waves * window / window.sum()).T.astype(np.float32)
        self._weights = (window / window.sum()).astype(np.float32)

    def __call__(self, x: Array) -> Array:
        if not self._waves.size:
            return np.zeros(len(x))
        x = x - x[:, :1]  # small numbers, whatever the electrodes' offset
        x -= (x @ self._line.T) @ self._line
        power = np.square(x) @ self._weights
        found = np.square(x @ self._waves).reshape(len(x), 2, -1)
        line = 2.0 * found.sum(axis=1).max(axis=1)
        share: Array = line / np.maximum(power, 1e-12)
        return share


def _voice(x: Array, valid: Array) -> Judged:
    """Clipping and level; silence counts only where there is nothing else."""
    size = np.abs(x)
    clipped = np.count_nonzero(size >= _CLIPPED, axis=0) / len(x)
    silent = size.max(axis=0) < _SILENT
    weight = 0.0 if silent.all() else 1.0
    return _judged((_ramp(clipped, *_CLIPS), silent), valid)[0], weight


def _face(x: Array, valid: Array) -> Judged:
    """How blurred and how badly lit one picture (1, height, width, colours) is.

    Blur: the variance of the Laplacian (Pech-Pacheco and others 2000), here over that of the
    picture, so that a dim face is not taken for a blurred one.
    """
    severities = np.zeros((2, 1))
    if not valid[0]:  # no face: others say so
        return severities, 0.0
    picture = np.asarray(x[0], np.float64)
    step = max(1, min(picture.shape[:2]) // _SIDE_PX)
    grey = picture[::step, ::step].mean(axis=2)
    inner = grey[1:-1, 1:-1]
    if inner.size == 0:
        return severities, 0.0
    around = grey[2:, 1:-1] + grey[:-2, 1:-1] + grey[1:-1, 2:] + grey[1:-1, :-2]
    variance = float(grey.var())
    sharp = float((around - 4.0 * inner).var()) / max(variance, 1.0)
    level, contrast = float(grey.mean()), float(np.sqrt(variance))
    severities[0] = _ramp(sharp, *_SHARP)
    lit = (_ramp(level, *_BRIGHT), _ramp(level, *_DARK), _ramp(contrast, *_LEAST_CONTRAST))
    severities[1] = max(float(bad) for bad in lit)
    return severities, 1.0


def _judged(found: tuple[Array, ...], valid: Array) -> Judged:
    """The severities with that of dropout below them; what was mostly lost is not judged else."""
    severities = np.empty((len(found) + 1, len(found[0])))
    severities[-1] = lost = 1.0 - np.count_nonzero(valid) / len(valid)
    severities[:-1] = found if lost < 0.5 else 0.0
    return severities, 1.0


def _stuck(x: Array, low: Array, high: Array) -> Array:
    """The share of items (channels,) that repeat the two before them at the block's extreme."""
    same = x[:, 1:] == x[:, :-1]
    if not same.any():
        return np.zeros(len(x))
    last, low, high = x[:, 2:], low[:, None], high[:, None]
    there = same[:, 1:] & same[:, :-1] & ((last == low) | (last == high))
    share: Array = np.count_nonzero(there, axis=1) / x.shape[1]
    return share


def _ramp(value: Array | float, good: float, bad: float) -> Array:
    """0 at `good`, 1 at `bad`, linear between, constant beyond."""
    ramp: Array = np.clip((np.asarray(value, np.float64) - good) / (bad - good), 0.0, 1.0)
    return ramp
