"""Data sets as streams: which recordings a reader finds below a path, opened with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from engine import plugins
from engine.errors import ConfigError, DataError
from engine.plugins import nearest
from sources.files import open_recording
from sources.recording import RecordedStream, Recording

__all__ = [
    "Labelled",
    "find",
    "listed",
    "needs_files",
    "open_part",
    "open_with_truth",
    "reader",
    "select",
]

_GROUP = "vagus.datasets"
_NO_FILES = "simulate"  # made, not read: it needs no path


class Labelled(Protocol):
    """One recording of a data set, as its reader lists it; `label` is "" where truth changes."""

    @property
    def uid(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def path(self) -> Path: ...


def reader(dataset: str) -> Any:
    """The module that reads `dataset`; raises ConfigError for an unknown one."""
    known = plugins.names(_GROUP)
    if dataset not in known:
        raise ConfigError(
            f"no data set is called '{dataset}'{nearest(dataset, known)}; known: {', '.join(known)}"
        )
    return plugins.load(_GROUP, dataset)


def needs_files(dataset: str) -> bool:
    """Whether `dataset` is read below a path; raises ConfigError for an unknown one."""
    reader(dataset)
    return dataset != _NO_FILES


def listed(dataset: str, root: Path | None, options: Mapping[str, str] | None = None) -> list[Any]:
    """The recordings of `dataset` below `root`, listed under the reader's `options`.

    Simulated ones need no root. Raises ConfigError for an option that the reader does not know.
    """
    module = reader(dataset)
    if root is None and needs_files(dataset):
        raise ConfigError(f"where is {dataset}? give the path of its folder")
    given = dict(options or {})
    known: Mapping[str, tuple[str, ...]] = getattr(module, "OPTIONS", {})
    for name, value in given.items():
        if name not in known:
            hint = nearest(name, known) or f"; it has {', '.join(known) or 'none'}"
            raise ConfigError(f"the reader of {dataset} has no option '{name}'{hint}")
        if known[name] and value not in known[name]:
            raise ConfigError(
                f"options.{name}: {value!r} is none of {', '.join(known[name])} ({dataset})"
            )
    found: list[Any] = module.recordings(root, **given)
    return found


def select(dataset: str, path: Path | None, options: Mapping[str, str] | None = None) -> list[Any]:
    """Like `listed`, where `path` may also be one of the files below a data set's folder."""
    if path is None or not path.is_file() or not needs_files(dataset):
        return listed(dataset, path, options)
    try:
        return listed(dataset, path, options)  # such as a manifest
    except DataError:
        found = listed(dataset, path.parent, options)
    own = [one for one in found if one.path.resolve() == path.resolve()]
    if not own:
        raise DataError(f"{path}: no recording of {dataset}; give the folder of the data set")
    return own


def find(dataset: str, path: str | Path, uid: str, options: Mapping[str, str]) -> Labelled:
    """The recording called `uid` below `path`; raises ConfigError where there is none."""
    where = Path(path) if needs_files(dataset) else None
    found = _known(dataset, where, tuple(sorted(options.items())))
    if uid not in found:
        some = ", ".join(list(found)[:3])
        raise ConfigError(
            f"{dataset} has no recording '{uid}' below {path}"
            f"{nearest(uid, found)}; it has {len(found)}, such as {some}"
        )
    return found[uid]


def open_part(recording: Labelled) -> Recording:
    """The signals of one recording of a data set, as the file has them."""
    opener = getattr(reader(recording.dataset), "open_part", None)
    opened: Recording = open_recording(recording.path) if opener is None else opener(recording)
    return opened


def open_with_truth(recording: Labelled) -> Recording:
    """Its signals, every stream of which carries the label as truth, where none has its own."""
    opened = open_part(recording)
    if not recording.label:
        return opened
    return replace(opened, streams=tuple(_told(s, recording.label) for s in opened.streams))


def _told(stream: RecordedStream, label: str) -> RecordedStream:
    return stream if stream.truth is not None else replace(stream, truth=((0, label),))


@lru_cache(maxsize=8)
def _known(
    dataset: str, path: Path | None, options: Sequence[tuple[str, str]]
) -> Mapping[str, Labelled]:
    """{uid: recording}; listed once, since a session each may ask for one of thousands."""
    return {one.uid: one for one in select(dataset, path, dict(options))}
