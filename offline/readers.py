"""Data sets by name: their reader, and how one of their recordings is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.plugins import nearest
from offline.datasets import LabelledRecording
from sources.files import open_recording
from sources.recording import Recording

__all__ = ["DATASETS", "open_labelled", "read", "reader"]

DATASETS = (
    "affectnet",
    "ck-plus",
    "crema-d",
    "deap",
    "eegmat",
    "emodb",
    "faces",
    "fer2013",
    "manifest",
    "nemo",
    "ravdess",
    "recording",
    "savee",
    "seed-v",
    "simulate",
    "stress-predict",
)


def reader(dataset: str) -> Any:
    """The module that reads `dataset`; raises ConfigError for an unknown one."""
    if dataset not in DATASETS:
        hint = nearest(dataset, DATASETS) or f"; known: {', '.join(DATASETS)}"
        raise ConfigError(f"no data set is called '{dataset}'{hint}")
    return import_module(f"offline.datasets.{dataset.replace('-', '_')}")


def read(
    dataset: str, root: Path | None, options: Mapping[str, str] | None = None
) -> list[LabelledRecording]:
    """The labelled recordings of `dataset` below `root`, listed under the reader's `options`.

    Simulated ones need no root. Raises ConfigError for an option that the reader does not know.
    """
    module = reader(dataset)
    if root is None and dataset != "simulate":
        raise ConfigError(f"where is {dataset}? give its folder with --data")
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
    found: list[LabelledRecording] = module.recordings(root, **given)
    return found


def open_labelled(recording: LabelledRecording) -> Recording:
    """The signals of one recording of a data set."""
    opener = getattr(reader(recording.dataset), "open_part", None)
    opened: Recording = open_recording(recording.path) if opener is None else opener(recording)
    return opened
