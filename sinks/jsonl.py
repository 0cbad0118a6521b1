"""Messages as JSON lines: one object a line, each handed to the system as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engine.errors import ConfigError, ResourceError
from engine.types import Message
from engine.wire import to_json

__all__ = ["JsonlSink", "line"]


def line(message: Message) -> str:
    """`message` as one line of JSON without its end: `kind`, then the keys of the wire's map."""
    return msgspec.json.encode({"kind": message.kind, **to_json(message)}).decode()


class JsonlSink:
    """Appends every message to the file at `path`, making its folder where there is none.

    `-` is the standard output. Each line is flushed. With `max_mb`, a file that would grow beyond
    that becomes `NAME.1`, the one before `NAME.2` and so on up to `keep` of them; the oldest goes.
    Raises ResourceError, naming the path, when the file cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], max_mb: float | None = None, keep: int = 5
    ) -> None:
        if (max_mb is not None and not max_mb > 0) or keep < 1:
            raise ConfigError(f"jsonl: max_mb {max_mb}, keep {keep}: need above 0, and 1 or more")
        self.path = Path(path)
        self._room = None if max_mb is None or str(path) == "-" else int(max_mb * 1e6)
        self._keep = keep
        if str(path) == "-":
            self._file = open(os.dup(1), "wb", buffering=0)  # noqa: SIM115
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torn = _is_torn(self.path)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise self._failure(error) from error
        if torn:  # a disk that was full: the half line stays, the next one is whole
            self._write(b"\n")

    def write(self, message: Message) -> None:
        """Append one line."""
        text = line(message).encode() + b"\n"
        if self._room is not None and 0 < self._file.tell() > self._room - len(text):
            self._rotate()
        self._write(text)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rotate(self) -> None:
        """Begin an empty file; those there are move up by one."""
        try:
            self._file.close()
            for i in range(self._keep, 0, -1):
                older = self._numbered(i - 1)
                if older.is_file():
                    older.replace(self._numbered(i))
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise self._failure(error) from error

    def _numbered(self, i: int) -> Path:
        return self.path if i == 0 else self.path.with_name(f"{self.path.name}.{i}")

    def _write(self, left: bytes) -> None:
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.close()
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> ResourceError:
        why = error.strerror or error
        return ResourceError(f"cannot write {self.path}: {why}; make room or choose another path")


def _is_torn(path: Path) -> bool:
    """Whether the file is there and its last line has no end."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
