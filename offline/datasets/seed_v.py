"""SEED-V: EEG and eye movements of 16 people who watch 45 film clips in three sessions (Liu 2021).

Three forms are read: the EEG itself, `EEG_raw/1_1_20180804.cnt` (subject, session, date); its
differential entropy, `EEG_DE_features/1_123.npz`; eye features, `Eye_movement_features/1_123.npz`.
A recording is one clip. When the clips ran, and what they show, is one table per session.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import BundleError, DataError
from engine.steps.channels import locate
from engine.steps.entropy import BANDS, NATS
from engine.types import Array, StreamInfo
from offline.datasets import Broken, LabelledRecording
from offline.splits import Split
from offline.unpickle import unpickle
from sources.files import open_recording
from sources.npz import read_arrays
from sources.recording import RecordedStream, Recording

__all__ = [
    "CHANNELS", "EYE", "FEATURES", "LABELS", "LICENCE", "OPTIONS", "SESSIONS", "WINDOW_S", "Trial",
    "broken", "official", "open_part", "recordings",
]  # fmt: skip

LABELS = ("disgust", "fear", "sad", "neutral", "happy")  # codes 0 to 4
LICENCE = "end user licence agreement, signed; research only"
OPTIONS: dict[str, tuple[str, ...]] = {"form": ("raw", "de", "eye")}
CHANNELS = (
    "FP1", "FPZ", "FP2", "AF3", "AF4", "F7", "F5", "F3", "F1", "FZ", "F2", "F4", "F6", "F8",
    "FT7", "FC5", "FC3", "FC1", "FCZ", "FC2", "FC4", "FC6", "FT8", "T7", "C5", "C3", "C1", "CZ",
    "C2", "C4", "C6", "T8", "TP7", "CP5", "CP3", "CP1", "CPZ", "CP2", "CP4", "CP6", "TP8", "P7",
    "P5", "P3", "P1", "PZ", "P2", "P4", "P6", "P8", "PO7", "PO5", "PO3", "POZ", "PO4", "PO6",
    "PO8", "CB1", "O1", "OZ", "O2", "CB2",
)  # fmt: skip
FEATURES = tuple(f"{channel} {band}" for channel in CHANNELS for band in BANDS)
EYE = tuple(f"eye {k:02d}" for k in range(1, 34))
WINDOW_S = 4.0  # of the features
_RATE_HZ = 1.0 / WINDOW_S
_TABLE = "trials.csv"
_RAW = re.compile(r"(\d+)_([123])_\d{8}\.cnt", re.IGNORECASE)
_NPZ = re.compile(r"(\d+)_123\.npz", re.IGNORECASE)
_FOLDERS = {"de": "EEG_DE_features", "eye": "Eye_movement_features"}
_LOOK_FOR = {"raw": "EEG_raw/1_1_20180804.cnt"} | {f: f"{n}/1_123.npz" for f, n in _FOLDERS.items()}
_N_TRIALS, _BLOCK = 15, 5


@dataclass(frozen=True, slots=True)
class Trial:
    """When a clip ran within its session's recording, and the code of what it shows."""

    start_s: float
    end_s: float
    code: int

    @property
    def n_windows(self) -> int:
        """How many whole feature windows it has."""
        return int((self.end_s - self.start_s) // WINDOW_S)


def _session(starts: str, ends: str, codes: str) -> tuple[Trial, ...]:
    rows = zip(starts.split(), ends.split(), codes.split(), strict=True)
    return tuple(Trial(float(start), float(end), int(code)) for start, end, code in rows)


# The data set's own times; each block of five clips holds every emotion once.
SESSIONS = (
    _session(
        "30 132 287 555 773 982 1271 1628 1730 2025 2227 2435 2667 2932 3204",
        "102 228 524 742 920 1240 1568 1697 1994 2166 2401 2607 2901 3172 3359",
        "4 1 3 2 0 4 1 3 2 0 4 1 3 2 0",
    ),
    _session(
        "30 299 548 646 836 1000 1091 1392 1657 1809 1966 2186 2333 2490 2741",
        "267 488 614 773 967 1059 1331 1622 1777 1908 2153 2302 2428 2709 2817",
        "2 1 3 0 4 4 0 3 2 1 3 4 1 2 0",
    ),
    _session(
        "30 353 478 674 825 908 1200 1346 1451 1711 2055 2307 2457 2726 2888",
        "321 418 643 764 877 1147 1284 1418 1679 1996 2275 2425 2664 2857 3066",
        "2 1 3 0 4 4 0 3 2 1 3 4 1 2 0",
    ),
)


def recordings(root: str | Path, form: str = "raw") -> list[LabelledRecording]:
    """The clips of one form below `root`, by subject, session and clip.

    A `trials.csv` beside the .cnt files (session, trial, start_s, end_s, label) replaces the data
    set's times: for recordings with another time table. Raises DataError if there is nothing.
    """
    root = Path(root)
    found = _found(root, form)
    if not found:
        others = [other for other in OPTIONS["form"] if _found(root, other)]
        hint = f"; there are files of the form {', '.join(others)}" if others else ""
        raise DataError(
            f"{root}: no SEED-V recording of the form {form} below this folder; need files like "
            f"{_LOOK_FOR[form]}{hint}"
        )
    made = []
    for (number, session), path in found.items():
        for trial, row in _trials(path, session).items():
            subject = f"seed-v-{number:02d}"
            part = f"s{session}/t{trial:02d}"
            made.append(
                LabelledRecording(
                    uid=f"{subject}/{part}",
                    dataset="seed-v",
                    subject=subject,
                    label=LABELS[row.code],
                    path=path,
                    session=f"s{session}",
                    trial=f"t{trial:02d}",
                    part=part,
                    options={"form": form},
                )
            )
    return made


def broken(root: str | Path) -> list[Broken]:
    """What is wrong with the files of all three forms: damage, channels, counts and labels."""
    faults: dict[Path, str] = {}
    for form in OPTIONS["form"]:
        for (_, session), path in _found(Path(root), form).items():
            try:
                if form == "raw":
                    for trial in _trials(path, session):
                        _open_raw(path, session, trial)
                else:
                    _check_counts(path, _features(path), session)
            except DataError as error:
                faults.setdefault(path, str(error).removeprefix(f"{path}: "))
    return [Broken(str(path), reason) for path, reason in faults.items()]


def open_part(recording: LabelledRecording) -> Recording:
    """One clip: raw, 62 channels of EEG in uV, of which only what is asked for is read; features,
    one item every 4 s: 310 of differential entropy (`eeg`), or 33 of the eyes (`eye`)."""
    session, trial = (int(digits) for digits in re.findall(r"\d+", recording.part))
    form = recording.options.get("form", OPTIONS["form"][0])
    path = recording.path
    if form == "raw":
        return _open_raw(path, session, trial)
    data, _ = _features(path)
    x = data[(session - 1) * _N_TRIALS + trial - 1]
    if form == "de":
        info = StreamInfo("eeg", "eeg", _RATE_HZ, FEATURES, NATS, (len(FEATURES),))
    else:
        info = StreamInfo("eye", "physio", _RATE_HZ, EYE, "", (len(EYE),))
    stream = RecordedStream(info, len(x), lambda first, last: x[first:last].astype(np.float32))
    return Recording(_name(path, session, trial), path, (stream,))


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """The three folds: fold p tests the clips 5p to 5p + 4 of all sessions, of every subject.

    They say nothing of validation: it is the next block's clips of one session, each emotion once,
    and those are not trained on.
    """
    made = []
    for p in range(_N_TRIALS // _BLOCK):
        q = (p + 1) % (_N_TRIALS // _BLOCK)
        sides: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for r in recordings:
            session, trial = (int(digits) for digits in re.findall(r"\d+", r.part))
            block = (trial - 1) // _BLOCK
            held = block == q and session == p + 1
            sides["test" if block == p else "val" if held else "train"].append(r.uid)
        name = (
            f"seed-v official 3-fold (the same subjects on all sides), fold {p}: clips "
            f"{_BLOCK * p + 1}-{_BLOCK * p + _BLOCK} tested, "
            f"{_BLOCK * q + 1}-{_BLOCK * q + _BLOCK} of session {p + 1} validate"
        )
        train, val, test = (tuple(sides[side]) for side in ("train", "val", "test"))
        made.append(Split(name, "trial", train, val, test))
    return made


def _found(root: Path, form: str) -> dict[tuple[int, int], Path]:
    """{(subject, session): file}, in order; a file of features stands for all three sessions."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found: dict[tuple[int, int], Path] = {}
    for path in sorted(root.rglob("*")):
        if form == "raw":
            if match := _RAW.fullmatch(path.name):
                found.setdefault((int(match[1]), int(match[2])), path)
        elif (match := _NPZ.fullmatch(path.name)) and path.parent.name == _FOLDERS[form]:
            for session in range(1, len(SESSIONS) + 1):
                found.setdefault((int(match[1]), session), path)
    return dict(sorted(found.items()))


def _trials(path: Path, session: int) -> dict[int, Trial]:
    """{number from 1: trial} of a session: the data set's own, or those of a table beside it."""
    table = path.with_name(_TABLE)
    if path.suffix.lower() != ".cnt" or not table.is_file():
        return dict(enumerate(SESSIONS[session - 1], 1))
    trials = {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        for n, row in enumerate(csv.DictReader(file), 2):
            try:
                times = float(row["start_s"]), float(row["end_s"])
                if not 0 <= times[0] < times[1] < float("inf"):
                    raise ValueError("need 0 <= start_s < end_s")
                if int(row["session"]) == session:
                    trials[int(row["trial"])] = Trial(*times, LABELS.index(row["label"]))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{table}:{n}: {error}; need session, trial, start_s, end_s and a label of "
                    f"{', '.join(LABELS)}"
                ) from error
    return dict(sorted(trials.items()))


def _open_raw(path: Path, session: int, trial: int) -> Recording:
    opened = open_recording(path)
    (stream,) = opened.streams
    try:
        columns = locate(CHANNELS, stream.info, {})
    except BundleError as error:
        raise DataError(f"{path}: {error}") from error
    row = _trials(path, session).get(trial)
    if row is None:
        raise DataError(f"{path}: no trial {trial} of session {session} in {_TABLE} beside it")
    assert stream.info.rate_hz is not None
    first, last = (round(t * stream.info.rate_hz) for t in (row.start_s, row.end_s))
    if last > stream.n_items:
        raise DataError(
            f"{path}: trial {trial} ends at {row.end_s:g} s, the file at {stream.end_s:g} s; it "
            f"was cut off, or needs its own times in a {_TABLE} beside it"
        )
    info = StreamInfo("eeg", "eeg", stream.info.rate_hz, CHANNELS, "uV", (len(CHANNELS),))
    start = None if opened.start_wall is None else opened.start_wall + row.start_s
    part = RecordedStream(info, last - first, _stretch(stream, first, columns))
    return Recording(_name(path, session, trial), path, (part,), start_wall=start)


def _stretch(stream: RecordedStream, at: int, columns: list[int]) -> Callable[[int, int], Array]:
    return lambda first, last: stream.read(at + first, at + last)[:, columns]


def _features(path: Path) -> tuple[dict[int, Array], dict[int, Array]]:
    told = path.stat()
    return _unpickled(path, told.st_mtime_ns, told.st_size)


@lru_cache(maxsize=2)  # 45 clips in one file; EEG and eyes may be read in turn
def _unpickled(path: Path, mtime_ns: int, size: int) -> tuple[dict[int, Array], dict[int, Array]]:
    """{number of clip from 0: features (windows, n)}, and {number: codes (windows,)}."""
    arrays = read_arrays(path)
    if set(arrays) != {"data", "label"}:
        raise DataError(f"{path}: it holds {', '.join(arrays)}; need data and label")
    n = len(FEATURES) if path.parent.name == _FOLDERS["de"] else len(EYE)
    data, label = (_numbered(path, key, arrays[key]) for key in ("data", "label"))
    made = {}
    for k, x in data.items():
        codes = label[k]
        if x.ndim not in (2, 3) or x.size != len(x) * n or not len(x) or codes.shape != (len(x),):
            raise DataError(
                f"{path}: clip {k}: data {x.shape} with labels {codes.shape}; need (windows, {n}) "
                "and a label for each window"
            )
        made[k] = x.reshape(len(x), n)
    return made, label


def _numbered(path: Path, key: str, packed: Array) -> dict[int, Array]:
    """One of the two pickles: {0 to 44: array of numbers}."""
    if packed.dtype.kind != "S" or packed.ndim != 0:
        raise DataError(f"{path}: {key} is {packed.dtype} {packed.shape}; need a pickle as bytes")
    content: Any = unpickle(packed.item(), f"{path}: {key}")
    wanted = list(range(len(SESSIONS) * _N_TRIALS))
    if not isinstance(content, dict) or not all(type(k) is int for k in content):
        raise DataError(f"{path}: {key} is no dict of clips; need the numbers 0 to {wanted[-1]}")
    missing = sorted(set(wanted) ^ set(content))
    if missing or not all(isinstance(x, np.ndarray) for x in content.values()):
        raise DataError(
            f"{path}: {key} has {len(content)} entries; need an array for each clip 0 to "
            f"{wanted[-1]}{f', {missing[0]} does not fit' if missing else ''}"
        )
    return {k: content[k] for k in wanted}


def _check_counts(
    path: Path, content: tuple[dict[int, Array], dict[int, Array]], session: int
) -> None:
    """Raise DataError where windows or labels are not those of the session's table."""
    data, label = content
    for k, row in enumerate(SESSIONS[session - 1], (session - 1) * _N_TRIALS):
        if len(data[k]) != row.n_windows:
            raise DataError(f"{path}: clip {k} has {len(data[k])} windows, not {row.n_windows}")
        if not np.all(label[k] == row.code):
            told = ", ".join(f"{code:g}" for code in np.unique(label[k])[:4])
            raise DataError(f"{path}: clip {k} is labelled {told}, not {row.code}")


def _name(path: Path, session: int, trial: int) -> str:
    return f"s{path.stem.partition('_')[0]}-s{session}-t{trial:02d}"
