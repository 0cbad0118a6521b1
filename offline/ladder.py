"""The rungs of the leak ladder: how far apart what is tested and what was trained on are."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["RUNGS", "rung_of_subjects"]

RUNGS = {
    "L0": ("random segments", "neighbours of what is tested were trained on"),
    "L1": ("trials apart", "the same people in the same sessions, in other trials"),
    "L2": ("sessions apart", "the same people on other days"),
    "L3": ("people apart", "nobody who is tested was trained on"),
    "L4": ("data sets apart", "other people, recorded by others, elsewhere"),
}


def rung_of_subjects(judged: Iterable[str], seen: Iterable[str]) -> str | None:
    """The rung of subjects judged by what was trained on those `seen`; None where they overlap.

    A subject is called after its data set: `emodb-03`.
    """
    ours, theirs = set(judged), set(seen)
    if ours & theirs:
        return None
    corpora = [{subject.rpartition("-")[0] for subject in part} for part in (ours, theirs)]
    return "L4" if theirs and not corpora[0] & corpora[1] else "L3"
