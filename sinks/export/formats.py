"""Which formats there are, and where an export of each goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from engine.errors import ConfigError, ResourceError
from engine.plugins import nearest
from engine.types import Prediction
from sinks.emotionml import emotionml
from sinks.export.bids import bids
from sinks.export.edf import edf
from sinks.export.recorded import Recorded
from sinks.export.tables import tables
from sinks.export.xdf import xdf

__all__ = ["FORMATS", "export"]


def _emotionml(recorded: Recorded, path: Path) -> list[Path]:
    """The predictions as one EmotionML document."""
    predictions = (message for message in recorded.said() if isinstance(message, Prediction))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in emotionml(predictions, recorded.labels()))
    return [path]


_FILES: Mapping[str, Callable[[Recorded, Path], list[Path]]] = {"xdf": xdf, "emotionml": _emotionml}
_FOLDERS: Mapping[str, Callable[[Recorded, Path], list[Path]]] = {
    "edf": edf,
    "bids": bids,
    "csv": tables,
}
FORMATS = (*_FILES, *_FOLDERS)


def export(recorded: Recorded, form: str, out: Path) -> list[Path]:
    """Write `recorded` in the format `form`; returns the files and folders that are there now.

    `out` is a folder; XDF and EmotionML, which are one file, also take that file's path. Nothing
    that is there is overwritten. Raises ConfigError for an unknown format, DataError for a
    recording that has nothing for it, ResourceError for a place that cannot be written.
    """
    if form not in FORMATS:
        raise ConfigError(
            f"no format is called '{form}'{nearest(form, FORMATS)}; known: {', '.join(FORMATS)}"
        )
    try:
        if form in _FOLDERS:
            out.mkdir(parents=True, exist_ok=True)
            if form != "bids":  # which has names of its own, and looks itself
                _demand_free(*out.glob(f"{recorded.name}_*"))
            return _FOLDERS[form](recorded, out)
        path = out if out.suffix == f".{form}" else out / f"{recorded.name}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        _demand_free(path)
        return _FILES[form](recorded, path)
    except OSError as error:
        raise ResourceError(f"cannot write to {out}: {error.strerror or error}") from error


def _demand_free(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise ResourceError(f"{path} exists, and an export overwrites nothing: another OUT")
