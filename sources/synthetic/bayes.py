"""How well anybody could tell the states: the Bayes rate of each simulated signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from engine.errors import ConfigError
from engine.plugins import nearest
from engine.types import Array
from sources.participant import LABELS, LatentState
from sources.synthetic import eeg, face, pulse, skin, voice
from sources.synthetic.cue import Cue

__all__ = ["RATES", "WINDOW_S", "bayes_rate"]

WINDOW_S: Mapping[str, float] = MappingProxyType(
    {"eeg": 2.0, "skin": 20.0, "pulse": 20.0, "voice": 3.0, "face": 1.0}
)
RATES: Mapping[str, float] = MappingProxyType(  # bayes_rate of each kind; a test holds them to it
    {"eeg": 0.849, "skin": 0.969, "pulse": 0.895, "voice": 0.910, "face": 0.913}
)
_CUES: Mapping[str, Mapping[str, Cue]] = MappingProxyType(
    {"eeg": eeg.CUES, "skin": skin.CUES, "pulse": pulse.CUES, "voice": voice.CUES}
    | {"face": face.CUES}
)
_STEPS = 20  # a window is read in so many equal parts
_FIRST_PERSON = 1_000_000  # nobody else's
_PEOPLE, _SECONDS = 80, 120.0
_TRIALS = 4000


def bayes_rate(kind: str, window_s: float | None = None) -> float:
    """The unweighted average recall that no reader of `kind` can be expected to beat.

    The reader sees one window of an unseen person, ending at any moment, and names the state at
    its end. It knows all cue laws of the kind, how states come and go, and reads each cue in
    each twentieth of the window with the error `sampling_sd`; beyond the cues it sees nothing.
    Offsets of the person, wandering and reading errors are Gaussian and independent from cue to
    cue, which makes a window Gaussian around what its course of valence and arousal asks for.
    The posterior of a label is then the sum of those likelihoods over thousands of courses drawn
    from other people: a Monte Carlo estimate, good to about 0.01, the same at every call.

    It is a ceiling: cues are taken to be seen through noise, overlap and artefacts as well as
    `sampling_sd` says, which is a bound for the counts and variances that carry them.
    """
    if kind not in _CUES:
        hint = nearest(kind, _CUES) or f"; known: {', '.join(_CUES)}"
        raise ConfigError(f"no signal of kind '{kind}' is simulated{hint}")
    length_s = WINDOW_S[kind] if window_s is None else window_s
    cues = list(_CUES[kind].values())
    courses, labels = _courses(length_s)
    means, rng = _whitened(cues, courses, length_s), np.random.default_rng(0)
    half = len(labels) // 2  # people of the trials | people whose courses are the reader's prior
    trial = rng.choice(half, _TRIALS)
    seen = means[trial] + rng.standard_normal((_TRIALS, means.shape[1]))
    known, known_labels = means[half:], labels[half:]
    fit = seen @ known.T - 0.5 * np.sum(known**2, axis=1)
    weight = np.exp(fit - fit.max(axis=1, keepdims=True))
    posterior = np.stack([weight[:, known_labels == k].sum(axis=1) for k in range(4)], axis=1)
    guess, truth = posterior.argmax(axis=1), labels[trial]
    return float(np.mean([np.mean(guess[truth == k] == k) for k in range(4)]))


def _courses(window_s: float) -> tuple[Array, Array]:
    """(windows, steps, valence and arousal) of many people, and the labels at their ends."""
    back_s = window_s * (np.arange(_STEPS) + 0.5) / _STEPS
    courses, labels = [], []
    for person in range(_FIRST_PERSON, _FIRST_PERSON + _PEOPLE):
        state = LatentState(person)
        ends_s = np.arange(window_s, window_s + _SECONDS, 1.0)
        courses.append(np.stack(state.state(ends_s[:, None] - back_s), axis=-1))
        labels += [LABELS.index(state.label(float(end_s))) for end_s in ends_s]
    return np.concatenate(courses), np.array(labels)


def _whitened(cues: Sequence[Cue], courses: Array, window_s: float) -> Array:
    """(windows, cues * steps): what the cues ask for, in units in which all noise is white."""
    step_s = window_s / _STEPS
    apart_s = step_s * np.abs(np.subtract.outer(np.arange(_STEPS), np.arange(_STEPS)))
    parts = []
    for cue in cues:
        noise = cue.person_sd**2 + cue.wander_sd**2 * np.exp(-apart_s / cue.wander_s)
        noise += (cue.sampling_sd**2 / step_s + 1e-9) * np.eye(_STEPS)
        mean = cue.follows(courses[..., 0], courses[..., 1]) - cue.middle
        parts.append(np.linalg.solve(np.linalg.cholesky(noise), mean.T).T)
    return np.concatenate(parts, axis=1)
