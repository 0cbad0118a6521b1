"""What sessions stored, found again and deleted: recordings, and lines in the files of sinks.

Files are known by what is in them: a recording by its header, messages as JSON lines or rows of a
table by their columns.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from engine.errors import DataError, ResourceError
from engine.log import LogHeader, LogReader

__all__ = ["Found", "Stored", "find", "remove"]

_DAY_S = 86400.0
_QUIET_S = 5.0  # what an engine writes grows every second
_HEAD = ["run", "session", "seq"]  # how a table of ours begins

Goes = Callable[[Mapping[str, Any]], bool]  # whether the line of a message is to be deleted


@dataclass(frozen=True, slots=True)
class Stored:
    """One file: a recording, or `n` of the `of` lines or rows of a sink's file."""

    path: Path
    what: str
    n: int = 1
    of: int = 1
    goes: Goes | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What is to be deleted, and the files that nothing could be learnt from, with the reason."""

    stored: list[Stored]
    unknown: list[str]


def find(session: str | None, below: Path, now_wall: float | None = None) -> Found:
    """What `session` stored below the folder `below`; the path of a recording is that one alone.

    With `now_wall`, Unix seconds, only what is older than the `retention_days` that the session's
    recordings declare; then `session` may be None, for all.
    """
    stored, unknown = [], []
    alone = Path(session) if session is not None and session.endswith(".mcap") else None
    headers: list[tuple[Path, LogHeader]] = []
    for path in [alone] if alone is not None else sorted(below.rglob("*.mcap")):
        try:
            headers.append((path, LogReader(path).header))
        except DataError as error:
            unknown.append(str(error))
    limits = {} if session is None or now_wall is not None else {session: math.inf}
    for path, header in headers:
        if alone is None and session not in (None, header.session):
            continue
        limit = math.inf
        if now_wall is not None:
            days = _retention_days(header)
            limit = -math.inf if days is None else now_wall - days * _DAY_S
            limits[header.session] = max(limit, limits.get(header.session, -math.inf))
        if _began(path, header) < limit:
            stored.append(Stored(path, f"recording of {header.session}{_dated(path, header)}"))
    if alone is None:
        _look_into_lines(below, lambda line: _goes(line, limits), stored, unknown)
    return Found(stored, unknown)


def remove(stored: Sequence[Stored]) -> None:
    """Delete files, and from those that sessions share the lines that go.

    Raises ResourceError where an engine still writes one of them, before any is deleted, or where
    one cannot be deleted.
    """
    for one in stored:
        _demand_quiet(one.path)
    for one in stored:
        try:
            if one.goes is None or one.n == one.of:
                one.path.unlink()
            else:
                _thin(one.path, one.goes)
        except OSError as error:
            raise ResourceError(f"cannot delete {one.path}: {error.strerror or error}") from error


def _thin(path: Path, goes: Goes) -> None:
    """Put a file without the lines that go in the place of `path`, as old as that was."""
    fresh = path.with_name(f"{path.name}.new")
    _FILTERS[_form(path)](path, fresh, goes)
    was = path.stat()
    os.utime(fresh, ns=(was.st_atime_ns, was.st_mtime_ns))
    fresh.chmod(was.st_mode)
    fresh.replace(path)


def _look_into_lines(below: Path, goes: Goes, stored: list[Stored], unknown: list[str]) -> None:
    for path in sorted(p for p in below.rglob("*") if _form(p) and p.is_file()):
        try:
            told = [goes(line) for line in _READERS[_form(path)](path)]
        except (ResourceError, OSError, ValueError) as error:
            unknown.append(f"{path}: {error}")
            continue
        if n := sum(told):
            what = "all its messages" if n == len(told) else f"{n} of {len(told)} messages"
            stored.append(Stored(path, what, n, len(told), goes))


def _goes(line: Mapping[str, Any], limits: Mapping[str, float]) -> bool:
    """Whether a message is of a session that goes, and older than its limit."""
    limit = limits.get(str(line.get("session")), -math.inf)
    if limit == math.inf:
        return True
    wall = line.get("t_wall")
    return wall not in (None, "") and float(str(wall)) < limit


def _form(path: Path) -> str:
    """jsonl, csv or parquet, also of a file that rotation numbered; "" for any other."""
    suffixes = path.suffixes[-2:]
    if suffixes[:1] == [".jsonl"] or path.suffix == ".jsonl":
        return "jsonl"
    return {".csv": "csv", ".parquet": "parquet"}.get(path.suffix, "")


# -- recordings -------------------------------------------------------------------------------


def _retention_days(header: LogHeader) -> int | None:
    try:
        days = json.loads(header.config).get("retention_days")
    except (ValueError, AttributeError):
        return None
    return days if isinstance(days, int) else None


def _began(path: Path, header: LogHeader) -> float:
    """Unix seconds at which a recording began, or was last written where nothing tells."""
    return path.stat().st_mtime if header.started_wall is None else header.started_wall


def _dated(path: Path, header: LogHeader) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(_began(path, header)))
    size_mb = path.stat().st_size / 1e6
    return f", {day} UTC, {size_mb:.1f} MB"


def _demand_quiet(path: Path) -> None:
    """Refuse to delete what an engine still writes."""
    if time.time() - path.stat().st_mtime > _QUIET_S:
        return
    if path.suffix == ".mcap":
        reader = LogReader(path)
        for _ in reader.raw_records():
            pass
        if reader.torn_at is None:
            return
    raise ResourceError(
        f"{path} was written less than {_QUIET_S:g} s ago: end the engine or the recording first "
        "(vagus control stop_record)"
    )


# -- lines and rows ---------------------------------------------------------------------------


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (_parsed(line) for line in file)


def _parsed(line: str) -> Mapping[str, Any]:
    """A message, or an empty one for a line that is none, which stays."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) and {"run", "session", "kind"} <= told.keys() else {}


def _without_json(path: Path, fresh: Path, goes: Goes) -> None:
    with path.open(encoding="utf-8") as old, fresh.open("w", encoding="utf-8") as new:
        new.writelines(line for line in old if not goes(_parsed(line)))


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        if _is_ours(file):
            yield from csv.DictReader(file)


def _is_ours(file: IO[str]) -> bool:
    head = next(csv.reader(file), [])
    file.seek(0)
    return head[: len(_HEAD)] == _HEAD


def _without_csv(path: Path, fresh: Path, goes: Goes) -> None:
    with (
        path.open(newline="", encoding="utf-8") as old,
        fresh.open("w", newline="", encoding="utf-8") as new,
    ):
        rows = csv.DictReader(old)
        kept = csv.DictWriter(new, rows.fieldnames or ())
        kept.writeheader()
        kept.writerows(row for row in rows if not goes(row))


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    parquet = _parquet(path)
    names = parquet.read_schema(path).names
    if names[: len(_HEAD)] == _HEAD:
        yield from parquet.read_table(path, columns=["session", "t_wall"]).to_pylist()


def _without_parquet(path: Path, fresh: Path, goes: Goes) -> None:
    parquet = _parquet(path)
    table = parquet.read_table(path)
    keep = [not goes(row) for row in table.select(["session", "t_wall"]).to_pylist()]
    parquet.write_table(table.filter(keep), fresh)


def _parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ResourceError(
            "Parquet needs pyarrow; install it with: pip install 'vagus[tables]'"
        ) from error
    return parquet


_READERS: Mapping[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
    "jsonl": _json_lines, "csv": _csv_rows, "parquet": _parquet_rows,
}  # fmt: skip
_FILTERS: Mapping[str, Callable[[Path, Path, Goes], None]] = {
    "jsonl": _without_json, "csv": _without_csv, "parquet": _without_parquet,
}  # fmt: skip
