"""The voice of a simulated person: nonsense speech whose melody and tone follow the state."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from scipy.signal import sosfilt

from engine.types import Array
from sources.participant import LatentState
from sources.synthetic.blocks import blocks, checked_hz, person_rng
from sources.synthetic.cue import Cue, CueTracks
from sources.synthetic.syllables import Syllable, Syllables

__all__ = ["CUES", "SyntheticVoice"]

_STREAM = 0x0CE  # keeps these draws apart from the person's others
_FRAME_HZ = 200  # melody and loudness are drawn so often, and run straight between
# The first three formants of five vowels in Hz: means of Peterson and Barney (1952), men.
_VOWELS = np.array(
    [(730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240)]
)
_FOURTH_HZ = 3400.0
_WIDTHS_HZ = np.array([70.0, 100.0, 140.0, 200.0])
_OPEN = 0.6  # the share of a cycle in which the glottis is open
_JITTER = 0.01
_BREATH, _ROOM = 0.004, 1e-3  # noise with the voice, and without it
_LOUDNESS = 0.08

# Natural logarithms of Hz, of a share, of the amplitude, of syllables a second, of the cut-off
# of the source in Hz, of a scale. Signs as in Juslin and Laukka (2003): arousal is loud, fast,
# high and bright; joy sings, and smiling shortens the mouth; anger is harsh. Sizes are made up.
CUES: Mapping[str, Cue] = MappingProxyType(
    {
        "pitch": Cue(np.log(150), 0.1, 0.5, person_sd=0.25, wander_sd=0.05, sampling_sd=0.06),
        "range": Cue(np.log(0.12), 1.3, 0.6, person_sd=0.2, wander_sd=0.15, sampling_sd=0.38),
        "energy": Cue(0.0, 0.0, 1.2, person_sd=0.3, wander_sd=0.2, sampling_sd=0.13),
        "pace": Cue(np.log(4.5), 0.1, 0.5, person_sd=0.12, wander_sd=0.1, sampling_sd=0.1),
        "tilt": Cue(np.log(900), -1.2, 0.8, person_sd=0.25, wander_sd=0.2),
        "smile": Cue(0.0, valence=0.2, person_sd=0.06, wander_sd=0.02, sampling_sd=0.03),
    }
)


class SyntheticVoice:
    """Makes speech-like sound of full scale 1, second by second; usually at 16 kHz.

    A glottal flow (KLGLOTT88: Klatt and Klatt 1990) through a tilt and four formant resonators
    (Klatt 1980); vowels in syllables, syllables in phrases, and pauses between them.
    """

    kind = "voice"
    unit = "fs"
    channels: tuple[str, ...] = ("mono",)
    shape: tuple[int, ...] = (1,)

    def __init__(self, state: LatentState, rate_hz: float) -> None:
        self._rate_hz = checked_hz("voice", rate_hz, 8000.0, 48000.0)
        self._blocks = blocks(state.person, _STREAM, rate_hz)
        rng = person_rng(state.person, _STREAM)
        self._cues = CueTracks(state, CUES, rng)
        self._syllables = Syllables(len(_VOWELS))
        self._phase = 0.0
        self._filter = np.zeros((5, 2))  # state of the tilt and the formants
        self._sections = _sections(_VOWELS[0], 1.0, 900.0, rate_hz)

    def next_block(self) -> Array:
        """The next second, float32 (time, 1)."""
        rng, t = next(self._blocks)
        frames = np.linspace(t[0], t[0] + len(t) / self._rate_hz, _FRAME_HZ + 1)
        cues = self._cues.next_block(rng, frames[:-1])
        cues = {name: np.append(values, values[-1]) for name, values in cues.items()}
        said = self._syllables.next_block(rng, frames, cues["pace"])
        melody, voiced = _melody(said, frames)
        log_hz = cues["pitch"] + np.exp(cues["range"]) * melody
        log_hz += _JITTER * rng.standard_normal(len(frames))
        loud = _LOUDNESS * np.exp(cues["energy"]) * voiced
        hz, gain = (np.interp(t, frames, track) for track in (np.exp(log_hz), loud))
        source = gain * (self._glottis(hz) + _BREATH * rng.standard_normal(len(t), np.float32))
        made = self._tract(source, said, t, frames, cues)
        made += _ROOM * rng.standard_normal(len(t), np.float32)
        return np.asarray(np.clip(made, -1.0, 1.0)[:, None].astype(np.float32))

    def _glottis(self, hz: Array) -> Array:
        """(time,): the derivative of the flow; one negative spike a cycle, as the folds close."""
        turns = self._phase + np.cumsum(hz) / self._rate_hz
        self._phase = float(turns[-1] % 1.0)
        x = (turns - np.floor(turns)) / _OPEN
        return np.asarray(np.where(x < 1.0, x * (2.0 - 3.0 * x), 0.0))

    def _tract(
        self,
        source: Array,
        said: list[Syllable],
        t: Array,
        frames: Array,
        cues: Mapping[str, Array],
    ) -> Array:
        """(time,): `source` through the mouth, which changes where a syllable begins."""
        out = np.empty(len(t))
        begins = [s for s in said if s.first_s >= t[0]]
        edges = [0, *(int(t.searchsorted(s.first_s)) for s in begins), len(t)]
        for n, (a, b) in enumerate(pairwise(edges)):
            if n:
                at = int(frames.searchsorted(begins[n - 1].first_s, side="right")) - 1
                scale, cut_hz = (float(np.exp(cues[name][at])) for name in ("smile", "tilt"))
                vowel = _VOWELS[begins[n - 1].vowel]
                self._sections = _sections(vowel, scale, cut_hz, self._rate_hz)
            if b > a:
                out[a:b], self._filter = sosfilt(self._sections, source[a:b], zi=self._filter)
        return out


def _melody(said: list[Syllable], frames: Array) -> tuple[Array, Array]:
    """(frames,) each: pitch in units of its range, and loudness in 0 to about 1.5."""
    melody, loud = np.zeros(len(frames)), np.zeros(len(frames))
    for syllable in said:
        x = (frames - syllable.first_s) / (syllable.end_s - syllable.first_s)
        inside = (x >= 0.0) & (x < 1.0)
        melody[inside] += syllable.accent * np.sin(np.pi * x[inside]) + syllable.fall
        loud[inside] += syllable.stress * np.sin(np.pi * x[inside]) ** 0.7
    return melody, loud


def _sections(vowel: Array, scale: float, cut_hz: float, rate_hz: float) -> Array:
    """(5, 6) second-order sections of gain 1 at 0 Hz: the tilt, then the formants."""
    keep = np.exp(-2 * np.pi * cut_hz / rate_hz)
    hz = np.append(vowel, _FOURTH_HZ) * scale
    r = np.exp(-np.pi * _WIDTHS_HZ / rate_hz)
    a1, a2 = -2 * r * np.cos(2 * np.pi * np.minimum(hz, 0.47 * rate_hz) / rate_hz), r * r
    out = np.zeros((5, 6))
    out[0] = 1.0 - keep, 0.0, 0.0, 1.0, -keep, 0.0
    out[1:, 0], out[1:, 3], out[1:, 4], out[1:, 5] = 1.0 + a1 + a2, 1.0, a1, a2
    return out
