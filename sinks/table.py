"""Predictions as a table: CSV that grows line by line, or Parquet in row groups."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, ResourceError
from engine.types import Message, Prediction

__all__ = ["TableSink", "columns", "row"]

_HEAD = ("run", "session", "seq", "tick", "t", "t_wall", "label", "confidence")
_DIMENSIONS = ("valence", "arousal", "dominance")
_TAIL = ("missing", "latency_ms", "truth")
_GROUP = 256  # rows of a Parquet row group


class TableSink:
    """One row per prediction at `path`, `.csv` or `.parquet`: a column for each label.

    The columns are those of the first prediction that has probabilities; rows before it, and
    labels that come later (another bundle), begin a new file, `NAME-2.csv`. A CSV line is on disk
    as soon as it is written; a Parquet file is readable once it is closed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.suffix not in (".csv", ".parquet"):
            raise ConfigError(f"table: {self.path}: expected a name that ends in .csv or .parquet")
        self._write = _Csv if self.path.suffix == ".csv" else _Parquet
        self._labels: tuple[str, ...] | None = None
        self._file: _Csv | _Parquet | None = None
        self._n_files = 0
        self._waiting: list[Prediction] = []

    def write(self, message: Message) -> None:
        """Append a row, if it is a prediction."""
        if not isinstance(message, Prediction):
            return
        if message.probabilities is None and self._file is None:
            self._waiting.append(message)  # which labels there are is not known yet
            del self._waiting[:-_GROUP]
            return
        labels = tuple(message.probabilities) if message.probabilities else self._labels
        if self._file is None or labels != self._labels:
            self._begin(labels or ())
        assert self._file is not None
        for waiting in (*self._waiting, message):
            self._file.append(row(waiting, self._labels or ()))
        self._waiting.clear()

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()

    def _begin(self, labels: tuple[str, ...]) -> None:
        self.close()
        self._labels = labels
        self._n_files += 1
        path = self.path
        if self._n_files > 1:
            path = path.with_name(f"{path.stem}-{self._n_files}{path.suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._write(path, columns(labels))
        except OSError as error:
            raise ResourceError(
                f"cannot write {path}: {error.strerror or error}; make room or choose another path"
            ) from error


def columns(labels: tuple[str, ...]) -> tuple[str, ...]:
    """What the columns of a table of predictions over `labels` are called."""
    return (*_HEAD, *(f"p_{label}" for label in labels), *_DIMENSIONS, *_TAIL)


def row(message: Prediction, labels: tuple[str, ...]) -> tuple[Any, ...]:
    """A prediction under these columns; None is an empty cell."""
    p, dimensions = message.probabilities or {}, message.dimensions or {}
    return (
        *(getattr(message, name) for name in _HEAD),
        *(p.get(label) for label in labels),
        *(dimensions.get(name) for name in _DIMENSIONS),
        " ".join(message.missing),
        message.latency_ms.get("total"),
        message.truth,
    )


class _Csv:
    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._file = path.open("w", newline="", encoding="utf-8", buffering=1)
        self._rows = csv.writer(self._file)
        self._rows.writerow(columns)

    def append(self, row: tuple[Any, ...]) -> None:
        self._rows.writerow(["" if value is None else value for value in row])

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise ResourceError(
                "table: Parquet needs pyarrow; install it with: pip install 'vagus[tables]'"
            ) from error
        texts = {"run", "session", "label", "missing", "truth"}
        counts = {"seq", "tick"}
        self._arrow = pyarrow
        self._schema = pyarrow.schema(
            (name, pyarrow.string() if name in texts
             else pyarrow.int64() if name in counts else pyarrow.float64())
            for name in columns
        )  # fmt: skip
        self._file = parquet.ParquetWriter(str(path), self._schema)
        self._rows: list[tuple[Any, ...]] = []

    def append(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) >= _GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        named = [dict(zip(self._schema.names, row, strict=True)) for row in self._rows]
        self._file.write_table(self._arrow.Table.from_pylist(named, self._schema))
        self._rows.clear()
