"""Data sets of short audio clips that say in their names who speaks, and with which emotion."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from engine.errors import DataError
from offline.datasets import Broken, LabelledRecording
from sources.files import open_recording, recordings_below

__all__ = ["AUDIO", "Clip", "Parse", "broken_clips", "genders", "labelled_clips", "left_out_clips"]

AUDIO = frozenset({".flac", ".ogg", ".wav"})
_LEVELS_UP = 3  # how far above the clips a table of speakers may lie


@dataclass(frozen=True, slots=True)
class Clip:
    """What a name tells: the speaker, the canonical label, attributes; or `left_out`, the reason
    why the clip is no part of the task, or `fault`, what the data set does not know."""

    speaker: str
    label: str
    groups: Mapping[str, str] = field(default_factory=dict)
    left_out: str = ""
    fault: str = ""


Parse: TypeAlias = Callable[[str], Clip | None]  # a file's stem; None: no file of this data set


def labelled_clips(
    root: str | Path, dataset: str, parse: Parse, example: str
) -> list[LabelledRecording]:
    """The clips below `root` in natural order, each name once; `example` is a name that fits.

    Raises DataError if there is none.
    """
    found = [
        LabelledRecording(
            uid=f"{dataset}-{clip.speaker}/{path.stem}",
            dataset=dataset,
            subject=f"{dataset}-{clip.speaker}",
            label=clip.label,
            path=path,
            trial=path.stem,
            groups=clip.groups,
        )
        for path, clip in _clips(Path(root), parse)
        if not clip.left_out and not clip.fault
    ]
    if not found:
        raise DataError(
            f"{root}: no {dataset} recording below this folder; need files like {example}"
        )
    order = {recording.uid: place for place, recording in enumerate(found)}
    return sorted(found, key=lambda r: (r.subject, order[r.uid]))


def broken_clips(root: str | Path, parse: Parse) -> list[Broken]:
    """The clips below `root` that cannot be read, or whose names hold a code of no meaning."""
    return [
        Broken(str(path), fault)
        for path, clip in _clips(Path(root), parse)
        if (fault := clip.fault or ("" if clip.left_out else _damage(path)))
    ]


def left_out_clips(root: str | Path, parse: Parse) -> list[Broken]:
    """The clips below `root` that are whole and no part of the task, with the reason."""
    return [
        Broken(str(path), clip.left_out)
        for path, clip in _clips(Path(root), parse)
        if clip.left_out
    ]


def genders(root: str | Path, dataset: str, table: str = "") -> dict[str, str]:
    """{speaker: f or m} from a pack's MANIFEST.csv or the data set's own `table` (.csv, .tsv).

    A table has the columns `gender` and `subject` or `speaker_id`; it lies in `root` or up to
    three folders above.
    """
    folder = Path(root).resolve()
    places = [folder, *list(folder.parents)[:_LEVELS_UP]]
    for path in (place / name for place in places for name in ("MANIFEST.csv", table) if name):
        if path.is_file() and (told := _genders(path, dataset)):
            return told
    return {}


def _genders(path: Path, dataset: str) -> dict[str, str]:
    told: dict[str, str] = {}
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, delimiter=delimiter):
            fields = {str(key).strip().lower(): str(v).strip() for key, v in row.items()}
            speaker = fields.get("subject") or fields.get("speaker_id", "")
            gender = fields.get("gender", "")[:1].lower()
            if fields.get("dataset", dataset) == dataset and speaker and gender in ("f", "m"):
                told[re.sub(rf"^{dataset}-", "", speaker)] = gender
    return told


def _clips(root: Path, parse: Parse) -> Iterator[tuple[Path, Clip]]:
    """Every clip of the data set in natural order; of two of the same name the first."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    try:
        paths = recordings_below(root, AUDIO)
    except DataError:  # nothing at all: what is looked for is told by who looks
        return
    seen: set[str] = set()
    for path in paths:
        clip = parse(path.stem)
        if clip is not None and path.stem not in seen:
            seen.add(path.stem)
            yield path, clip


def _damage(path: Path) -> str:
    try:
        open_recording(path)
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""
