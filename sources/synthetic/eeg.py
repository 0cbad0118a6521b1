"""EEG of a simulated person: rhythms that follow a known state, in noise and artefacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.signal import sosfilt, tf2sos

from engine.types import Array
from sources.participant import LatentState
from sources.synthetic.blocks import blocks, checked_hz
from sources.synthetic.cue import Cue
from sources.synthetic.montage import CHANNELS, spread

__all__ = ["CUES", "SyntheticEeg"]

_STREAM = 0xEE6  # keeps these draws apart from the person's others
_LINE_HZ = 50.0
_BLINKS_PER_BLOCK = 0.25
_BLINK_S = 0.3
_N_PINK = 12

# A rhythm's place (right, forward, reach), its band, and how its log amplitude follows the state.
_VALENCE_SIDE, _AROUSAL_ALPHA, _AROUSAL_BETA, _AROUSAL_THETA = 1.15, -0.7, 0.9, 0.6


@dataclass(frozen=True, slots=True)
class _Rhythm:
    """A source of narrow-band activity: amplitude x exp(valence x v + arousal x a)."""

    band: str
    right: float
    forward: float
    reach: float
    amplitude_uv: float
    valence: float  # v, a: the state's distance from the middle, -0.5 to 0.5
    arousal: float


_RHYTHMS = (
    # Approach lowers frontal alpha on the left, withdrawal on the right (Davidson 1992).
    _Rhythm("alpha", -0.45, 0.55, 0.35, 5.0, -_VALENCE_SIDE, _AROUSAL_ALPHA),
    _Rhythm("alpha", 0.45, 0.55, 0.35, 5.0, _VALENCE_SIDE, _AROUSAL_ALPHA),
    _Rhythm("alpha", -0.35, -0.8, 0.45, 9.0, 0.0, _AROUSAL_ALPHA),
    _Rhythm("alpha", 0.35, -0.8, 0.45, 9.0, 0.0, _AROUSAL_ALPHA),
    _Rhythm("theta", 0.0, 0.5, 0.4, 5.0, 0.0, _AROUSAL_THETA),
    _Rhythm("beta", -0.6, 0.2, 0.45, 2.5, 0.0, _AROUSAL_BETA),
    _Rhythm("beta", 0.6, 0.2, 0.45, 2.5, 0.0, _AROUSAL_BETA),
)
_OWN_SD, _BAND_SD = 0.12, 0.25  # of a person's log gains: each rhythm's, and what a band shares
_CENTRE_HZ = {"theta": 6.0, "alpha": 10.0, "beta": 20.0}
_WIDTH_HZ = {"theta": 2.0, "alpha": 2.0, "beta": 8.0}


def _cue(band: str, n_rhythms: int, valence: float, arousal: float) -> Cue:
    """The log amplitude of a band, or for a valence the half difference between its sides.

    The amplitude of noise B Hz wide, read over a second, has the relative error 1 / (2 sqrt(B));
    that of a resonator is pi / 2 as wide as its -3 dB width.
    """
    shared = 0.0 if valence else _BAND_SD
    person_sd = np.hypot(shared, _OWN_SD / np.sqrt(n_rhythms))
    width_hz = 0.5 * np.pi * _WIDTH_HZ[band]
    sampling_sd = 0.5 / np.sqrt(width_hz * n_rhythms)
    return Cue(0.0, valence, arousal, person_sd=person_sd, sampling_sd=sampling_sd)


# What an ideal reader would see of the rhythms, if it saw them alone. The signal is not made
# from these but from _RHYTHMS; the Bayes rate is computed from them.
CUES: Mapping[str, Cue] = MappingProxyType(
    {
        "side": _cue("alpha", 2, _VALENCE_SIDE, 0.0),
        "alpha": _cue("alpha", 4, 0.0, _AROUSAL_ALPHA),
        "beta": _cue("beta", 2, 0.0, _AROUSAL_BETA),
        "theta": _cue("theta", 1, 0.0, _AROUSAL_THETA),
    }
)


class SyntheticEeg:
    """Makes 32 channels in microvolts, second by second, the same for the same person and rate.

    A person has an alpha frequency, gains per rhythm and channel, and a resting asymmetry of his
    own. Filters carry their state from block to block, so the signal has no seams.
    """

    kind = "eeg"
    unit = "uV"
    channels = CHANNELS
    shape: tuple[int, ...] = (len(CHANNELS),)

    def __init__(self, state: LatentState, rate_hz: float) -> None:
        self.rate_hz = checked_hz("eeg", rate_hz, 64.0, 4096.0)
        self._blocks = blocks(state.person, _STREAM, rate_hz)
        self._state = state
        rng = np.random.default_rng((state.person, _STREAM))
        self._alpha_hz = float(np.clip(rng.normal(10.0, 0.7), 8.5, 11.5))
        self._gains = _person_gains(rng)
        self._drift_hz = rng.uniform(0.03, 0.15, 2)
        self._drift_phase = rng.uniform(0.0, 2 * np.pi, 2)
        self._mixing = _mixing(rng)
        self._pink = _pink_sections()
        self._pink_state = np.zeros((len(self._pink), 2, _N_PINK))
        self._bands = [self._resonator(band) for band in _CENTRE_HZ]

    def next_block(self) -> Array:
        """The next second, float32 (time, channels)."""
        rng, t = next(self._blocks)
        n = len(t)
        pink, self._pink_state = sosfilt(
            self._pink, rng.standard_normal((n, _N_PINK)), axis=0, zi=self._pink_state
        )
        sources = np.concatenate(
            [
                pink,
                self._rhythms(rng, t),
                self._blink(rng, t)[:, None],
                np.sin(2 * np.pi * self._drift_hz * t[:, None] + self._drift_phase),
                self._line(t)[:, None],
            ],
            axis=1,
        ).astype(np.float32)
        noise = rng.standard_normal((n, len(CHANNELS)), np.float32)
        return np.asarray(np.einsum("ts,sc->tc", sources, self._mixing) + noise)

    def _resonator(self, band: str) -> tuple[list[int], Array, Array]:
        """The rhythms of a band, its two-pole filter of unit output power, the filter's state."""
        columns = [n for n, rhythm in enumerate(_RHYTHMS) if rhythm.band == band]
        centre_hz = self._alpha_hz if band == "alpha" else _CENTRE_HZ[band]
        r = np.exp(-np.pi * _WIDTH_HZ[band] / self.rate_hz)
        w = 2 * np.pi * centre_hz / self.rate_hz
        a1, a2 = -2 * r * np.cos(w), r * r
        power = (1 + a2) / ((1 - a2) * ((1 + a2) ** 2 - a1**2))
        sos = np.array([[1 / np.sqrt(power), 0.0, 0.0, 1.0, a1, a2]])
        return columns, sos, np.zeros((1, 2, len(columns)))

    def _rhythms(self, rng: np.random.Generator, t: Array) -> Array:
        """(time, rhythms): each one's noise band times what the state makes of its amplitude."""
        white = rng.standard_normal((len(t), len(_RHYTHMS)))
        valence, arousal = self._state.state(t)
        out = np.empty_like(white)
        for columns, sos, zi in self._bands:
            out[:, columns], zi[:] = sosfilt(sos, white[:, columns], axis=0, zi=zi)
        follows = np.array([(r.valence, r.arousal) for r in _RHYTHMS])
        state = np.stack([valence - 0.5, arousal - 0.5], axis=1)
        return np.asarray(out * np.exp(np.einsum("td,rd->tr", state, follows)) * self._gains)

    def _blink(self, rng: np.random.Generator, t: Array) -> Array:
        """(time,): a raised cosine of height 1 where the person blinks; never across blocks."""
        happens, where, size = rng.uniform(), rng.uniform(), rng.uniform(0.7, 1.3)
        if happens >= _BLINKS_PER_BLOCK:
            return np.zeros(len(t))
        since = (t - t[0] - where * (len(t) / self.rate_hz - _BLINK_S)) / _BLINK_S
        shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.clip(since, 0.0, 1.0))
        return np.asarray(size * shape)

    def _line(self, t: Array) -> Array:
        """(time,): mains hum, where the rate can carry it."""
        if self.rate_hz <= 2 * _LINE_HZ:
            return np.zeros(len(t))
        return np.asarray(np.sin(2 * np.pi * _LINE_HZ * t))


def _person_gains(rng: np.random.Generator) -> Array:
    """(rhythms,) amplitudes in microvolts: shared by the two sides of a pair but for a little."""
    bands = list(_CENTRE_HZ)
    by_band = dict(zip(bands, rng.normal(0.0, _BAND_SD, len(bands)), strict=True))
    own = rng.normal(0.0, _OWN_SD, len(_RHYTHMS))
    logs = np.array([by_band[r.band] for r in _RHYTHMS]) + own
    return np.asarray(np.array([r.amplitude_uv for r in _RHYTHMS]) * np.exp(logs))


def _mixing(rng: np.random.Generator) -> Array:
    """(sources, channels) float32: how each source shows in each channel, in microvolts."""
    angles = 2 * np.pi * np.arange(_N_PINK - 2) / (_N_PINK - 2)
    places = [(0.75 * np.sin(a), 0.75 * np.cos(a)) for a in angles] + [(0.0, 0.2), (0.0, -0.2)]
    rows = [6.0 * spread(right, forward, 0.45) for right, forward in places]
    rows += [spread(r.right, r.forward, r.reach) for r in _RHYTHMS]
    rows.append(rng.uniform(60.0, 120.0) * spread(0.0, 1.1, 0.35))  # blinks
    rows += [rng.normal(0.0, 8.0, len(CHANNELS)) for _ in range(2)]  # drift
    rows.append(rng.lognormal(0.0, 0.5, len(CHANNELS)))  # line noise
    gains = rng.lognormal(0.0, 0.08, len(CHANNELS))  # electrodes differ
    return np.asarray((np.array(rows) * gains).astype(np.float32))


def _pink_sections() -> Array:
    """Second-order sections that turn white noise into about 1/f power, of unit variance.

    The filter is that of J. O. Smith, Spectral Audio Signal Processing, "Example: Synthesis of
    1/F Noise"; its variance is that of its impulse response.
    """
    b = [0.049922035, -0.095993537, 0.050612699, -0.004408786]
    a = [1.0, -2.494956002, 2.017265875, -0.522189400]
    sos = tf2sos(b, a)
    impulse = np.zeros(1 << 15)
    impulse[0] = 1.0
    sos[0, :3] /= np.sqrt(np.sum(sosfilt(sos, impulse) ** 2))
    return np.asarray(sos)
