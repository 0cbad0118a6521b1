"""Messages as JSON lines: one object a line, each handed to the system as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engine.errors import ResourceError
from engine.types import Message
from engine.wire import to_json

__all__ = ["JsonlSink", "line"]


def line(message: Message) -> str:
    """`message` as one line of JSON without its end: `kind`, then the keys of the wire's map."""
    return msgspec.json.encode({"kind": message.kind, **to_json(message)}).decode()


class JsonlSink:
    """Appends every message to the file at `path`, making its folder where there is none.

    `-` is the standard output. Each line is flushed. Raises ResourceError, naming the path, when
    the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
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
        self._write(line(message).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

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
