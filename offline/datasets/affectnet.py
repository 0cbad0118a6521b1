"""AffectNet: faces from the web in eight emotions, with valence and arousal (Mollahosseini 2017).

Both layouts are read: (a) of 2021, `train_set` and `val_set` with `images/ID.jpg` and
`annotations/ID_{exp,val,aro,lnd}.npy`; (b) of 2017, `training.csv` and `validation.csv` with the
place of each face in its picture.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.errors import DataError
from engine.types import Array
from offline.datasets import Broken, LabelledRecording
from offline.datasets.stills import SIDE, as_recording
from offline.labels import CODES
from offline.splits import Split, folds
from sources.recording import Recording

__all__ = [
    "LABELS",
    "LICENCE",
    "OPTIONS",
    "WARNING",
    "broken",
    "left_out",
    "official",
    "open_part",
    "recordings",
]

LABELS = tuple(CODES["affectnet"].values())
LICENCE = "signed agreement (AffectNet)"
OPTIONS = {"labels": ("eight", "seven")}  # seven: without contempt
WARNING = (
    "persons are unknown, and there is no public test set: official tests on the validation "
    "pictures and validates on a tenth of the training pictures"
)
_SETS = {"train": ("train_set", "training.csv"), "val": ("val_set", "validation.csv")}
_NO_EMOTION = {"8": "none of the emotions", "9": "uncertain", "10": "no face"}
_COLUMNS = (
    *("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height"),
    *("expression", "valence", "arousal"),
)
_MARGIN = 1.15  # side of the crop in longer sides of the face's box
_PICTURES_DEEP = ("*/", "*/*/")  # folders between the csv and the pictures


class _Row(NamedTuple):
    """One annotated picture; `box` is x, y, width, height in pixels, "" for the whole picture."""

    side: str
    name: str
    path: Path
    code: str
    valence: str
    arousal: str
    box: str
    fault: str


def recordings(root: str | Path, labels: str = "eight") -> list[LabelledRecording]:
    """The pictures below `root` with one of the emotions; raises DataError if there is none."""
    kept = set(LABELS) - ({"contempt"} if labels == "seven" else set())
    rows = list(_rows(Path(root)))
    found = [
        _labelled(row, labels)
        for row in rows
        if not row.fault and CODES["affectnet"].get(row.code) in kept
    ]
    if not found:
        raise DataError(
            f"{root}: no AffectNet picture below this folder; need train_set/ and val_set/ with "
            "images/ and annotations/, or training.csv and validation.csv"
        )
    return found


def broken(root: str | Path) -> list[Broken]:
    """Pictures that are missing or empty, annotations that are damaged or mean nothing."""
    faults = []
    for row in _rows(Path(root)):
        known = row.code in CODES["affectnet"] or row.code in _NO_EMOTION
        why = row.fault or ("" if known else f"the expression '{row.code}' is none of 0 to 10")
        if not why and not (row.path.is_file() and row.path.stat().st_size):
            why = "the picture is missing or empty"
        if why:
            faults.append(Broken(str(row.path), why))
    return faults


def left_out(root: str | Path, labels: str = "eight") -> list[Broken]:
    """Pictures without one emotion; contempt too, where seven are asked for."""
    reasons = dict(_NO_EMOTION)
    if labels == "seven":
        reasons["7"] = "contempt, which is none of the seven"
    return [
        Broken(str(row.path), reasons[row.code])
        for row in _rows(Path(root))
        if not row.fault and row.code in reasons
    ]


def open_part(recording: LabelledRecording) -> Recording:
    """One picture, grey, as a recording of one item; of layout (b) the square around the face."""
    import cv2

    data = np.fromfile(recording.path, np.uint8) if recording.path.is_file() else None
    picture = None
    if data is not None and len(data):
        picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise DataError(f"{recording.path}: the picture is missing or damaged")
    if recording.part:
        picture = _face(np.asarray(picture), [int(n) for n in recording.part.split(",")])
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return as_recording(recording, np.asarray(small))


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """Tests on the validation pictures, as all who report on AffectNet do."""
    training = [r.uid for r in recordings if r.groups["set"] == "train"]
    test = tuple(r.uid for r in recordings if r.groups["set"] == "val")
    val = folds(training, 10, 0)[0]
    train = tuple(sorted(set(training) - set(val)))
    name = "AffectNet: tested on its validation pictures (persons unknown, no public test set)"
    return [Split(name, "trial", train, val, test)]


def _labelled(row: _Row, labels: str) -> LabelledRecording:
    subject = f"affectnet-{row.side}-{row.name}"
    told = {"valence": float(row.valence), "arousal": float(row.arousal)}
    return LabelledRecording(
        uid=subject,
        dataset="affectnet",
        subject=subject,
        label=CODES["affectnet"][row.code],
        path=row.path,
        groups={"set": row.side},
        part=row.box,
        options={"labels": labels},
        # -1 to 1 in the files; -2 where nobody could tell
        dimensions={k: (v + 1) / 2 for k, v in told.items()}
        if all(-1 <= v <= 1 for v in told.values())
        else None,
    )


def _rows(root: Path) -> Iterator[_Row]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    for side, (folder, table) in _SETS.items():
        for pattern in ("", "*/"):
            if found := sorted(root.glob(f"{pattern}{folder}/images")):
                yield from _release_2021(side, found[0].parent)
                break
            if found := sorted(root.glob(f"{pattern}{table}")):
                yield from _release_2017(side, found[0])
                break


def _release_2021(side: str, folder: Path) -> Iterator[_Row]:
    names = [path.stem for path in (folder / "images").iterdir() if path.suffix.lower() == ".jpg"]
    for name in sorted(names, key=_natural):
        picture = folder / "images" / f"{name}.jpg"
        notes = folder / "annotations"
        try:
            code, valence, arousal = (_word(notes, name, what) for what in ("exp", "val", "aro"))
        except DataError as error:
            yield _Row(side, name, picture, "", "", "", "", str(error))
        else:
            yield _checked(_Row(side, name, picture, code, valence, arousal, "", ""))


def _word(folder: Path, name: str, what: str) -> str:
    """One annotation, which is a number as text."""
    path = folder / f"{name}_{what}.npy"
    try:
        return str(np.load(path, allow_pickle=False).item())
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"its annotation {path.name} is missing or damaged: {error}") from error


def _release_2017(side: str, table: Path) -> Iterator[_Row]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise DataError(f"{table}:1: no column {', '.join(missing)}")
        for fields in reader:
            where = fields["subDirectory_filePath"].strip()
            box = ",".join(fields[name].strip() for name in _COLUMNS[1:5])
            fault = ""
            if not re.fullmatch(r"\d+,\d+,[1-9]\d*,[1-9]\d*", box):
                fault = f"{table.name}:{reader.line_num}: its face lies at '{box}'"
            path = _pictures(table.parent, where) / where
            name = where.replace("/", "-").rpartition(".")[0]
            code, valence, arousal = (fields[name].strip() for name in _COLUMNS[5:])
            yield _checked(_Row(side, name, path, code, valence, arousal, box, fault))


def _checked(row: _Row) -> _Row:
    """The row, with a fault where valence and arousal are no numbers."""
    try:
        float(row.valence), float(row.arousal)
    except ValueError:
        fault = f"valence '{row.valence}' or arousal '{row.arousal}' is no number"
        return row._replace(fault=row.fault or fault)
    return row


def _pictures(folder: Path, where: str) -> Path:
    """Where the csv's paths begin: its own folder, or one below it."""
    return _base(folder, where.partition("/")[0])


@lru_cache(maxsize=4096)
def _base(folder: Path, first: str) -> Path:
    places = [folder, *(p for deep in _PICTURES_DEEP for p in sorted(folder.glob(deep)))]
    return next((place for place in places if (place / first).exists()), folder)


def _natural(name: str) -> tuple[Any, ...]:
    return (0, int(name), name) if name.isdigit() else (1, 0, name)


def _face(picture: Array, box: list[int]) -> Array:
    """The square of 1.15 longer sides around the centre of a face's box, its border repeated."""
    import cv2

    x, y, width, height = box
    side = max(2, round(_MARGIN * max(width, height)))
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
    right, bottom = left + side - picture.shape[1], top + side - picture.shape[0]
    above, below, before, behind = (max(0, n) for n in (-top, bottom, -left, right))
    wide = cv2.copyMakeBorder(picture, above, below, before, behind, cv2.BORDER_REPLICATE)
    top, left = top + above, left + before
    return np.asarray(wide)[top : top + side, left : left + side]
