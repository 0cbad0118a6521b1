"""A recording as a BIDS data set: EEG as EDF, physiology as tables, predictions as derivatives.

Source of names and keys: the Brain Imaging Data Structure, version 1.10.0.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.errors import ResourceError
from engine.types import Marker, Prediction
from engine.version import __version__
from sinks.export.edf import gathered, write_edf
from sinks.export.recorded import Recorded
from sinks.export.sheets import Sheet

__all__ = ["bids"]

Onset = Callable[[float], float]  # engine seconds to seconds of the raw file

_VERSION = "1.10.0"
_TASK = "emotion"
_UNITS = {"degC": "oC", "au": "n/a", "fs": "n/a"}
_ALNUM = re.compile(r"[^A-Za-z0-9]+")
_VOLTS = ("V", "mV", "uV")
_README = """\
Exported from recordings of vagus {version}. Onsets are seconds from the first sample of the file
that an events file belongs to, counted by its own sample clock; without one, from where the
recording began. What was lost of an EEG is filled
with zeros and annotated BAD_ACQ_SKIP in its EDF file; in physiological tables it is n/a.
`derivatives/vagus` holds the predictions, each at the END of the window that it was made from.
"""


def bids(recorded: Recorded, root: Path) -> list[Path]:
    """Add `recorded` to the data set at `root`, which is begun where there is none.

    The subject is the session's name, the BIDS session its start in UTC. A recording without EEG
    and physiology has its events and predictions, counted from where it began. Returns the files
    of this recording. Raises ResourceError where these are there already.
    """
    streams, _ = gathered(recorded, ("eeg", "physio"))
    said = list(recorded.said())
    subject, session = _ALNUM.sub("", recorded.header.session) or "1", _when(recorded)
    kind = "eeg" if any(info.kind == "eeg" for info, _ in streams) else "beh"
    folder = root / f"sub-{subject}" / f"ses-{session}" / kind
    if folder.exists():
        raise ResourceError(f"{folder} exists: this recording is in the data set already")
    folder.mkdir(parents=True)
    place = _Place(root, folder, f"sub-{subject}_ses-{session}_task-{_TASK}")
    n_eeg = sum(info.kind == "eeg" for info, _ in streams)
    base: Sheet | None = None
    for info, found in sorted(streams, key=lambda one: one[0].kind != "eeg"):
        for k, sheet in enumerate(found, 1):
            run = f"_run-{k}" if len(found) > 1 else ""
            base = base or sheet
            if info.kind == "eeg":
                more = f"_acq-{_ALNUM.sub('', info.name)}" if n_eeg > 1 else ""
                _eeg(place, f"{more}{run}", sheet, recorded, said)
            else:
                more = f"{run}_recording-{_ALNUM.sub('', info.name)}"
                _physio(place, more, sheet, base)
    onset_s = _since(recorded.header.origin_s) if base is None else base.onset_s
    if kind == "beh":
        _events(place, "", onset_s, said)
    _predictions(place, recorded, onset_s, said)
    _describe(root, f"sub-{subject}", recorded)
    return place.written


class _Place:
    """Where the files of one recording go, and what they begin with."""

    def __init__(self, root: Path, folder: Path, stem: str) -> None:
        self.root, self.folder, self._stem = root, folder, stem
        self.written: list[Path] = []

    def path(self, suffix: str) -> Path:
        """The path of a raw file."""
        return self._noted(self.folder / f"{self._stem}{suffix}")

    def derived(self, suffix: str) -> Path:
        """The path of a derived one."""
        folder = self.root / "derivatives" / "vagus" / self.folder.relative_to(self.root)
        folder.mkdir(parents=True, exist_ok=True)
        return self._noted(folder / f"{self._stem}{suffix}")

    def _noted(self, path: Path) -> Path:
        self.written.append(path)
        return path


def _eeg(place: _Place, more: str, sheet: Sheet, recorded: Recorded, said: Sequence[Any]) -> None:
    header = recorded.header
    marks = [(m.t, m.value) for m in said if isinstance(m, Marker)]
    write_edf(sheet, place.path(f"{more}_eeg.edf"), marks, header.session, header.wall_offset_s)
    told = {
        "TaskName": _TASK,
        "EEGReference": "unknown",
        "SamplingFrequency": sheet.rate_hz,
        "PowerLineFrequency": "n/a",
        "SoftwareFilters": "n/a",
        "EEGChannelCount": len(sheet.info.channels),
        "RecordingDuration": sheet.length_s,
        "RecordingType": "continuous",
    }
    _json(place.path(f"{more}_eeg.json"), told)
    rows = [(name, "EEG", _UNITS.get(sheet.info.unit, sheet.info.unit), repr(sheet.rate_hz))
            for name in sheet.info.channels]  # fmt: skip
    _tsv(place.path(f"{more}_channels.tsv"), ("name", "type", "units", "sampling_frequency"), rows)
    _events(place, more, sheet.onset_s, said, sheet.length_s)


def _physio(place: _Place, more: str, sheet: Sheet, base: Sheet) -> None:
    info = sheet.info
    told: dict[str, Any] = {
        "SamplingFrequency": sheet.rate_hz,
        "StartTime": round(base.onset_s(sheet.start_s), 6),
        "Columns": list(info.channels),
    }
    told |= {name: {"Units": _UNITS.get(info.unit, info.unit)} for name in info.channels}
    _json(place.path(f"{more}_physio.json"), told)
    rows = io.StringIO()
    out = csv.writer(rows, delimiter="\t", lineterminator="\n")
    for values, valid in zip(sheet.data.tolist(), sheet.valid.tolist(), strict=True):
        out.writerow(values if valid else ["n/a"] * len(values))  # such tables have no head
    packed = gzip.compress(rows.getvalue().encode(), mtime=0)
    place.path(f"{more}_physio.tsv.gz").write_bytes(packed)


def _since(origin_s: float) -> Onset:
    return lambda t_s: t_s - origin_s


def _events(
    place: _Place, more: str, onset: Onset, said: Sequence[Any], length_s: float | None = None
) -> None:
    """The markers of the file's `length_s`, or all of them."""
    rows = []
    for message in said:
        if isinstance(message, Marker):
            onset_s = onset(message.t)
            if length_s is None or 0 <= onset_s <= length_s:
                rows.append((f"{onset_s:.6f}", "n/a", message.value, message.stream))
    _tsv(place.path(f"{more}_events.tsv"), ("onset", "duration", "trial_type", "stream"), rows)
    told = {
        "trial_type": {"Description": "what the marker said"},
        "stream": {"Description": "which stream of markers it came from"},
    }
    _json(place.path(f"{more}_events.json"), told)


def _predictions(place: _Place, recorded: Recorded, onset: Onset, said: Sequence[Any]) -> None:
    labels = recorded.labels()
    columns = ("onset", "duration", "label", "confidence", *(f"p_{x}" for x in labels), "truth")
    rows = []
    for message in said:
        if isinstance(message, Prediction):
            p = message.probabilities or {}
            cells = (message.label, message.confidence, *(p.get(x) for x in labels), message.truth)
            rows.append((f"{onset(message.t):.6f}", "n/a", *map(_cell, cells)))
    _tsv(place.derived("_desc-predictions_events.tsv"), columns, rows)
    told = {
        "onset": {"Description": "the end of the window that the prediction was made from",
                  "Units": "s"},
        "label": {"Description": "the likeliest label; n/a where the engine abstained"},
        "confidence": {"Description": "the largest probability, calibrated"},
        "Bundles": dict(recorded.header.bundles),
    }  # fmt: skip
    told |= {f"p_{x}": {"Description": f"the probability of {x}"} for x in labels}
    _json(place.derived("_desc-predictions_events.json"), told)


def _describe(root: Path, subject: str, recorded: Recorded) -> None:
    """What stands once in a data set, and who is in it."""
    made = {"GeneratedBy": [{"Name": "vagus", "Version": __version__}], "BIDSVersion": _VERSION}
    for folder, name, kind in (
        (root, "vagus recordings", "raw"),
        (root / "derivatives" / "vagus", "vagus predictions", "derivative"),
    ):
        path = folder / "dataset_description.json"
        if not path.exists():
            _json(path, {"Name": name, "DatasetType": kind, **made})
    readme = root / "README"
    if not readme.exists():
        readme.write_text(_README.format(version=__version__), encoding="utf-8")
    people = root / "participants.tsv"
    known = people.read_text(encoding="utf-8").split() if people.exists() else []
    if subject not in known:
        rows = [(name,) for name in sorted({*known[1:], subject})]
        _tsv(people, ("participant_id",), rows)


def _when(recorded: Recorded) -> str:
    """The BIDS session: the start in UTC, or 001 without a wall clock."""
    wall_s = recorded.header.started_wall
    return (
        "001" if wall_s is None else datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%S")
    )


def _cell(value: Any) -> Any:
    return "n/a" if value is None else value


def _json(path: Path, told: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _tsv(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, delimiter="\t", lineterminator="\n")
        out.writerow(head)
        out.writerows(rows)
