"""What people may be observed for: the purposes a config can declare, and the ones refused."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["LIVE", "PURPOSES", "RECORDED", "objection"]

PURPOSES = (
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
)
LIVE = frozenset({"lsl", "microphone", "camera", "browser"})  # sources that observe people
RECORDED = frozenset({"replay", "simulate"})  # sources that observe nobody now
_AREAS = {"workplace": "at the workplace", "education": "in education"}


def objection(purpose: object, basis: object, sources: Iterable[object]) -> str | None:
    """Why people may not be observed for `purpose` by `sources` (types), or None.

    Source: Regulation (EU) 2024/1689 (AI Act), Article 5(1)(f), which prohibits inferring
    emotions in the areas of workplace and education except for medical or safety reasons.
    """
    if purpose in _AREAS and basis not in ("medical", "safety"):
        return (
            f"inferring emotions {_AREAS[str(purpose)]} is prohibited by the EU AI Act, Article "
            "5(1)(f), unless it is for medical or safety reasons: if so, declare "
            "'basis: medical' or 'basis: safety'"
        )
    live = sorted({source for source in sources if isinstance(source, str) and source in LIVE})
    if purpose is None and live:
        allowed = ", ".join(p for p in PURPOSES if p not in _AREAS)
        return (
            f"the source {live[0]!r} observes people, so the file must say what for: "
            f"add 'purpose: ...', one of {allowed}"
        )
    return None
