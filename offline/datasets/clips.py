"""Data sets of short clips, heard or seen, whose names say who speaks, and with which emotion."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from engine.errors import ConfigError, DataError
from offline.datasets import Broken, LabelledRecording
from offline.splits import Split, folds
from sources.files import open_recording, recordings_below

__all__ = [
    "AUDIO",
    "VIDEO",
    "Clip",
    "Parse",
    "broken_clips",
    "genders",
    "labelled_clips",
    "left_out_clips",
    "nearby",
    "speaker_folds",
]

AUDIO = (".wav", ".flac", ".ogg", ".mp3")  # of a clip that is there in several, the first
VIDEO = (".mp4", ".flv", ".mov", ".mkv", ".avi", ".webm")
_LEVELS_UP = 3  # how far above the clips a table of speakers may lie
_POINTER = b"version https://git-lfs"  # how git-LFS begins the file that stands for another
_POINTER_BYTES = 1024  # it is never longer
_POINTER_FAULT = "a git-LFS pointer, not the clip itself: run git lfs pull"
_VAL = 0.2  # of the speakers who are not tested


@dataclass(frozen=True, slots=True)
class Clip:
    """What a name tells: the speaker, the canonical label, attributes; or `left_out`, the reason
    why the clip is no part of the task, or `fault`, what the data set does not know. `name` is
    the clip's own where the file's stem is not; `soft` {label: share} are votes."""

    speaker: str
    label: str
    groups: Mapping[str, str] = field(default_factory=dict)
    left_out: str = ""
    fault: str = ""
    name: str = ""
    soft: Mapping[str, float] | None = None


Parse: TypeAlias = Callable[[Path], Clip | None]  # None: no file of this data set


def labelled_clips(
    root: str | Path,
    dataset: str,
    parse: Parse,
    example: str,
    suffixes: Sequence[str] = AUDIO,
    options: Mapping[str, str] | None = None,
) -> list[LabelledRecording]:
    """The clips below `root` by speaker, in natural order, each name once.

    `example` is a name that fits. Raises DataError if there is none.
    """
    clips = list(_clips(Path(root), parse, suffixes))
    found = [
        LabelledRecording(
            uid=f"{dataset}-{clip.speaker}/{clip.name}",
            dataset=dataset,
            subject=f"{dataset}-{clip.speaker}",
            label=clip.label,
            path=path,
            trial=clip.name,
            groups=clip.groups,
            options=dict(options or {}),
            soft=clip.soft,
        )
        for path, clip in clips
        if not clip.left_out and not clip.fault
    ]
    if not found:
        faults = [f"{path}: {clip.fault}" for path, clip in clips if clip.fault]
        why = f"; of {len(faults)} that cannot be used the first is {faults[0]}" if faults else ""
        raise DataError(
            f"{root}: no {dataset} recording below this folder; need files like {example}{why}"
        )
    order = {recording.uid: place for place, recording in enumerate(found)}
    return sorted(found, key=lambda r: (r.subject, order[r.uid]))


def broken_clips(root: str | Path, parse: Parse, suffixes: Sequence[str] = AUDIO) -> list[Broken]:
    """The clips below `root` that cannot be read, or whose names hold a code of no meaning."""
    return [
        Broken(str(path), fault)
        for path, clip in _clips(Path(root), parse, suffixes)
        if (fault := clip.fault or ("" if clip.left_out else _damage(path)))
    ]


def left_out_clips(root: str | Path, parse: Parse, suffixes: Sequence[str] = AUDIO) -> list[Broken]:
    """The clips below `root` that are whole and no part of the task, with the reason."""
    return [
        Broken(str(path), clip.left_out)
        for path, clip in _clips(Path(root), parse, suffixes)
        if clip.left_out
    ]


def speaker_folds(
    recordings: Sequence[LabelledRecording], protocol: str, tests: Sequence[Sequence[str]]
) -> list[Split]:
    """The splits that test the speakers of `tests` (subjects, fold by fold), as far as they are
    there; validation is a fifth of the others, women and men alike where that is known.

    Raises ConfigError for less than three speakers: somebody must be on each side.
    """
    kinds = {r.subject: r.groups.get("gender", "") for r in recordings}
    made = []
    for k, fold in enumerate(tests):
        test = tuple(sorted(set(fold) & set(kinds)))
        rest = sorted(set(kinds) - set(test))
        if not test:
            continue
        if len(rest) < 2:
            raise ConfigError(
                f"split.unit: official: {len(kinds)} speakers are too few for fold {k} of "
                f"{protocol}; it tests {', '.join(test)} and needs two more"
            )
        n_parts = min(len(rest), round(1 / _VAL))
        val = folds(rest, n_parts, k, {subject: kinds[subject] for subject in rest})[0]
        train = tuple(sorted(set(rest) - set(val)))
        made.append(Split(f"{protocol}, fold {k}", "subject", train, val, test))
    return made


def genders(root: str | Path, dataset: str, table: str = "") -> dict[str, str]:
    """{speaker: f or m} from a pack's MANIFEST.csv or the data set's own `table` (.csv, .tsv).

    A table has the columns `gender` and `subject` or `speaker_id`; it lies near `root`, as
    `nearby` looks.
    """
    for path in nearby(root, *(name for name in ("MANIFEST.csv", table) if name)):
        if told := _genders(path, dataset):
            return told
    return {}


def nearby(root: str | Path, *names: str) -> list[Path]:
    """The files of these names in `root`, up to three folders above, then below it."""
    folder = Path(root).resolve()
    above = [folder, *islice(folder.parents, _LEVELS_UP)]
    found = [place / name for place in above for name in names if (place / name).is_file()]
    return found or sorted(path for name in names for path in folder.rglob(name))


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


def _clips(root: Path, parse: Parse, suffixes: Sequence[str]) -> Iterator[tuple[Path, Clip]]:
    """Every clip of the data set in natural order; of a speaker's two of the same name one."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    try:
        paths = recordings_below(root, frozenset(suffixes))
    except DataError:  # nothing at all: what is looked for is told by who looks
        return
    taken: dict[tuple[str, str], tuple[tuple[bool, int], Path, Clip]] = {}
    for path in paths:
        if (clip := parse(path)) is None:
            continue
        pointer = _is_pointer(path)
        name = clip.name or path.stem
        clip = replace(clip, name=name, fault=clip.fault or (_POINTER_FAULT if pointer else ""))
        rank = pointer, suffixes.index(path.suffix.lower())
        there = taken.get((clip.speaker, name))
        if there is None or rank < there[0]:
            taken[clip.speaker, name] = rank, path, clip
    yield from ((path, clip) for _, path, clip in taken.values())


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > _POINTER_BYTES:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _damage(path: Path) -> str:
    try:
        open_recording(path)
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""
