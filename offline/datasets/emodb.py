"""EmoDB: ten actors speak ten German sentences in seven emotions (Burkhardt et al. 2005).

Names are `03a01Wa`: speaker, text, emotion (the first letter of its German word), version. Boredom
has no canonical label and is left out. The emotions are acted.
"""

from __future__ import annotations

import re
from pathlib import Path

from offline.datasets import Broken, LabelledRecording
from offline.datasets.clips import Clip, broken_clips, labelled_clips, left_out_clips
from offline.labels import CODES

__all__ = ["LABELS", "LICENCE", "broken", "left_out", "recordings"]

LABELS = ("neutral", "happy", "sad", "angry", "fear", "disgust")
LICENCE = "CC0-1.0"
_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])[a-z]?")
_CODES = CODES["emodb"]
_BOREDOM = "L"  # Langeweile
_GENDERS = {
    **dict.fromkeys(("03", "10", "11", "12", "15"), "m"),
    **dict.fromkeys(("08", "09", "13", "14", "16"), "f"),
}


def recordings(root: str | Path) -> list[LabelledRecording]:
    """The clips below `root` but those of boredom, by speaker; DataError if there is none."""
    return labelled_clips(root, "emodb", _parse, "03a01Wa.wav")


def broken(root: str | Path) -> list[Broken]:
    """Damaged clips, and those whose letter stands for no emotion."""
    return broken_clips(root, _parse)


def left_out(root: str | Path) -> list[Broken]:
    """The clips of boredom."""
    return left_out_clips(root, _parse)


def _parse(path: Path) -> Clip | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, _, letter = match.groups()
    if letter == _BOREDOM:
        return Clip(speaker, "", left_out="boredom has no canonical label")
    if letter not in _CODES:
        known = ", ".join((*_CODES, _BOREDOM))
        return Clip(speaker, "", fault=f"the emotion {letter} is none of {known}")
    gender = _GENDERS.get(speaker)
    return Clip(speaker, _CODES[letter], {"gender": gender} if gender else {})
