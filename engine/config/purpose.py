"""What people may be observed for: the purposes a config can declare, and the ones refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

from engine import plugins

__all__ = ["PURPOSES", "RECORDED", "Basis", "Purpose", "objection", "observing"]

Purpose: TypeAlias = Literal[
    "research",
    "medical",
    "safety",
    "entertainment",
    "personal",
    "accessibility",
    "art",
    "development",
    "workplace",
    "education",
]
Basis: TypeAlias = Literal["medical", "safety"]
PURPOSES: tuple[str, ...] = get_args(Purpose)
RECORDED = frozenset({"replay", "simulate"})  # sources that observe nobody now; all others do
_AREAS = {"workplace": "at the workplace", "education": "in education"}


def observing(sources: Iterable[object]) -> list[str]:
    """Those of `sources` (types) that observe people: all installed ones but the recorded."""
    live = set(plugins.names("vagus.sources")) - RECORDED
    return sorted({source for source in sources if isinstance(source, str) and source in live})


def objection(purpose: object, basis: object, sources: Iterable[object]) -> str | None:
    """Why people may not be observed for `purpose` by `sources` (types), or None.

    Source: Regulation (EU) 2024/1689 (AI Act), Article 5(1)(f), which prohibits inferring
    emotions in the areas of workplace and education except for medical or safety reasons.
    """
    if purpose in _AREAS and basis not in get_args(Basis):
        return (
            f"inferring emotions {_AREAS[str(purpose)]} is prohibited by the EU AI Act, Article "
            "5(1)(f), unless it is for medical or safety reasons: if so, declare "
            "'basis: medical' or 'basis: safety'"
        )
    live = observing(sources)
    if purpose is None and live:
        allowed = ", ".join(p for p in PURPOSES if p not in _AREAS)
        return (
            f"the source {live[0]!r} observes people, so the file must say what for: "
            f"add 'purpose: ...', one of {allowed}"
        )
    return None
