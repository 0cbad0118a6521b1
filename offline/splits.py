"""Who is trained on, validated on, tested on: disjoint groups, written down with a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError, DataError
from engine.plugins import nearest
from offline.datasets import LabelledRecording

__all__ = [
    "LEAKY",
    "UNITS",
    "Split",
    "folds",
    "hash_files",
    "leaks",
    "level",
    "make",
    "read_part",
    "read_split",
    "window_id",
    "write_split",
]

PARTS = ("train", "val", "test")
LEAKY = "leaky-random"
UNITS = ("official", "trial", "session", "subject", "loso", "cross-corpus", LEAKY)
_DEPTH = {"subject": 1, "session": 2, "trial": 3}  # parts of an id that name it; others: all
_CROSS = "cross-corpus"
_AT = "@"  # between a recording and the end of one of its windows


@dataclass(frozen=True, slots=True)
class Split:
    """Group ids on three sides; `files` is {recording: SHA-256 of its content} for all of them.

    An id is `subject`, or `subject/session/trial` as far as the unit asks; where windows are split
    at random it is that of a window.
    """

    protocol: str
    unit: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    _sides: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sides = {group: part for part in reversed(PARTS) for group in getattr(self, part)}
        object.__setattr__(self, "_sides", sides)

    @property
    def hash(self) -> str:
        """SHA-256 of the split as JSON (Python's default separators), keys sorted."""
        return _hash(self._document())

    def part_of(self, recording: LabelledRecording) -> str | None:
        """Which side a recording is on; None if on none of them."""
        return _side(self, recording.uid)

    def parts_of(self, uids: Iterable[str], ends_s: Iterable[float]) -> list[str | None]:
        """Which side each window is on, by its recording and its end in seconds."""
        if self.unit == LEAKY:
            ids = map(window_id, uids, ends_s)
            return [self._sides.get(i) for i in ids]
        known: dict[str, str | None] = {}
        return [known[u] if u in known else known.setdefault(u, _side(self, u)) for u in uids]

    def _document(self) -> dict[str, Any]:
        sides = {part: list(getattr(self, part)) for part in PARTS}
        return {
            "protocol": self.protocol, "unit": self.unit, **sides, "files": dict(self.files)
        }  # fmt: skip


def window_id(uid: str, end_s: float) -> str:
    """The name of one window: its recording, and when it ends."""
    return f"{uid}{_AT}{end_s:.3f}"


def folds(
    groups: Sequence[str], k: int, seed: int, kinds: Mapping[str, str] | None = None
) -> list[tuple[str, ...]]:
    """`k` disjoint parts of the distinct `groups`, as equal in size as can be, drawn by `seed`.

    `kinds` {group: kind} spreads each kind evenly over the parts. The order of `groups` does not
    matter. Raises ConfigError for less than 2 or too many parts.
    """
    distinct = sorted(set(groups))
    if not 2 <= k <= len(distinct):
        raise ConfigError(f"{k} folds do not fit {len(distinct)} groups; need 2 to {len(distinct)}")
    drawn = [distinct[i] for i in np.random.default_rng(seed).permutation(len(distinct))]
    if kinds is not None:  # dealt like cards, kind after kind
        drawn.sort(key=lambda group: kinds[group])
    return [tuple(sorted(drawn[part::k])) for part in range(k)]


def level(split: Split) -> str:
    """Its rung on the ladder of leaks: L0 windows at random, L1 trials apart, L2 sessions, L3
    subjects, L4 data sets."""
    known = {LEAKY: "L0", "session": "L2", "subject": "L3"}
    return "L4" if split.protocol.startswith(_CROSS) else known.get(split.unit, "L1")


def make(
    unit: str,
    recordings: Sequence[LabelledRecording],
    *,
    n_folds: int = 5,
    seed: int = 0,
    val: float = 0.2,
    windows: Sequence[str] = (),
) -> list[Split]:
    """The splits of `recordings` whose sides share no `unit`, each with train, val and test.

    `official` gives those of the data set's documents, `official:2` the one numbered 2, from 0,
    `official:deap-libeer-trial` one of that name that others have published with. `loso` tests each
    subject once, `cross-corpus` each data set; `trial`, `session` and `subject` have `n_folds`
    folds drawn by `seed`. Validation is the share `val` of the groups that are not tested.
    `leaky-random` deals out the ids of `windows`, whatever they are cut from. `files` stays empty:
    see `hash_files`. Raises ConfigError for a unit that the recordings do not have.
    """
    name, colon, number = unit.partition(":")
    if name == "official":
        made = _official(recordings, number)
    elif colon or name not in UNITS:
        hint = nearest(name, UNITS) or f"; known: {', '.join(UNITS)}"
        raise ConfigError(f"split.unit: '{unit}' is no unit of a split{hint}")
    elif name == "cross-corpus":
        made = _cross_corpus(recordings, seed, val)
    elif name == LEAKY:
        made = _kfold(LEAKY, windows, None, n_folds, seed, val)
    else:
        made = _by_group(name, recordings, n_folds, seed, val)
    return made


def _by_group(
    unit: str, recordings: Sequence[LabelledRecording], n_folds: int, seed: int, val: float
) -> list[Split]:
    """K folds over subjects, sessions or trials; sessions and trials of everybody on all sides."""
    depth = "subject" if unit == "loso" else unit
    if unit == "session" and any(recording.session is None for recording in recordings):
        names = ", ".join(sorted({r.dataset for r in recordings if r.session is None}))
        raise ConfigError(f"split.unit: session: {names} tells no sessions; take trial or subject")
    kinds = None
    if unit == "session":
        kinds = {_group(r.uid, unit): r.subject for r in recordings}
    elif unit == "trial":
        kinds = {_group(r.uid, unit): f"{r.subject} {r.label}" for r in recordings}
    groups = sorted({_group(r.uid, depth) for r in recordings})
    k = len(groups) if unit == "loso" else n_folds
    return _kfold(unit, groups, kinds, k, seed, val)


def _kfold(
    unit: str,
    groups: Sequence[str],
    kinds: Mapping[str, str] | None,
    k: int,
    seed: int,
    val: float,
) -> list[Split]:
    if len(set(groups)) < 3:
        raise ConfigError(
            f"split.unit: {unit}: {len(set(groups))} groups are too few for train, val and test; "
            "need 3 or more"
        )
    words = {
        "loso": "leave one subject out",
        LEAKY: f"leaky-random {k}-fold: windows that overlap stand on both sides",
    }
    protocol = words.get(unit, f"{unit} {k}-fold")
    if kinds is not None:
        protocol += " (the same subjects on all sides)"
    made = []
    for i, test in enumerate(folds(groups, k, seed, kinds)):
        train, held = _hold_out(sorted(set(groups) - set(test)), seed + i, val, kinds)
        name = f"{protocol}, seed {seed}, fold {i}"
        made.append(Split(name, "subject" if unit == "loso" else unit, train, held, test))
    return made


def _hold_out(
    groups: Sequence[str], seed: int, share: float, kinds: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(train, val) of groups that are not tested."""
    k = min(len(groups), max(2, round(1 / share)))
    val = folds(groups, k, seed, kinds)[0]
    return tuple(sorted(set(groups) - set(val))), val


def _cross_corpus(recordings: Sequence[LabelledRecording], seed: int, val: float) -> list[Split]:
    corpora = sorted({recording.dataset for recording in recordings})
    if len(corpora) < 2:
        raise ConfigError(
            f"split.unit: cross-corpus: there is only {corpora[0]}; name more under `dataset:`"
        )
    made = []
    for tested in corpora:
        test = sorted({r.subject for r in recordings if r.dataset == tested})
        rest = sorted({r.subject for r in recordings} - set(test))
        train, held = _hold_out(rest, seed, val)
        others = ", ".join(corpus for corpus in corpora if corpus != tested)
        name = f"{_CROSS}: trained on {others}, tested on {tested}, seed {seed}"
        made.append(Split(name, "subject", train, held, tuple(test)))
    return made


def _official(recordings: Sequence[LabelledRecording], which: str) -> list[Split]:
    from offline.readers import reader

    datasets = {recording.dataset for recording in recordings}
    name = datasets.pop()
    module = reader(name)
    presets: Mapping[str, Any] = getattr(module, "PRESETS", {})
    if which in presets:
        return [presets[which](recordings)]
    official = getattr(module, "official", None)
    if datasets or official is None:
        reason = "several data sets have" if datasets else f"{name} has"
        raise ConfigError(
            f"split.unit: official: {reason} no official split; take one of {', '.join(UNITS[1:])}"
        )
    found: list[Split] = official(recordings)
    if which and not (which.isdigit() and int(which) < len(found)):
        known = ", ".join([f"a number from 0 to {len(found) - 1}", *presets])
        raise ConfigError(f"split.unit: official:{which}: need {known}")
    return [found[int(which)]] if which else found


def hash_files(recordings: Sequence[LabelledRecording]) -> dict[str, str]:
    """{uid: SHA-256 of the recording's file}; of file and part where it is a part of one.

    What has no file, such as a simulated participant, is left out.
    """
    known: dict[Path, str] = {}
    hashes = {}
    for recording in recordings:
        path = recording.path
        if path not in known and path.is_file():
            with path.open("rb") as file:
                known[path] = hashlib.file_digest(file, "sha256").hexdigest()
        if path in known:
            part = f"{known[path]} {recording.part}".encode()
            whole = hashlib.sha256(part).hexdigest() if recording.part else known[path]
            hashes[recording.uid] = whole
    return hashes


def leaks(split: Split) -> list[str]:
    """What stands on two sides, in words: a group, or the same file content. Empty if clean."""
    found = []
    sides = {part: {_group(i, split.unit) for i in getattr(split, part)} for part in PARTS}
    contents: dict[str, dict[str, list[str]]] = {part: {} for part in PARTS}
    for uid, sha256 in split.files.items():
        side = _side(split, uid)
        if side is not None:
            contents[side].setdefault(sha256, []).append(uid)
    for a, b in combinations(PARTS, 2):
        for group in sorted(sides[a] & sides[b]):
            found.append(f"{split.unit} {group} is in {a} and in {b}")
        for sha256 in sorted(contents[a].keys() & contents[b].keys()):
            found.append(
                f"{contents[a][sha256][0]} in {a} and {contents[b][sha256][0]} in {b} "
                "are the same file content"
            )
    return found


def write_split(split: Split, path: str | Path) -> None:
    """Write a split as JSON with its hash; raises DataError if it leaks and was not asked to."""
    found = [] if split.unit == LEAKY else leaks(split)
    if found:
        raise DataError(f"{path}: the split leaks: {found[0]}{_more(found)}; it is not written")
    document = {**split._document(), "hash": split.hash}
    Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_split(path: str | Path) -> Split:
    """Read a split file; raises DataError if it is damaged. Whether it leaks, `leaks` tells."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: no JSON: {error}") from error
    keys = {"protocol", "unit", *PARTS, "files", "hash"}
    if not isinstance(document, dict) or set(document) != keys:
        have = ", ".join(document) if isinstance(document, dict) else type(document).__name__
        raise DataError(f"{path}: no split: has {have}; need {', '.join(sorted(keys))}")
    told = document.pop("hash")
    for part in PARTS:
        if not isinstance(document[part], list) or not all(
            isinstance(group, str) for group in document[part]
        ):
            raise DataError(f"{path}: {part} must be a list of ids")
    if not isinstance(document["files"], dict):
        raise DataError(f"{path}: files must be a map of recordings to SHA-256")
    if told != _hash(document):
        raise DataError(f"{path}: its hash does not match; the split was changed by hand")
    return Split(**{**document, **{part: tuple(document[part]) for part in PARTS}})


def read_part(where: str) -> tuple[Split, str]:
    """(split, part) of FILE:PART, as command lines name a part; ConfigError for anything else."""
    file, _, part = where.rpartition(":")
    if not file or part not in PARTS:
        raise ConfigError(
            f"--split {where}: expected FILE:PART with PART one of {', '.join(PARTS)}"
        )
    return read_split(file), part


def _hash(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _group(uid: str, unit: str) -> str:
    if unit == LEAKY:
        return uid.rpartition(_AT)[0]
    return "/".join(uid.split("/")[: _DEPTH.get(unit)])


def _side(split: Split, uid: str) -> str | None:
    """The side that lists `uid` itself, or something it is a part of."""
    group = uid
    while group not in split._sides and "/" in group:
        group = group.rpartition("/")[0]
    return split._sides.get(group)


def _more(found: Sequence[str]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
