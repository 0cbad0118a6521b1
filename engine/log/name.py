"""How recordings are named: templates with LabRecorder's placeholders, always in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from engine.errors import ConfigError, ResourceError

__all__ = ["expand_name"]


def expand_name(template: str, session: str, started_wall: float | None) -> Path:
    """The path that a template stands for; it names no file that is there already.

    `%p` is the participant, that is the session; `%s` the session number, `001`; `%t` the start
    in UTC, as in 20260131T235959Z; `%n` counts 001, 002 ... to the first name that is free; `%%`
    is a percent sign. Raises ConfigError for anything else after a percent sign, ResourceError if
    the name is taken and nothing in it counts.
    """
    for number in count(1):
        path = Path(_filled(template, session, started_wall, number))
        if not path.exists():
            return path
        if _filled(template, session, started_wall, number + 1) == str(path):
            break
    raise ResourceError(
        f"{path} exists, and a recording overwrites nothing: put %t or %n into '{template}'"
    )


def _filled(template: str, session: str, started_wall: float | None, number: int) -> str:
    def value(match: re.Match[str]) -> str:
        sign = match[1]
        if sign == "t" and started_wall is None:
            raise ConfigError(f"recording name '{template}': %t needs a wall clock; use %n")
        known = {"p": session, "s": "001", "n": f"{number:03d}", "%": "%"}
        if sign == "t" and started_wall is not None:
            return datetime.fromtimestamp(started_wall, UTC).strftime("%Y%m%dT%H%M%SZ")
        if sign not in known:
            raise ConfigError(
                f"recording name '{template}': unknown placeholder '%{sign}'; "
                "known: %p participant, %s session number, %t time, %n counter, %% percent sign"
            )
        return known[sign]

    return re.sub(r"%(.?)", value, template)
