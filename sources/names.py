"""Names people mistype: which known one was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of `known`, or all of them where none is near."""
    names = sorted(known)
    near = get_close_matches(word.lower(), [name.lower() for name in names], n=1)
    if near:
        meant = next(name for name in names if name.lower() == near[0])
        return f"; did you mean '{meant}'?"
    return f"; known: {', '.join(names)}" if names else ""
