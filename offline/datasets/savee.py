"""SAVEE: four men speak 120 English sentences each in seven emotions (Haq and Jackson 2010).

Names are `DC/a01.wav` or, in one folder, `DC_a01.wav`: speaker, emotion (one letter, or `sa` and
`su`), sentence. The emotions are acted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from offline.datasets import Broken, LabelledRecording
from offline.datasets.clips import Clip, broken_clips, labelled_clips, speaker_folds
from offline.labels import CODES
from offline.splits import Split
from sources.files import open_recording
from sources.recording import Recording

__all__ = ["LABELS", "LICENCE", "SPEAKERS", "broken", "official", "open_part", "recordings"]

LABELS = tuple(CODES["savee"].values())
LICENCE = "free for research after registration"
SPEAKERS = ("DC", "JE", "JK", "KL")
_NAME = re.compile(rf"(?:({'|'.join(SPEAKERS)})_)?([a-z]{{1,2}})(\d\d)")


def recordings(root: str | Path) -> list[LabelledRecording]:
    """The clips below `root`, by speaker; raises DataError if there is none."""
    return labelled_clips(root, "savee", _parse, "DC/a01.wav or DC_a01.wav")


def broken(root: str | Path) -> list[Broken]:
    """Damaged clips, and those whose letters stand for no emotion."""
    return broken_clips(root, _parse)


def open_part(recording: LabelledRecording) -> Recording:
    """One clip, called `DC_a01`: the sentences of all speakers have the same numbers."""
    speaker = recording.subject.removeprefix("savee-")
    return replace(open_recording(recording.path), name=f"{speaker}_{recording.trial}")


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """Leave one speaker out: four folds."""
    tests = [[f"savee-{speaker}"] for speaker in SPEAKERS]
    return speaker_folds(recordings, "SAVEE, leave one speaker out", tests)


def _parse(path: Path) -> Clip | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, letters, sentence = match.groups()
    speaker = speaker or path.parent.name
    if speaker not in SPEAKERS:
        return None
    name = letters + sentence
    if letters not in CODES["savee"]:
        known = ", ".join(CODES["savee"])
        return Clip(speaker, "", fault=f"the emotion {letters} is none of {known}", name=name)
    return Clip(speaker, CODES["savee"][letters], {"gender": "m"}, name=name)
