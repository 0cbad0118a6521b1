"""Who is trained on, validated on, tested on: disjoint groups, written down with a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError, DataError
from offline.datasets import LabelledRecording

__all__ = ["Split", "folds", "hash_files", "leaks", "read_split", "subject_kfold", "write_split"]

PARTS = ("train", "val", "test")
_DEPTH = {"subject": 1, "session": 2, "trial": 3}  # parts of an id that name it; others: all


@dataclass(frozen=True, slots=True)
class Split:
    """Group ids on three sides; `files` is {recording: SHA-256 of its file} for all of them.

    An id is `subject`, or `subject/session/trial` as far as the unit asks.
    """

    protocol: str
    unit: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 of the split as JSON (Python's default separators), keys sorted."""
        return _hash(self._document())

    def part_of(self, recording: LabelledRecording) -> str | None:
        """Which side a recording is on; None if on none of them."""
        return _side(self, recording.uid)

    def _document(self) -> dict[str, Any]:
        document = asdict(self)
        return {**document, **{part: list(document[part]) for part in PARTS}}


def folds(groups: Sequence[str], k: int, seed: int) -> list[tuple[str, ...]]:
    """`k` disjoint parts of the distinct `groups`, as equal in size as can be, drawn by `seed`.

    The order of `groups` does not matter. Raises ConfigError for less than 2 or too many parts.
    """
    distinct = sorted(set(groups))
    if not 2 <= k <= len(distinct):
        raise ConfigError(f"{k} folds do not fit {len(distinct)} groups; need 2 to {len(distinct)}")
    drawn = np.random.default_rng(seed).permutation(len(distinct))
    return [tuple(distinct[i] for i in sorted(drawn[part::k])) for part in range(k)]


def subject_kfold(recordings: Sequence[LabelledRecording], k: int, seed: int) -> list[Split]:
    """`k` splits: each subject is tested once and validates once, never while it trains.

    Fold i is the test of split i, and fold i + 1 its validation. `files` stays empty: see
    `hash_files`.
    """
    if k < 3:
        raise ConfigError(f"{k} folds are too few for train, val and test; need 3 or more")
    parts = folds([recording.subject for recording in recordings], k, seed)
    made = []
    for i in range(k):
        test, val = parts[i], parts[(i + 1) % k]
        train = tuple(sorted(s for part in parts for s in part if part not in (test, val)))
        made.append(Split(f"subject {k}-fold, seed {seed}, fold {i}", "subject", train, val, test))
    return made


def hash_files(recordings: Sequence[LabelledRecording]) -> dict[str, str]:
    """{uid: SHA-256 of the recording's file}."""
    return {r.uid: hashlib.sha256(r.path.read_bytes()).hexdigest() for r in recordings}


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
    """Write a split as JSON with its hash; raises DataError if it leaks."""
    found = leaks(split)
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


def _hash(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _group(uid: str, unit: str) -> str:
    return "/".join(uid.split("/")[: _DEPTH.get(unit)])


def _side(split: Split, uid: str) -> str | None:
    """The side that lists `uid` itself, or something it is a part of."""
    for part in PARTS:
        if any(uid == group or uid.startswith(f"{group}/") for group in getattr(split, part)):
            return part
    return None


def _more(found: Sequence[str]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
