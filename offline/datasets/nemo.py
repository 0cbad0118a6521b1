"""nEMO: nine actors speak Polish sentences in six emotions (Christop 2024).

Names are `EB0_anger_67`: speaker, emotion, sentence. The emotions are acted.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from offline.datasets import Broken, LabelledRecording
from offline.datasets.clips import Clip, broken_clips, genders, labelled_clips
from offline.labels import CODES

__all__ = ["LABELS", "LICENCE", "broken", "recordings"]

LABELS = ("neutral", "happy", "sad", "angry", "fear", "surprise")
LICENCE = "CC BY-NC-SA 4.0"
_NAME = re.compile(r"([A-Z]{2}\d)_([a-z]+)_(\d+)")
_WORDS = CODES["nemo"]


def recordings(root: str | Path) -> list[LabelledRecording]:
    """The clips below `root`, by speaker; raises DataError if there is none.

    The gender comes from MANIFEST.csv or the data set's own data.tsv, where one is there.
    """
    told = genders(root, "nemo", "data.tsv")
    return labelled_clips(root, "nemo", partial(_parse, told), "EB0_anger_67.wav")


def broken(root: str | Path) -> list[Broken]:
    """Damaged clips, and those whose word stands for no emotion."""
    return broken_clips(root, partial(_parse, {}))


def _parse(told: dict[str, str], path: Path) -> Clip | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, word, _ = match.groups()
    if word not in _WORDS:
        return Clip(speaker, "", fault=f"the emotion '{word}' is none of {', '.join(_WORDS)}")
    gender = told.get(speaker)
    return Clip(speaker, _WORDS[word], {"gender": gender} if gender else {})
