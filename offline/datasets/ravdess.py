"""RAVDESS: 24 actors speak two sentences in eight emotions (Livingstone and Russo 2018).

Read are the audio files of speech, `03-01-EE-II-SS-RR-AA` with the codes of emotion, intensity,
statement, repetition and actor; song (vocal channel 02) is left out. The emotions are acted.
"""

from __future__ import annotations

import re
from pathlib import Path

from offline.datasets import Broken, LabelledRecording
from offline.datasets.clips import Clip, broken_clips, labelled_clips, left_out_clips

__all__ = ["LABELS", "LICENCE", "broken", "left_out", "official_folds", "recordings"]

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
LICENCE = "CC BY-NC-SA 4.0"
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_N_ACTORS = 24
_INTENSITIES = ("normal", "strong")
# EmoBox (2024): the actors that each of six folds tests.
_FOLDS = (
    (1, 11, 20, 21),
    (4, 10, 12, 14),
    (8, 9, 19, 23),
    (3, 5, 7, 24),
    (2, 15, 16, 18),
    (6, 13, 17, 22),
)


def recordings(root: str | Path) -> list[LabelledRecording]:
    """The speech clips below `root`, by actor; raises DataError if there is none."""
    return labelled_clips(root, "ravdess", _parse, "03-01-05-01-02-01-12.wav")


def broken(root: str | Path) -> list[Broken]:
    """Damaged clips, and those whose codes have no meaning."""
    return broken_clips(root, _parse)


def left_out(root: str | Path) -> list[Broken]:
    """The clips of song, and the sound tracks of the videos."""
    return left_out_clips(root, _parse)


def official_folds() -> tuple[tuple[str, ...], ...]:
    """The test subjects of EmoBox's six folds, disjoint in speakers."""
    return tuple(tuple(f"ravdess-{actor:02d}" for actor in fold) for fold in _FOLDS)


def _parse(stem: str) -> Clip | None:
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    modality, channel, emotion, intensity, _, _, actor = (int(code) for code in match.groups())
    if not 1 <= emotion <= len(LABELS):
        return Clip(match[7], "", fault=f"the emotion {match[3]} is none of 01 to 08")
    if not 1 <= intensity <= len(_INTENSITIES):
        return Clip(match[7], "", fault=f"the intensity {match[4]} is neither 01 nor 02")
    if not 1 <= actor <= _N_ACTORS:
        return Clip(match[7], "", fault=f"the actor {match[7]} is none of 01 to {_N_ACTORS}")
    why = "sung, not spoken" if channel == 2 else ""
    if modality != 3:
        why = "not the file with audio only"
    gender = "m" if actor % 2 else "f"
    groups = {"gender": gender, "intensity": _INTENSITIES[intensity - 1]}
    return Clip(match[7], LABELS[emotion - 1], groups, left_out=why)
