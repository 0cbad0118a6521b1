"""Data sets by name: their reader, and how one of their recordings is opened."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.plugins import nearest
from offline.datasets import LabelledRecording
from sources.files import open_recording
from sources.recording import Recording

__all__ = ["DATASETS", "open_labelled", "read", "reader"]

DATASETS = ("eegmat", "emodb", "nemo", "ravdess", "simulate")


def reader(dataset: str) -> Any:
    """The module that reads `dataset`; raises ConfigError for an unknown one."""
    if dataset not in DATASETS:
        hint = nearest(dataset, DATASETS) or f"; known: {', '.join(DATASETS)}"
        raise ConfigError(f"no data set is called '{dataset}'{hint}")
    return import_module(f"offline.datasets.{dataset.replace('-', '_')}")


def read(dataset: str, root: Path | None) -> list[LabelledRecording]:
    """The labelled recordings of `dataset` below `root`; simulated ones need no root."""
    module = reader(dataset)
    if root is None and dataset != "simulate":
        raise ConfigError(f"where is {dataset}? give its folder with --data")
    found: list[LabelledRecording] = module.recordings(root)
    return found


def open_labelled(recording: LabelledRecording) -> Recording:
    """The signals of one recording of a data set."""
    if recording.dataset == "simulate":
        opened: Recording = reader("simulate").open_person(recording.path.name)
        return opened
    return open_recording(recording.path)
