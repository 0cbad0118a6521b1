"""How a network is trained by gradient descent, as a config says it: `training` and `speech`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from engine.arguments import misfits
from engine.config.settings import Name, Part
from engine.config.yaml import Path as KeyPath
from engine.plugins import nearest

__all__ = ["UNIT", "Descent", "Division", "Speech", "Training", "augment_faults"]

UNIT = r"^(official(:[a-z0-9-]+)?|trial|session|subject|loso|cross-corpus|leaky-random)$"


class Descent(Part):
    """What every gradient descent is told; the epoch with the best validation is kept."""

    seeds: list[int] = Field(default=[0], min_length=1)
    epochs: int = Field(default=40, ge=1)
    batch: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0, description="its peak: warm-up, then cosine")
    warm_up: float = Field(default=0.1, ge=0, lt=1, description="share of all steps")
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0, description="of its beta distribution; 0: none")
    clip_gradient: float | None = Field(default=5.0, gt=0, description="its norm at most")
    average: float = Field(default=0.99, ge=0, lt=1, description="decay of the weights' mean")
    check_every: int = Field(default=1, ge=1, description="epochs between looks at validation")
    patience: int | None = Field(default=10, ge=1, description="looks without a better one; or all")
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Division(Part):
    """Who trains, validates and is tested; see offline.splits.make."""

    unit: str = Field(default="subject", pattern=UNIT)
    folds: int = Field(default=5, ge=2, description="of trial, session, subject, leaky-random")
    seed: int = Field(default=0, ge=0)
    val: float = Field(default=0.2, gt=0, le=0.5, description="share of what is not tested")
    only: list[int] | None = Field(default=None, min_length=1, description="these folds, from 0")


class Training(Descent):
    """Windows out of memory, of any data set; `augment` is {input: [{name, ...}]}, in the order in
    which it is done: see offline.augment."""

    split: Division = Division()
    draws: int | None = Field(default=None, ge=1, description="windows in an epoch; default: all")
    balance: Literal["none", "weights", "sampling", "sqrt-sampling"] = "weights"
    adjust: float = Field(
        default=0.0, ge=0, description="of the logits, by the log share of what is drawn"
    )
    augment: dict[Name, list[dict[str, Any]]] = Field(default_factory=dict)
    compare: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="{argument of the network: [values]} that are trained and tested beside it",
    )
    soft: bool = Field(default=False, description="train on the votes where a recording has some")


class Speech(Descent):
    """Windows drawn out of clips of several corpora, at several speeds; who is on which side."""

    corpora: dict[Name, float] = Field(
        min_length=1, description="data sets, and their shares of what is drawn to train on"
    )
    val: list[str] = Field(min_length=1, description="subjects that the epoch is chosen on")
    test: list[str] = Field(min_length=1, description="subjects that are judged once")
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    epochs: int = Field(default=60, ge=1)
    draws: int = Field(default=1024, ge=1, description="windows in an epoch")
    batch: int = Field(default=16, ge=2)
    check_every: int = Field(default=10, ge=1)
    speeds: list[float] = Field(default=[0.9, 0.95, 1.0, 1.05, 1.1], min_length=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.03, ge=0)
    mixup: float = Field(default=0.3, ge=0)
    clip_gradient: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, ge=1)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "cpu"


def augment_faults(value: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with `training.augment` of the document `value`, beyond its types."""
    from offline.augment import AUGMENTS, GIVEN

    training, inputs = value.get("training"), value.get("inputs")
    told = training.get("augment") if isinstance(training, dict) else None
    if not isinstance(told, dict) or not isinstance(inputs, dict):
        return
    for name, entries in told.items():
        path: KeyPath = ("training", "augment", name)
        if name not in inputs:
            hint = nearest(str(name), inputs) or f"; known: {', '.join(inputs)}"
            yield path, f"no such input{hint}"
        for i, entry in enumerate(entries if isinstance(entries, list) else ()):
            if not isinstance(entry, dict):
                continue
            called = str(entry.get("name"))
            if called not in AUGMENTS:
                hint = nearest(called, AUGMENTS) or f"; known: {', '.join(AUGMENTS)}"
                yield (*path, i), f"no augmentation is called '{called}'{hint}"
                continue
            args = {key: given for key, given in entry.items() if key != "name"}
            for key, fault in misfits(args, AUGMENTS[called], given=GIVEN):
                yield (*path, i, *([key] if key else [])), fault
