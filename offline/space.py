"""What a search may vary: keys of a training config, each with a range or with choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from engine.config.settings import Part
from engine.config.yaml import Path as KeyPath

__all__ = ["SPACE", "Space", "space_faults"]


class Space(Part):
    """From `low` to `high`, whole numbers if both are; evenly, or with `log` by factors. Or one of
    `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: list[Any] | None = Field(default=None, min_length=2)


SPACE: Mapping[str, Space] = {  # where a config does not say
    "training.learning_rate": Space(low=3e-4, high=1e-2, log=True),
    "training.weight_decay": Space(low=1e-4, high=0.1, log=True),
    "training.label_smoothing": Space(low=0.0, high=0.2),
    "training.batch": Space(choices=[16, 32, 64, 128]),
}


def space_faults(value: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with `tune` of the document `value`, beyond its types."""
    told = value.get("tune")
    if not isinstance(told, dict):
        return
    for key, given in told.items():
        if not isinstance(given, dict):
            continue
        path: KeyPath = ("tune", key)
        low: Any = given.get("low")
        high: Any = given.get("high")
        by_range = low is not None or high is not None
        if by_range == (given.get("choices") is not None):
            yield path, "needs either low and high, or choices"
        elif by_range and not (isinstance(low, int | float) and isinstance(high, int | float)):
            yield path, "needs two numbers, low and high"
        elif by_range and not low < high:
            yield path, f"low {low:g} must be below high {high:g}"
        elif given.get("log") and not (by_range and low > 0):
            yield path, "log needs low above 0"
