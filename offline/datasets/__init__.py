"""What every data set's reader gives: labelled recordings, and what is wrong with its files.

A reader is a module with `recordings(root) -> list[LabelledRecording]`, in a stable natural
order, and `broken(root) -> list[Broken]`, which opens every file and names what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Broken", "LabelledRecording"]


@dataclass(frozen=True, slots=True)
class LabelledRecording:
    """One recording with one label, as a data set's documents define it.

    `uid` is `subject/rest`, unique over all data sets as `subject` is; its parts are what splits
    keep together. `label` is canonical (`rest`, `happy`); it is "" where the truth changes within
    the recording, whose stream then carries it. `groups` are attributes such as gender, where the
    data set tells them. `part` says which part of the file it is, in the words of the data set's
    own reader, and `options` with which of that reader's options it was listed. `soft` {label:
    share} are votes that add up to 1; `dimensions` is the truth in valence, arousal and dominance,
    from 0 to 1.
    """

    uid: str
    dataset: str
    subject: str
    label: str
    path: Path
    session: str | None = None
    trial: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    part: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    soft: Mapping[str, float] | None = None
    dimensions: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that is damaged or missing, and why it counts as that."""

    file: str
    reason: str
