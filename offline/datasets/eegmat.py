"""eegmat: EEG of people at rest and then in mental arithmetic (Zyma et al. 2019, PhysioNet).

36 subjects, 19 channels of the 10-20 system and one ECG; `SubjectNN_1` is rest, `SubjectNN_2` the
task, recorded after it. Read are the EDF originals and npz files of the same names.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

from engine.errors import DataError
from offline.datasets import Broken, LabelledRecording
from offline.labels import CODES
from sources.files import open_recording

__all__ = ["CHANNELS", "LABELS", "LICENCE", "broken", "recordings"]

LABELS = tuple(CODES["eegmat"].values())
LICENCE = "ODC-BY 1.0"
CHANNELS = (
    "Fp1", "Fp2", "F3", "F4", "F7", "F8", "T3", "T4", "C3", "C4",
    "T5", "T6", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz",
)  # fmt: skip
_NAME = re.compile(r"Subject(\d+)_([12])\.(edf|npz)", re.IGNORECASE)
_TABLES = ("subject-info.csv", "MANIFEST.csv")
_LEVELS_UP = 3  # how far above the recordings a table of subjects may lie


def recordings(root: str | Path) -> list[LabelledRecording]:
    """The recordings below `root`, by subject, rest before task.

    Where a recording is there as EDF and as npz, the layout that has more recordings counts: no
    subject is read twice. Raises DataError if there is none.
    """
    root = Path(root)
    found = _found(root)
    if not found:
        raise DataError(
            f"{root}: no eegmat recording below this folder; need files like Subject01_1.edf "
            "and Subject01_2.edf (or .npz)"
        )
    genders = _genders(root)
    made = []
    for (number, part), path in sorted(found.items()):
        subject = f"eegmat-{number:02d}"
        gender = genders.get(number)
        made.append(
            LabelledRecording(
                uid=f"{subject}/{part}",
                dataset="eegmat",
                subject=subject,
                label=CODES["eegmat"][str(part)],
                path=path,
                trial=str(part),
                groups={"gender": gender} if gender else {},
            )
        )
    return made


def broken(root: str | Path) -> list[Broken]:
    """What is wrong below `root`: damaged files, lacking channels, missing partners."""
    root = Path(root)
    found = _found(root)
    faults = [Broken(str(path), fault) for path in found.values() if (fault := _fault(path))]
    for number, part in sorted(found):
        if (number, 3 - part) not in found:
            have = found[number, part]
            partner = f"Subject{number:02d}_{3 - part}{have.suffix}"
            faults.append(
                Broken(
                    str(have.with_name(partner)),
                    f"missing: the {LABELS[2 - part]} of {have.name}; without it subject "
                    f"{number:02d} has one class only",
                )
            )
    return sorted(faults, key=lambda fault: fault.file)


def _found(root: Path) -> dict[tuple[int, int], Path]:
    """{(subject, 1 rest or 2 task): file}, in order."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    files = [(match, p) for p in sorted(root.rglob("*")) if (match := _NAME.fullmatch(p.name))]
    layouts = Counter(match[3].lower() for match, _ in files)
    files.sort(key=lambda entry: (-layouts[entry[0][3].lower()], entry[0][3].lower()))
    found: dict[tuple[int, int], Path] = {}
    for match, path in files:
        found.setdefault((int(match[1]), int(match[2])), path)
    return dict(sorted(found.items()))


def _fault(path: Path) -> str:
    """Why a file cannot be used, or nothing."""
    try:
        streams = open_recording(path).streams
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    eeg = [stream for stream in streams if stream.info.kind == "eeg"]
    if not eeg:
        return "holds no EEG"
    # as in 'EEG Fp1', the way the originals spell it
    have = {channel.removeprefix("EEG ") for channel in eeg[0].info.channels}
    missing = [channel for channel in CHANNELS if channel not in have]
    return f"lacks the channels {', '.join(missing)}" if missing else ""


def _genders(root: Path) -> dict[int, str]:
    """{subject: f or m} from PhysioNet's subject-info.csv or a pack's MANIFEST.csv."""
    folder = root.resolve()
    places = [folder, *list(folder.parents)[:_LEVELS_UP]]
    for table in (place / name for place in places for name in _TABLES):
        if not table.is_file():
            continue
        genders: dict[int, str] = {}
        with table.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                fields = {str(key).strip().lower(): str(v).strip() for key, v in row.items()}
                if fields.get("dataset", "eegmat") != "eegmat":
                    continue
                number = re.search(r"\d+", fields.get("subject", ""))
                gender = fields.get("gender", "")[:1].lower()
                if number and gender in ("f", "m"):
                    genders[int(number[0])] = gender
        if genders:
            return genders
    return {}
