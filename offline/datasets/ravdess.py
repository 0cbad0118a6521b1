"""RAVDESS: 24 actors speak and sing two sentences in eight emotions (Livingstone and Russo 2018).

Names are `MM-CC-EE-II-SS-RR-AA`: modality (01 sound and picture, 02 picture, 03 sound), vocal
channel (01 speech, 02 song), emotion, intensity, statement, repetition, actor. Song has the first
six emotions; actor 18 sings none. The emotions are acted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from offline.datasets import Broken, LabelledRecording
from offline.datasets.clips import (
    AUDIO,
    VIDEO,
    Clip,
    broken_clips,
    labelled_clips,
    left_out_clips,
    speaker_folds,
)
from offline.labels import CODES
from offline.splits import Split

__all__ = ["LABELS", "LICENCE", "OPTIONS", "broken", "left_out", "official", "recordings"]

LABELS = tuple(CODES["ravdess"].values())
LICENCE = "CC BY-NC-SA 4.0"
# `media`: the files with sound only, or the videos; `channel`: spoken or sung
OPTIONS = {"media": ("audio", "video"), "channel": ("speech", "song")}
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_N_ACTORS = 24
_INTENSITIES = ("normal", "strong")
_SUFFIXES = {"audio": AUDIO, "video": VIDEO}
_MODALITIES = {"audio": ("03",), "video": ("01", "02")}
_CHANNELS = {"speech": "01", "song": "02"}
_TWICE = "the same picture as 01, which has the sound too"
# EmoBox (2024): the actors that each of six folds tests.
_FOLDS = (
    (1, 11, 20, 21),
    (4, 10, 12, 14),
    (8, 9, 19, 23),
    (3, 5, 7, 24),
    (2, 15, 16, 18),
    (6, 13, 17, 22),
)


def recordings(
    root: str | Path, *, media: str = "audio", channel: str = "speech"
) -> list[LabelledRecording]:
    """The clips below `root`, by actor; raises DataError if there is none.

    Of videos that are there with sound and without (01 and 02), those with sound.
    """
    modality = _MODALITIES[media][0]
    example = f"{modality}-{_CHANNELS[channel]}-05-01-02-01-12{_SUFFIXES[media][0]}"
    told = {"media": media, "channel": channel}
    parse = partial(_parse, media, channel)
    found = labelled_clips(root, "ravdess", parse, example, _SUFFIXES[media], told)
    names = {recording.trial for recording in found}
    return [recording for recording in found if not _is_twice(str(recording.trial), names)]


def broken(root: str | Path) -> list[Broken]:
    """Damaged clips of all kinds, and those whose codes have no meaning."""
    return [
        fault
        for media, suffixes in _SUFFIXES.items()
        for fault in broken_clips(root, partial(_parse, media, ""), suffixes)
    ]


def left_out(root: str | Path, *, media: str = "audio", channel: str = "speech") -> list[Broken]:
    """The clips of the other channel and modality, and the pictures that are there twice."""
    parse = partial(_parse, media, channel)
    found = left_out_clips(root, parse, _SUFFIXES[media])
    if media == "video":
        paths = {path.stem: path for path in Path(root).rglob("*") if path.suffix in VIDEO}
        found += [Broken(str(p), _TWICE) for name, p in paths.items() if _is_twice(name, paths)]
    return found


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """EmoBox's six folds, disjoint in speakers."""
    tests = [[f"ravdess-{actor:02d}" for actor in fold] for fold in _FOLDS]
    return speaker_folds(recordings, "EmoBox, 6 folds of speakers", tests)


def _is_twice(name: str, names: Sequence[str] | set[str | None] | dict[str, Path]) -> bool:
    return name.startswith("02-") and f"01-{name[3:]}" in names


def _parse(media: str, channel: str, path: Path) -> Clip | None:
    """What a name tells; every `channel` is right where it is ""."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    modality, spoken, emotion, intensity, _, _, actor = match.groups()
    fault = ""
    if emotion not in CODES["ravdess"]:
        fault = f"the emotion {emotion} is none of 01 to 08"
    elif intensity not in ("01", "02"):
        fault = f"the intensity {intensity} is neither 01 nor 02"
    elif not 1 <= int(actor) <= _N_ACTORS:
        fault = f"the actor {actor} is none of 01 to {_N_ACTORS}"
    if fault:
        return Clip(actor, "", fault=fault)
    why = ""
    if modality not in _MODALITIES[media]:
        why = "not the file with audio only" if media == "audio" else "has no picture"
    elif channel and spoken != _CHANNELS[channel]:
        why = "sung, not spoken" if channel == "speech" else "spoken, not sung"
    gender = "m" if int(actor) % 2 else "f"
    groups = {"gender": gender, "intensity": _INTENSITIES[int(intensity) - 1]}
    return Clip(actor, CODES["ravdess"][emotion], groups, left_out=why)
