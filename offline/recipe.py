"""A training config: what is trained on what, what is searched, and how it is judged."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from pydantic import Field, PrivateAttr

from engine.bundle import InputSpec
from engine.config.complaints import validated
from engine.config.settings import NAME, Name, Part, Seconds
from engine.config.yaml import Document, parse
from engine.errors import ConfigError
from engine.plugins import nearest

__all__ = ["Folds", "Recipe", "Search", "Speech", "Variant", "load_recipe", "recipe_names"]


class Variant(Part):
    """Another way to the same input: steps and features in place of the input's own."""

    steps: list[dict[str, Any]] | None = None
    features: list[dict[str, Any]] | None = None


class Search(Part):
    """What the inner folds choose from: every combination is tried."""

    c: list[float] = Field(default=[0.1], min_length=1, description="inverse regularisation")
    clip: list[float | None] = Field(default=[None], min_length=1, description="in deviations")
    variants: dict[Name, Variant] = Field(default_factory=lambda: {"plain": Variant()})


class Folds(Part):
    """Subject-disjoint nested cross-validation."""

    outer: int = Field(default=6, ge=2)
    inner: int = Field(default=5, ge=2)
    draws: int = Field(default=1, ge=1, description="the outer folds are drawn so many times")
    seed: int = 0


class Speech(Part):
    """Gradient descent on windows of clips: who is on which side, and how it is done."""

    corpora: dict[Name, float] = Field(
        min_length=1, description="data sets, and their shares of what is drawn to train on"
    )
    val: list[str] = Field(min_length=1, description="subjects that the epoch is chosen on")
    test: list[str] = Field(min_length=1, description="subjects that are judged once")
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    epochs: int = Field(default=60, ge=1)
    draws: int = Field(default=1024, ge=1, description="windows in an epoch")
    batch: int = Field(default=16, ge=2)
    check_every: int = Field(default=10, ge=1, description="epochs between looks at val")
    speeds: list[float] = Field(default=[0.9, 0.95, 1.0, 1.05, 1.1], min_length=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.03, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.99, ge=0, lt=1, description="decay of the weights' mean")
    mixup: float = Field(default=0.3, ge=0, description="of its beta distribution; 0: none")
    precision: Literal["float32", "bfloat16"] = "bfloat16"


class Recipe(Part):
    """Everything that `vagus train` needs beside the data."""

    bundle: Name = Field(description="the name of what comes out")
    dataset: Literal["eegmat", "simulate", "speech"]
    labels: list[str] = Field(min_length=2)
    vocabulary: str
    felt_or_expressed: Literal["felt", "expressed"]
    data: str = Field(description="what it is trained on, in a sentence, for the card")
    licence: str
    limits: list[str] = Field(default_factory=list, description="for the card")
    dimensions: dict[str, dict[str, float]] | None = None
    inputs: dict[Name, dict[str, Any]] = Field(min_length=1)
    subjects: int | None = Field(default=None, ge=4, description="only the first so many")
    hop_s: Seconds
    train_hop_s: Seconds | None = Field(default=None, description="coarser, where that will do")
    skip_s: Seconds = Field(default=2.0, description="of each recording's start, not trained on")
    min_filled: float = Field(default=1.0, gt=0, le=1, description="valid share, to train on")
    network: Literal["linear", "residual", "parallel"] = "linear"
    network_args: dict[str, Any] = Field(default_factory=dict)
    speech: Speech | None = Field(default=None, description="for the data set `speech`")
    search: Search = Search()
    folds: Folds = Folds()
    abstain_below: float = Field(default=0.0, ge=0, le=1)
    batch_sizes: list[int] = Field(default=[1, 8, 64], min_length=1)

    _text: str = PrivateAttr(default="")

    def specs(self, variant: str) -> dict[str, InputSpec]:
        """The bundle's inputs under one of the variants."""
        other = self.search.variants[variant].model_dump(exclude_none=True)
        try:
            return {
                name: msgspec.convert(given | other, InputSpec)
                for name, given in self.inputs.items()
            }
        except msgspec.ValidationError as error:
            raise ConfigError(f"{self.bundle}: inputs: {error}") from error

    @property
    def text(self) -> str:
        """The recipe as it was written."""
        return self._text


def load_recipe(name: str, changes: Mapping[str, str] | None = None) -> Recipe:
    """The training config at a path, or the shipped one of that name; `changes` {"folds.seed":
    "3"} override single keys. Raises ConfigError with line and column."""
    path = Path(name)
    if not path.is_file():
        known = recipe_names()
        if name not in known:
            hint = nearest(name, known) or f"; shipped: {', '.join(known)}"
            raise ConfigError(f"{name}: no such training config{hint}")
        path = Path(str(_folder() / f"{name}.yaml"))
    text = path.read_bytes()
    document = parse(text, path.name)
    for key, value in (changes or {}).items():
        _set(document, key, value)
    recipe = validated(Recipe, document, {NAME: "1 to 64 letters, digits, '-' or '_'"})
    recipe._text = text.decode()
    _agree(recipe, path.name)
    for variant in recipe.search.variants:
        recipe.specs(variant)
    return recipe


def recipe_names() -> tuple[str, ...]:
    """The training configs that come with vagus."""
    files = (f.name for f in _folder().iterdir())
    return tuple(sorted(f.removesuffix(".yaml") for f in files if f.endswith(".yaml")))


def _agree(recipe: Recipe, name: str) -> None:
    """A map `speech`, its data set and a network that it can train come together."""
    if (recipe.speech is not None) != (recipe.dataset == "speech"):
        raise ConfigError(f"{name}: the data set `speech` and a map `speech:` go together")
    if (recipe.network == "linear") != (recipe.speech is None):
        raise ConfigError(
            f"{name}: network: {recipe.network} does not fit the data set {recipe.dataset}; "
            "residual and parallel are for `speech`, linear for the others"
        )


def _set(document: Document, key: str, value: str) -> None:
    parsed = parse(f"value: {value}\n".encode(), f"--set {key}")
    target: Any = document.value
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(target, dict):
            raise ConfigError(f"--set {key}: there is no map at '{part}'")
        target = target.setdefault(part, {})
    if not isinstance(parsed.value, dict) or not isinstance(target, dict):
        raise ConfigError(f"--set {key}={value}: expected key=value")
    target[last] = parsed.value["value"]


def _folder() -> Any:
    return importlib.resources.files("configs") / "training"
