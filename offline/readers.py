"""Data sets by name, as they are trained on and judged: `sources.datasets` with its types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine import plugins
from engine.errors import ConfigError
from offline.datasets import LabelledRecording
from sources.datasets import listed, needs_files, open_part, reader
from sources.recording import Recording

__all__ = ["DATASETS", "open_labelled", "read", "reader"]

DATASETS = plugins.names("vagus.datasets")


def read(
    dataset: str, root: Path | None, options: Mapping[str, str] | None = None
) -> list[LabelledRecording]:
    """The labelled recordings of `dataset` below `root`, listed under the reader's `options`.

    Simulated ones need no root. Raises ConfigError for an option that the reader does not know.
    """
    if root is None and needs_files(dataset):
        raise ConfigError(f"where is {dataset}? give its folder with --data")
    return listed(dataset, root, options)


def open_labelled(recording: LabelledRecording) -> Recording:
    """The signals of one recording of a data set."""
    return open_part(recording)
