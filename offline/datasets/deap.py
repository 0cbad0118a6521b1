"""DEAP: EEG and peripheral signals of 32 people who watch 40 music videos (Koelstra et al. 2012).

Read are the preprocessed files of Python, `s01.dat` to `s32.dat`: per subject 40 trials of 40
channels at 128 Hz, 3 s of rest and then the video. Trials are in the order of the videos. Labels
are the viewer's own ratings of valence and arousal, 1 to 9, cut in two at 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from engine.errors import ConfigError, DataError
from engine.types import Array, StreamInfo
from offline.datasets import Broken, LabelledRecording
from offline.splits import Split, folds
from offline.unpickle import read_pickle
from sources.recording import RecordedStream, Recording

__all__ = [
    "EEG", "LABELS", "LICENCE", "OPTIONS", "PHYSIO", "PRESETS", "RATE_HZ", "REST_ITEMS",
    "broken", "official", "open_part", "recordings",
]  # fmt: skip

LABELS = (
    *("valence-low", "valence-high", "arousal-low", "arousal-high"),
    *("hvha", "hvla", "lvha", "lvla"),
)
LICENCE = "end user licence agreement, signed; research only"
# `threshold`: whether a rating of exactly 5 is high (ge5) or low (gt5); papers differ. `baseline`:
# as it is, or less the mean of the three seconds of rest, second by second (LibEER).
OPTIONS: dict[str, tuple[str, ...]] = {
    "task": ("valence", "arousal", "quadrants"),
    "threshold": ("ge5", "gt5"),
    "baseline": ("none", "subtract_mean_second"),
}
EEG = (
    "Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7", "CP5", "CP1", "P3", "P7", "PO3", "O1",
    "Oz", "Pz", "Fp2", "AF4", "Fz", "F4", "F8", "FC6", "FC2", "Cz", "C4", "T8", "CP6", "CP2",
    "P4", "P8", "PO4", "O2",
)  # fmt: skip
PHYSIO = (
    "hEOG", "vEOG", "zEMG", "tEMG", "GSR", "Respiration", "Plethysmograph", "Temperature",
)  # fmt: skip
RATE_HZ = 128.0
REST_ITEMS = 384  # the 3 s before each video
_SECOND = 128
_NAME = re.compile(r"s(\d+)\.dat", re.IGNORECASE)
_CODES = {"valence": "v2", "arousal": "a2", "quadrants": "va4"}
_SEED = 2024  # LibEER's


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    """One file: `data` (trials, 40, items) float32, `ratings` (trials, valence and arousal)."""

    data: Array
    ratings: Array


def recordings(
    root: str | Path, task: str = "valence", threshold: str = "ge5", baseline: str = "none"
) -> list[LabelledRecording]:
    """The trials of all files below `root`, by subject and video; DataError if there is none."""
    options = {"task": task, "threshold": threshold, "baseline": baseline}
    made = []
    for number, path in _found(Path(root)).items():
        subject = f"deap-{number:02d}"
        for k, (valence, arousal) in enumerate(_load(path).ratings.tolist(), 1):
            trial = f"t{k:02d}"
            made.append(
                LabelledRecording(
                    uid=f"{subject}/{trial}",
                    dataset="deap",
                    subject=subject,
                    label=_label(task, threshold, valence, arousal),
                    path=path,
                    trial=trial,
                    part=trial,
                    options=options,
                    dimensions={"valence": (valence - 1) / 8, "arousal": (arousal - 1) / 8},
                )
            )
    return made


def broken(root: str | Path) -> list[Broken]:
    """The files that cannot be read, with the reason."""
    faults = []
    for path in _found(Path(root)).values():
        try:
            _load(path)
        except DataError as error:
            faults.append(Broken(str(path), str(error).removeprefix(f"{path}: ")))
    return faults


def open_part(recording: LabelledRecording) -> Recording:
    """One video's time: `eeg` (32 channels, uV) and `physio` (8 channels, as the files have them).

    The rest before it is left out, or taken away second by second where `baseline` says so.
    """
    data = _load(recording.path).data
    k = int(recording.part.removeprefix("t"))
    if not 1 <= k <= len(data):
        raise DataError(f"{recording.path}: no trial {k} in it; it has {len(data)}")
    rest, x = data[k - 1, :, :REST_ITEMS], data[k - 1, :, REST_ITEMS:].T
    if recording.options.get("baseline") == "subtract_mean_second":
        second = rest.reshape(len(rest), -1, _SECOND).mean(axis=1, dtype=np.float64)
        x = (x - np.resize(second.T, x.shape)).astype(np.float32)
    streams = []
    for kind, channels, unit, first in (("eeg", EEG, "uV", 0), ("physio", PHYSIO, "", len(EEG))):
        n = len(channels)
        info = StreamInfo(kind, kind, RATE_HZ, channels, unit, (n,))
        part = np.ascontiguousarray(x[:, first : first + n])
        streams.append(RecordedStream(info, len(part), _reader(part)))
    name = f"{recording.path.stem.lower()}-{recording.part}"
    return Recording(name, recording.path, tuple(streams))


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """Leave one video out, as the data set's authors do: the same people on all sides.

    Of the other videos, those that follow the tested one validate: an eighth of all, in a circle.
    """
    videos = sorted({r.part for r in recordings})
    if len(videos) < 3:
        raise ConfigError(f"deap: {len(videos)} videos are too few for train, val and test")
    made = []
    for at, video in enumerate(videos):
        turned = videos[at + 1 :] + videos[:at]
        val = set(turned[: max(1, len(videos) // 8)])
        sides = [{video}, val, set(turned) - val]
        test, held, train = (tuple(r.uid for r in recordings if r.part in side) for side in sides)
        name = f"{_protocol(recordings)}, leave one video out, {video}"
        made.append(Split(name, "trial", train, held, test))
    return made


def _libeer_trial(recordings: Sequence[LabelledRecording]) -> Split:
    """24 trials of each subject train, 8 validate, 8 test, each class dealt out evenly."""
    train: list[str] = []
    val: list[str] = []
    test: list[str] = []
    for subject in sorted({r.subject for r in recordings}):
        labels = {r.uid: r.label for r in recordings if r.subject == subject}
        parts = folds(list(labels), 5, _SEED, labels)
        test += parts[0]
        val += parts[1]
        train += sorted(uid for part in parts[2:] for uid in part)
    name = f"{_protocol(recordings)}, deap-libeer-trial: 60/20/20 % of each subject's trials"
    return Split(f"{name}, seed {_SEED}", "trial", tuple(train), tuple(val), tuple(test))


def _libeer_subject(recordings: Sequence[LabelledRecording]) -> Split:
    """A fifth of the subjects test, rounded down, as many validate, the others train."""
    subjects = sorted({r.subject for r in recordings})
    if len(subjects) < 3:
        raise ConfigError(f"deap: {len(subjects)} subjects are too few for train, val and test")
    drawn = [subjects[i] for i in np.random.default_rng(_SEED).permutation(len(subjects))]
    n = max(1, len(subjects) // 5)
    test, val, train = (
        tuple(sorted(part)) for part in (drawn[:n], drawn[n : 2 * n], drawn[2 * n :])
    )
    name = f"{_protocol(recordings)}, deap-libeer-subject: 60/20/20 % of the subjects, seed {_SEED}"
    return Split(name, "subject", train, val, test)


# LibEER's two protocols, with its shares and seed; which trial is on which side is our own draw.
PRESETS: Mapping[str, Callable[[Sequence[LabelledRecording]], Split]] = {
    "deap-libeer-trial": _libeer_trial,
    "deap-libeer-subject": _libeer_subject,
}


def _protocol(recordings: Sequence[LabelledRecording]) -> str:
    """`deap-v2-ge5`: what is told apart, and by which threshold."""
    options = recordings[0].options
    return f"deap-{_CODES[options['task']]}-{options['threshold']}"


def _label(task: str, threshold: str, valence: float, arousal: float) -> str:
    high_valence, high_arousal = (
        rating > 5 or (rating == 5 and threshold == "ge5") for rating in (valence, arousal)
    )
    if task == "quadrants":
        return f"{'h' if high_valence else 'l'}v{'h' if high_arousal else 'l'}a"
    high = high_valence if task == "valence" else high_arousal
    return f"{task}-{'high' if high else 'low'}"


def _found(root: Path) -> dict[int, Path]:
    """{subject: file}, in order; of two of one subject the first."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found: dict[int, Path] = {}
    for path in sorted(root.rglob("*")):
        if match := _NAME.fullmatch(path.name):
            found.setdefault(int(match[1]), path)
    if not found:
        raise DataError(
            f"{root}: no file of DEAP below this folder; need data_preprocessed_python/s01.dat "
            "to s32.dat"
        )
    return dict(sorted(found.items()))


def _load(path: Path) -> _Subject:
    told = path.stat()
    return _read(path, told.st_mtime_ns, told.st_size)


@lru_cache(maxsize=1)  # a subject is 100 MB in 40 trials: read once for all of them
def _read(path: Path, mtime_ns: int, size: int) -> _Subject:
    content = read_pickle(path)
    if not isinstance(content, dict) or set(content) != {"data", "labels"}:
        have = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: it holds {have[:80]}; need data and labels")
    data, labels = content["data"], content["labels"]
    for key, x, n_axes in (("data", data, 3), ("labels", labels, 2)):
        if not isinstance(x, np.ndarray) or x.ndim != n_axes or x.dtype.kind != "f":
            what = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
            raise DataError(f"{path}: {key} is {what}; need real numbers with {n_axes} axes")
    n, n_channels, n_items = data.shape
    if n < 1 or n_channels != len(EEG) + len(PHYSIO) or n_items <= REST_ITEMS:
        raise DataError(
            f"{path}: data has the shape {data.shape}; need (trials, 40, more than {REST_ITEMS}), "
            "(40, 40, 8064) where nothing was left out"
        )
    if labels.shape != (n, 4) or not np.all((labels[:, :2] >= 1) & (labels[:, :2] <= 9)):
        raise DataError(
            f"{path}: labels {labels.shape}; need ({n}, 4) with valence and arousal from 1 to 9"
        )
    return _Subject(data.astype(np.float32), labels[:, :2].astype(np.float64))


def _reader(x: Array) -> Callable[[int, int], Array]:
    return lambda first, last: x[first:last].copy()
