"""Names that stand for sessions and days that stand for dates, from a key that its owner keeps."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import DataError, ResourceError

__all__ = ["Pseudonyms"]

_FORMAT = 1
_DAY_S = 86400
_LEAST_DAYS, _MOST_DAYS = 365, 3650


@dataclass(slots=True)
class Pseudonyms:
    """What the key file at `path` holds: the key, and which name each pseudonym stands for.

    The same name has the same pseudonym under one key, in every export; nobody without the file
    can tell which name it was. Dates move back by 1 to 10 years in whole days, by as many for
    all recordings of a name, so that times of day and distances stay.
    """

    path: Path
    key: bytes
    names: dict[str, str] = field(default_factory=dict)  # pseudonym: name

    @classmethod
    def load(cls, path: str | Path) -> Pseudonyms:
        """Those of the file at `path`, or new ones where there is none; raises DataError."""
        path = Path(path)
        if not path.exists():
            return cls(path, secrets.token_bytes(32))
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["format"] != _FORMAT:
                raise ValueError(f"format {told['format']}, where {_FORMAT} is known")
            return cls(path, bytes.fromhex(told["key"]), dict(told["names"]))
        except OSError as error:
            raise ResourceError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is no key file of pseudonyms: {error}") from error

    def name(self, name: str) -> str:
        """The pseudonym of `name`, such as p3f9c01d2; the file will know whose it is."""
        pseudonym = f"p{self._digest('name', name)[:4].hex()}"
        if self.names.setdefault(pseudonym, name) != name:
            raise DataError(f"'{name}' and '{self.names[pseudonym]}' have one pseudonym: a new key")
        return pseudonym

    def shift_s(self, name: str) -> float:
        """What is added to the wall clock of the recordings of `name`; whole days, negative."""
        span = _MOST_DAYS - _LEAST_DAYS + 1
        days = _LEAST_DAYS + int.from_bytes(self._digest("days", name)[:8], "big") % span
        return -float(days * _DAY_S)

    def stand_in(self, text: str) -> str:
        """A word for any other text that must not be told, such as the id of a run."""
        return self._digest("text", text)[:6].hex()

    def save(self) -> None:
        """Write the file, for its owner's eyes alone, as a whole or not at all."""
        told = {"format": _FORMAT, "key": self.key.hex(), "names": dict(sorted(self.names.items()))}
        fresh = self.path.with_name(f"{self.path.name}.new")
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(json.dumps(told, indent=1) + "\n")
            fresh.replace(self.path)
        except OSError as error:
            raise ResourceError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _digest(self, what: str, text: str) -> bytes:
        return hmac.digest(self.key, f"{what}:{text}".encode(), "sha256")
