"""What `vagus data check` tells of a data set: how much of what there is, and what is wrong."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from engine.errors import DataError
from offline.datasets import Broken, LabelledRecording
from offline.readers import open_labelled, read, reader

__all__ = ["check_dataset", "in_words"]

_EXAMPLES = 3  # of each reason why something is left out


def check_dataset(dataset: str, root: Path, options: Mapping[str, str]) -> dict[str, Any]:
    """Counts, the class table, and what is broken or left out, listed under the `options`.

    Where truth changes within recordings, `labels` counts its whole seconds (`labels_unit`).
    `others` tells the same of the reader's other options, one changed at a time.
    """
    module = reader(dataset)
    found = read(dataset, root, options)
    known: Mapping[str, tuple[str, ...]] = getattr(module, "OPTIONS", {})
    broken = _called(module, "broken", root, options)
    return {
        "dataset": dataset,
        **_counts(found, {fault.file for fault in broken}),
        "broken": [{"file": b.file, "reason": b.reason} for b in broken],
        "left_out": [
            {"file": b.file, "reason": b.reason} for b in _called(module, "left_out", root, options)
        ],
        "warning": getattr(module, "WARNING", ""),
        "options": {n: options.get(n, values[0]) for n, values in known.items() if values},
        "others": {
            f"{name}={value}": _other(dataset, root, {**options, name: value})
            for name, values in known.items()
            for value in values
            if value != options.get(name, values[0])
        },
    }


def in_words(told: Mapping[str, Any]) -> str:
    """What `check_dataset` found, for a terminal."""
    chosen = "".join(f", {name}={value}" for name, value in told["options"].items())
    lines = [
        f"{told['dataset']}: {told['recordings']} recordings of {told['subjects']} subjects{chosen}"
    ]
    total = max(1, sum(told["labels"].values()))
    unit = " s" if told["labels_unit"] == "second" else ""
    for label, n in told["labels"].items():
        lines.append(f"  {label:14s} {n:6d}{unit}  {n / total:.1%}")
    lines.append(f"  most frequent label: {told['majority']:.1%}")
    for name, other in told["others"].items():
        lines.append(f"  with {name}: {_brief(other)}")
    if told["warning"]:
        lines.append(f"  note: {told['warning']}")
    reasons = Counter(entry["reason"] for entry in told["left_out"])
    for reason, n in reasons.most_common():
        names = [e["file"] for e in told["left_out"] if e["reason"] == reason][:_EXAMPLES]
        more = " ..." if n > len(names) else ""
        lines.append(f"  left out: {n}, {reason}: {', '.join(names)}{more}")
    lines += [f"  broken: {b['file']}: {b['reason']}" for b in told["broken"]]
    return "\n".join(lines)


def _brief(other: Mapping[str, Any]) -> str:
    if "reason" in other:
        return f"not possible: {other['reason']}"
    return (
        f"{other['recordings']} recordings, {len(other['labels'])} labels, "
        f"most frequent {other['majority']:.1%}"
    )


def _other(dataset: str, root: Path, options: Mapping[str, str]) -> dict[str, Any]:
    try:
        return _counts(read(dataset, root, options), set())
    except DataError as error:
        return {"reason": str(error)}


def _counts(found: Sequence[LabelledRecording], damaged: set[str]) -> dict[str, Any]:
    """How many recordings and subjects there are, and of which label."""
    labels: Counter[str] = Counter(r.label for r in found if r.label)
    unit = "recording"
    if not labels:
        unit = "second"
        for recording in found:
            if str(recording.path) not in damaged:
                labels.update(_seconds(recording))
    return {
        "recordings": len(found),
        "subjects": len({recording.subject for recording in found}),
        "labels": dict(sorted(labels.items())),
        "labels_unit": unit,
        "majority": max(labels.values(), default=0) / max(1, sum(labels.values())),
    }


def _seconds(recording: LabelledRecording) -> dict[str, int]:
    """{label: whole seconds} of the truth that changes within a recording."""
    told: dict[str, float] = {}
    try:
        streams = open_labelled(recording).streams
    except DataError:  # named among the broken ones, by a file or a folder of it
        return {}
    stream = max(streams, key=lambda stream: len(stream.truth or ()))
    changes = [*(stream.truth or ()), (stream.n_items, None)]
    for (first, label), (last, _) in pairwise(changes):
        if label is not None and last > first:
            end_s = stream.end_s if last == stream.n_items else stream.time(last)
            told[label] = told.get(label, 0.0) + end_s - stream.time(first)
    return {label: round(seconds) for label, seconds in told.items()}


def _called(module: Any, name: str, root: Path, options: Mapping[str, str]) -> list[Broken]:
    """What a reader's optional function tells, given those of the options that it takes."""
    function: Callable[..., list[Broken]] | None = getattr(module, name, None)
    if function is None:
        return []
    takes = inspect.signature(function).parameters
    return function(root, **{key: value for key, value in options.items() if key in takes})
