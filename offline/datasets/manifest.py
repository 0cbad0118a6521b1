"""Any collection of readable files, described by a csv: a row is a recording, or a part of one.

Columns `file,label,subject`, and where they apply `session,trial,start_s,end_s`; all others, such
as gender or age, become groups. Paths are relative to the csv. An empty label says that the file
itself holds the truth.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.errors import DataError
from offline.datasets import Broken, LabelledRecording
from offline.datasets.excerpt import excerpt
from offline.labels import canonical_label
from sources.files import open_recording
from sources.recording import Recording

__all__ = ["LABELS", "LICENCE", "OPTIONS", "broken", "open_part", "recordings"]

LABELS: tuple[str, ...] = ()  # whatever the csv says
LICENCE = "as its owner says"
OPTIONS = {"labels": ("canonical", "any")}  # any: words of its own
_NEEDED = ("file", "label", "subject")
_KNOWN = (*_NEEDED, "session", "trial", "start_s", "end_s")


def recordings(root: str | Path, labels: str = "canonical") -> list[LabelledRecording]:
    """The rows of the csv `root` in their order; raises DataError that names the line at fault."""
    path = Path(root)
    found: dict[str, tuple[LabelledRecording, int]] = {}
    for line, fields in _rows(path):
        try:
            recording = _labelled(path.parent, fields, labels)
        except DataError as error:
            raise DataError(f"{path}:{line}: {error}") from error
        if recording.uid in found:
            raise DataError(
                f"{path}:{line}: the same subject, session and trial as line "
                f"{found[recording.uid][1]}: {recording.uid}; tell them apart in the column trial"
            )
        found[recording.uid] = recording, line
    if not found:
        raise DataError(f"{path}: no row behind the first line")
    return [recording for recording, _ in found.values()]


def broken(root: str | Path) -> list[Broken]:
    """Rows whose file cannot be read, or has nothing where they say."""
    faults = []
    for recording in recordings(root, labels="any"):
        try:
            open_part(recording)
        except DataError as error:
            faults.append(Broken(str(recording.path), str(error)))
    return faults


def open_part(recording: LabelledRecording) -> Recording:
    """The file of a row, or the seconds of it that the row names."""
    opened = open_recording(recording.path)
    if not recording.part:
        return opened
    start, _, end = recording.part.partition(" ")
    name = recording.uid.partition("/")[2].replace("/", "-")
    return excerpt(opened, float(start), float(end), name)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields) of every row."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; a manifest is a csv with {','.join(_NEEDED)}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", restval="")
        try:
            header = [name.strip() for name in reader.fieldnames or ()]
            if missing := [name for name in _NEEDED if name not in header]:
                raise DataError(
                    f"{path}:1: no column {', '.join(missing)}; need {', '.join(_NEEDED)}"
                )
            for row in reader:
                if "" in row:
                    raise DataError(f"{path}:{reader.line_num}: more fields than columns")
                yield reader.line_num, {k.strip(): v.strip() for k, v in row.items()}
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}:{reader.line_num}: no csv: {error}") from error


def _labelled(folder: Path, fields: Mapping[str, str], labels: str) -> LabelledRecording:
    for name in ("file", "subject"):
        if not fields[name]:
            raise DataError(f"the {name} is empty")
    label = fields["label"]
    if label and labels == "canonical":
        canonical_label(label)
    subject = f"manifest-{_part_of_uid(fields['subject'])}"
    session = _part_of_uid(fields.get("session", "")) or None
    part, start = _span(fields), fields.get("start_s", "")
    stem = Path(fields["file"]).stem
    trial = _part_of_uid(fields.get("trial", "") or (f"{stem}-{start}" if part else stem))
    return LabelledRecording(
        uid="/".join(piece for piece in (subject, session, trial) if piece),
        dataset="manifest",
        subject=subject,
        label=label,
        path=folder / fields["file"],
        session=session,
        trial=trial,
        groups={name: value for name, value in fields.items() if name not in _KNOWN and value},
        part=part,
        options={"labels": labels},
    )


def _span(fields: Mapping[str, str]) -> str:
    """Start and end in seconds as one part, empty for the whole file."""
    start, end = fields.get("start_s", ""), fields.get("end_s", "")
    if not start and not end:
        return ""
    try:
        start_s, end_s = float(start or 0), float(end or math.inf)
    except ValueError as error:
        raise DataError(f"start_s '{start}' and end_s '{end}' must be seconds") from error
    if not 0 <= start_s < end_s:
        raise DataError(f"start_s {start_s:g} and end_s {end_s:g}: need 0 <= start_s < end_s")
    return f"{start_s!r} {end_s!r}"


def _part_of_uid(text: str) -> str:
    """Ids of splits are cut at slashes."""
    return text.replace("/", "-")
