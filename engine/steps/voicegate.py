"""The voice gate: marks the log-mel frames without speech invalid, strictly causally."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from engine.errors import ConfigError
from engine.steps.melspectrum import LOG_POWER
from engine.steps.pointwise import NO_NOTES
from engine.types import Array, Notes, StreamInfo

__all__ = ["VoiceGate"]

_MAX_FLOOR_S = 60.0
_NEVER = -(1 << 62)
_DB = 10.0 / math.log(10.0)  # of a power's natural logarithm


class VoiceGate:
    """Marks frames (time, n_mels) of `log_mel` invalid where nobody speaks; removes no time.

    The level of a frame is its mean power over the bands, in dB of full scale (a noise of -60
    dBFS has about -53 dB at the settings of log_mel). It counts as voice if it reaches all of
    `absolute_db`; `onset_db` above the noise floor, which is the lowest level of the last
    `floor_s`; and what is `range_db` below the running peak, which falls by `decay_db_s`. The
    noise floor is believed up to `loudest_floor_db`: who is louder than onset_db above that
    passes from the first frame on, also where a segment begins in the middle of a word. The gate
    stays open for `hangover_s`. An invalid frame stays invalid, opens nothing and moves neither
    floor nor peak. The frames pass unchanged; the notes hold `level_db` (time,).

    The floor is the minimum statistics of Martin (2001) without its smoothing: a mean over bands
    varies little by itself. The level's sums are float64 over contiguous rows, the rest is
    minima and maxima: the same bits for any cut.
    """

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(
        self,
        info: StreamInfo,
        *,
        absolute_db: float = -60.0,
        onset_db: float = 12.0,
        range_db: float = 40.0,
        hangover_s: float = 0.2,
        floor_s: float = 3.0,
        loudest_floor_db: float = -30.0,
        decay_db_s: float = 6.0,
    ) -> None:
        rate_hz = _rate_hz(info)
        for name, value in (("onset_db", onset_db), ("range_db", range_db)):
            if not 0 < value < math.inf:
                raise ConfigError(f"voice_gate: {name} must be above 0, not {value:g}")
        for name, value in (("hangover_s", hangover_s), ("decay_db_s", decay_db_s)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"voice_gate: {name} must be 0 or more, not {value:g}")
        if not 1 / rate_hz <= floor_s <= _MAX_FLOOR_S:
            raise ConfigError(
                f"voice_gate: floor_s must be {1 / rate_hz:g} to {_MAX_FLOOR_S:g}, not {floor_s:g}"
            )
        if not -math.inf < absolute_db <= loudest_floor_db + onset_db < math.inf:
            raise ConfigError(
                f"voice_gate: absolute_db {absolute_db:g} lies above the highest threshold of the "
                f"noise floor, {loudest_floor_db:g} + {onset_db:g} dB; lower it"
            )
        self.info = info
        self._absolute_db, self._onset_db, self._range_db = absolute_db, onset_db, range_db
        self._loudest_db = loudest_floor_db
        self._decay_db = decay_db_s / rate_hz  # per frame
        self._n_hangover = round(hangover_s * rate_hz)
        self._n_floor = round(floor_s * rate_hz)
        self.reset()

    def reset(self) -> None:
        """Begin a new segment: neither floor nor peak are known."""
        self._levels = np.full(self._n_floor - 1, math.inf)  # the last ones; inf where invalid
        self._n_in = 0
        self._peak_db = -math.inf  # as it would stand at the segment's first frame
        self._last_voice = _NEVER

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        if not len(x):
            return x, valid, NO_NOTES
        level_db = _level_db(x)
        at = np.arange(self._n_in, self._n_in + len(x))
        floor_db = self._floor_db(level_db, valid)
        peak_db = self._running_peak_db(level_db, valid, at)
        threshold_db = np.maximum(floor_db + self._onset_db, peak_db - self._range_db)
        voice = valid & (level_db >= np.maximum(threshold_db, self._absolute_db))
        last = np.maximum.accumulate(np.where(voice, at, _NEVER))
        last = np.maximum(last, self._last_voice)
        self._last_voice = int(last[-1])
        self._n_in += len(x)
        return x, valid & (at - last <= self._n_hangover), {"level_db": level_db}

    def _floor_db(self, level_db: Array, valid: Array) -> Array:
        """The lowest level up to each frame, (time,), as far as it is believed."""
        levels = np.concatenate((self._levels, np.where(valid, level_db, math.inf)))
        self._levels = levels[len(level_db) :]
        shape, step = (len(level_db), self._n_floor), levels.itemsize
        recent: Array = np.ndarray(shape, levels.dtype, levels, strides=(step, step))
        return np.asarray(np.minimum(recent.min(axis=1), self._loudest_db))

    def _running_peak_db(self, level_db: Array, valid: Array, at: Array) -> Array:
        """The highest level up to each frame, (time,), less what it has fallen since."""
        fallen_db = self._decay_db * at
        peak_db = np.maximum.accumulate(np.where(valid, level_db + fallen_db, -math.inf))
        peak_db = np.maximum(peak_db, self._peak_db)
        self._peak_db = float(peak_db[-1])
        return np.asarray(peak_db - fallen_db)


def _level_db(x: Array) -> Array:
    """The mean power over the bands of (time, n_mels) natural logarithms, in dB: (time,)."""
    rows = np.array(x, np.float64, order="C")
    highest = rows.max(axis=1)
    power = np.exp(rows - highest[:, None])  # at most 1: no frame is too loud for it
    mean = np.add.reduce(power, axis=1) / power.shape[1]
    return np.asarray(_DB * (highest + np.log(mean)))


def _rate_hz(info: StreamInfo) -> float:
    if info.rate_hz is None or info.unit != LOG_POWER or len(info.shape) != 1:
        raise ConfigError(
            f"voice_gate needs frames of log_mel, in {LOG_POWER!r}; those of stream "
            f"{info.name!r} are {info.unit!r} of shape {info.shape}: put log_mel before it"
        )
    return info.rate_hz
