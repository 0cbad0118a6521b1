"""Face crops of named persons: npz files of grey 48x48 pictures, most of them press photos.

An npz holds `x` uint8 (n, 48, 48), `y` the canonical label and `subject` the person of each. Each
crop is a square of 1.15 times the longer side of the face's box.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.errors import DataError
from engine.types import Array
from offline.datasets import Broken, LabelledRecording
from offline.datasets.stills import SIDE, as_recording
from offline.labels import CODES
from offline.splits import Split
from sources.recording import Recording

__all__ = [
    "LABELS",
    "LICENCE",
    "OPTIONS",
    "broken",
    "left_out",
    "official",
    "open_part",
    "recordings",
]

LABELS = ("neutral", "happy", "sad", "angry", "disgust", "surprise")
LICENCE = "research use (press photos)"
OPTIONS = {"labels": ("six", "seven")}  # six: without fear, of which there is next to nothing
_KEYS = ("x", "y", "subject")
_N_SHARES = 5  # persons are dealt out by a hash of their name
_VAL, _TEST = 0, 1


class _Crops(NamedTuple):
    x: Array
    y: tuple[str, ...]
    subject: tuple[str, ...]


def recordings(root: str | Path, labels: str = "six") -> list[LabelledRecording]:
    """The crops below `root`, file by file in their order; raises DataError if there is none."""
    found = []
    for path in _files(Path(root)):
        if _fault(path):
            continue
        crops = _crops(path)
        for row, (label, person) in enumerate(zip(crops.y, crops.subject, strict=True)):
            if label in CODES["faces"] and (labels == "seven" or label != "fear"):
                trial = f"{path.stem}-{row:05d}"
                found.append(
                    LabelledRecording(
                        uid=f"faces-{person}/{trial}",
                        dataset="faces",
                        subject=f"faces-{person}",
                        label=CODES["faces"][label],
                        path=path,
                        trial=trial,
                        part=str(row),
                        options={"labels": labels},
                    )
                )
    if not found:
        raise DataError(f"{root}: no whole npz with the arrays x, y and subject below this folder")
    return found


def broken(root: str | Path) -> list[Broken]:
    """Damaged files, and crops whose word is no label."""
    faults = []
    for path in _files(Path(root)):
        if why := _fault(path):
            faults.append(Broken(str(path), why))
            continue
        faults += [
            Broken(f"{path}#{row}", f"the label '{label}' is none of {', '.join(CODES['faces'])}")
            for row, label in enumerate(_crops(path).y)
            if label not in CODES["faces"]
        ]
    return faults


def left_out(root: str | Path, labels: str = "six") -> list[Broken]:
    """The crops of fear, unless seven labels are asked for."""
    if labels == "seven":
        return []
    return [
        Broken(f"{path}#{row}", "fear, which is none of the six")
        for path in _files(Path(root))
        if not _fault(path)
        for row, label in enumerate(_crops(path).y)
        if label == "fear"
    ]


def open_part(recording: LabelledRecording) -> Recording:
    """One crop, as a recording of one item."""
    return as_recording(recording, _crops(recording.path).x[int(recording.part)])


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """Disjoint in persons: by the SHA-1 of the person's name modulo 5, 0 validates, 1 tests."""
    sides: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for subject in {recording.subject for recording in recordings}:
        person = hashlib.sha1(subject.removeprefix("faces-").encode(), usedforsecurity=False)
        share = int(person.hexdigest(), 16) % _N_SHARES
        sides[{_VAL: "val", _TEST: "test"}.get(share, "train")].add(subject)
    train, val, test = (tuple(sorted(sides[side])) for side in ("train", "val", "test"))
    name = "face crops, persons by SHA-1 modulo 5: 0 validates, 1 tests"
    return [Split(name, "subject", train, val, test)]


def _files(root: Path) -> list[Path]:
    """The npz files below `root` that hold crops, or did before they were damaged."""
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    found = []
    for path in [root] if root.is_file() else sorted(root.rglob("*.npz")):
        try:
            with zipfile.ZipFile(path) as archive:
                inside = {name.removesuffix(".npy") for name in archive.namelist()}
        except (zipfile.BadZipFile, OSError):
            inside = set(_KEYS)
        if inside >= set(_KEYS):
            found.append(path)
    return found


def _fault(path: Path) -> str:
    try:
        _crops(path)
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def _crops(path: Path) -> _Crops:
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, mtime_ns: int) -> _Crops:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            x, y, subject = (np.asarray(archive[key]) for key in _KEYS)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: a damaged npz file: {error}") from error
    if x.dtype != np.uint8 or x.shape[1:] != (SIDE, SIDE):
        raise DataError(f"{path}: x is {x.dtype} {x.shape}; need uint8 (n, {SIDE}, {SIDE})")
    for key, words in (("y", y), ("subject", subject)):
        if words.dtype.kind != "U" or words.shape != x.shape[:1]:
            raise DataError(
                f"{path}: {key} is {words.dtype} {words.shape}; need a word for each of {len(x)}"
            )
    return _Crops(x, tuple(y.tolist()), tuple(subject.tolist()))
