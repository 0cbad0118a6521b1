"""Stress-Predict: wrist physiology of people at rest and under stress tasks (Iqbal et al. 2022).

One folder a subject, `S02`, with the files of an Empatica E4, each as .csv or .csv.gz: the first
row is its start in Unix seconds, the second its rate in hertz. `labels.csv` has a label for every
second, 1 in a stress task and 0 in a baseline. HR.csv is not read: the wristband computes it out
of the pulse wave, and it begins ten seconds late.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from engine.errors import DataError
from engine.types import Array, StreamInfo
from offline.datasets import Broken, LabelledRecording
from offline.labels import CODES
from sources.recording import RecordedStream, Recording

__all__ = ["LABELS", "LICENCE", "OPTIONS", "broken", "left_out", "open_part", "recordings"]

LABELS = tuple(CODES["stress-predict"].values())
LICENCE = "MIT"
OPTIONS: dict[str, tuple[str, ...]] = {}
_SUBJECT = re.compile(r"S(\d+)")


class _Sensor(NamedTuple):
    """One file of the wristband; its numbers times `scale` are in `unit`."""

    file: str
    channels: tuple[str, ...]
    unit: str
    scale: float = 1.0


_SENSORS = {
    "bvp": _Sensor("BVP", ("BVP",), "au"),
    "eda": _Sensor("EDA", ("EDA",), "uS"),
    "acc": _Sensor("ACC", ("x", "y", "z"), "g", 1 / 64),
    "temp": _Sensor("TEMP", ("TEMP",), "degC"),
}
_NEEDED = ("bvp", "eda", "temp")  # few wristbands gave their acceleration
_LABELS_FILE = "labels"
_DAMAGED = (OSError, EOFError, zlib.error, ValueError)  # what reading was seen to raise


class _Track(NamedTuple):
    start_s: float  # Unix
    rate_hz: float
    data: Array  # (time, channels) float32


def recordings(root: str | Path) -> list[LabelledRecording]:
    """A recording of each subject below `root` that has labels; raises DataError if none has."""
    found = [
        LabelledRecording(
            uid=f"stress-predict-{folder.name}/1",
            dataset="stress-predict",
            subject=f"stress-predict-{folder.name}",
            label="",
            path=pulse,
            trial="1",
        )
        for folder in _folders(Path(root))
        if _file(folder, _LABELS_FILE) and (pulse := _file(folder, "BVP"))
    ]
    if not found:
        raise DataError(
            f"{root}: no Stress-Predict recording below this folder; need folders like S02 with "
            "BVP.csv.gz, EDA.csv.gz, TEMP.csv.gz and labels.csv.gz"
        )
    return found


def broken(root: str | Path) -> list[Broken]:
    """Files that are damaged or missing, of the subjects that have labels."""
    faults = []
    for folder in _folders(Path(root)):
        if _file(folder, _LABELS_FILE) is None:
            continue
        for name, sensor in _SENSORS.items():
            path = _file(folder, sensor.file)
            if path is None and name in _NEEDED:
                faults.append(Broken(str(folder / f"{sensor.file}.csv"), "missing"))
            elif path is not None:
                faults += _tried(path, name)
        faults += _tried(folder, _LABELS_FILE)
    return faults


def left_out(root: str | Path) -> list[Broken]:
    """Subjects without labels."""
    return [
        Broken(str(folder), "has no labels")
        for folder in _folders(Path(root))
        if _file(folder, _LABELS_FILE) is None
    ]


def open_part(recording: LabelledRecording) -> Recording:
    """The sensors of one subject as streams of one clock, each with its truth."""
    folder = recording.path.parent
    tracks = {}
    for name, sensor in _SENSORS.items():
        path = _file(folder, sensor.file)
        if path is not None:
            tracks[name] = _track(path, sensor)
        elif name in _NEEDED:
            raise DataError(f"{folder}: no {sensor.file}.csv or {sensor.file}.csv.gz in it")
    start_s = min(track.start_s for track in tracks.values())
    changes = _changes(folder)
    streams = tuple(_stream(name, track, start_s, changes) for name, track in tracks.items())
    return Recording(folder.name, folder, streams, start_wall=start_s)


def _stream(
    name: str, track: _Track, start_s: float, changes: list[tuple[float, str | None]]
) -> RecordedStream:
    sensor, data, rate_hz = _SENSORS[name], track.data, track.rate_hz
    truth: dict[int, str | None] = {0: None}
    for at_s, label in changes:  # the last of those before the first item holds from it on
        position = math.ceil(round((at_s - track.start_s) * rate_hz, 6))
        if position < len(data):
            truth[max(0, position)] = label
    return RecordedStream(
        StreamInfo(name, "physio", rate_hz, sensor.channels, sensor.unit, data.shape[1:]),
        len(data),
        lambda first, last: data[first:last].copy(),
        (np.array([0]), np.array([track.start_s - start_s])),
        tuple(truth.items()),
    )


def _changes(folder: Path) -> list[tuple[float, str | None]]:
    """((Unix seconds, label), ...): from there on; None where no second is labelled."""
    path = _file(folder, _LABELS_FILE)
    if path is None:
        raise DataError(f"{folder}: no labels.csv or labels.csv.gz in it")
    changes: list[tuple[float, str | None]] = []
    end_s: float | None = None
    with _opened(path) as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                at_s, code = float(row["unix_s"]), row["label"]
                if code not in CODES["stress-predict"]:
                    raise DataError(f"{path}:{reader.line_num}: the label '{code}' is not 0 or 1")
                if end_s is not None and at_s > end_s:
                    changes.append((end_s, None))
                label = CODES["stress-predict"][code]
                if not changes or changes[-1][1] != label:
                    changes.append((at_s, label))
                end_s = at_s + 1.0
        except KeyError as error:
            raise DataError(f"{path}:1: no column {error}; need unix_s and label") from error
        except (*_DAMAGED, TypeError) as error:
            raise DataError(f"{path}:{reader.line_num}: damaged: {error}") from error
    if end_s is None:
        raise DataError(f"{path}: no second is labelled in it")
    return [*changes, (end_s, None)]


def _track(path: Path, sensor: _Sensor) -> _Track:
    try:
        with _opened(path) as file:
            head = np.array([_numbers(next(file, "")) for _ in range(2)])
            data = np.loadtxt(file, np.float32, delimiter=",", ndmin=2)
    except _DAMAGED as error:
        raise DataError(f"{path}: damaged: {error}") from error
    n_channels = len(sensor.channels)
    if head.shape != (2, n_channels) or data.shape[1] != n_channels or not len(data):
        raise DataError(
            f"{path}: rows of {data.shape[1]} behind a head {head.shape}; need a row with the "
            f"start, one with the rate, then items of {n_channels}"
        )
    start_s, rate_hz = (float(value) for value in head[:, 0])
    if not 0 < rate_hz < math.inf:
        raise DataError(f"{path}:2: the rate is {rate_hz:g} Hz; need one above 0")
    return _Track(start_s, rate_hz, data * np.float32(sensor.scale))


def _tried(path: Path, what: str) -> list[Broken]:
    """What reading a sensor's file, or a folder's labels, raises."""
    try:
        if what == _LABELS_FILE:
            _changes(path)
        else:
            _track(path, _SENSORS[what])
    except DataError as error:
        return [Broken(str(path), str(error).removeprefix(f"{path}: "))]
    return []


def _folders(root: Path) -> list[Path]:
    """The subjects' folders by number; `root` may be one."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = [
        path
        for path in [root, *root.rglob("S*")]
        if _SUBJECT.fullmatch(path.name) and path.is_dir() and _file(path, "BVP") is not None
    ]
    return sorted(found, key=lambda path: (int(path.name[1:]), str(path)))


def _file(folder: Path, name: str) -> Path | None:
    places = (folder / f"{name}.csv", folder / f"{name}.csv.gz")
    return next((path for path in places if path.is_file()), None)


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _numbers(line: str) -> list[float]:
    return [float(piece) for piece in line.split(",")]
