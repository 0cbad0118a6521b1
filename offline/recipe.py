"""A training config: what is trained on what, how, and how it is judged."""

from __future__ import annotations

import importlib.resources
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from pydantic import Field, PrivateAttr
from ruamel.yaml import YAML

from engine.arguments import misfits
from engine.bundle import InputSpec
from engine.config.complaints import validated
from engine.config.settings import NAME, Name, Part, Seconds
from engine.config.yaml import Document, parse
from engine.config.yaml import Path as KeyPath
from engine.errors import ConfigError
from engine.plugins import load, names, nearest
from offline.readers import DATASETS
from offline.space import Space, space_faults
from offline.splits import UNITS
from offline.tuition import UNIT, Speech, Training, augment_faults

__all__ = ["Change", "Folds", "Recipe", "Search", "Variant", "load_recipe", "recipe_names"]

SPEECH = "speech"  # several corpora of clips, by the map of that name
_LINEAR = ("search", "folds", "subjects")  # of the linear search alone
_OWN = {  # {a key of a config: what it does not take over from the one that it is like}
    "network": ("network_args",),
    "dataset": ("options",),
    "training": _LINEAR,
    SPEECH: _LINEAR,
}


class Change(Part):
    """Steps and features in place of an input's own."""

    steps: list[dict[str, Any]] | None = None
    features: list[dict[str, Any]] | None = None


class Variant(Change):
    """Another way to the same inputs: what changes in all of them, and in single ones."""

    inputs: dict[Name, Change] = Field(default_factory=dict)


class Search(Part):
    """What the inner folds choose from: every combination is tried."""

    c: list[float] = Field(default=[0.1], min_length=1, description="inverse regularisation")
    clip: list[float | None] = Field(default=[None], min_length=1, description="in deviations")
    boundary: bool = Field(
        default=False, description="of two labels: where the inner folds recall both best"
    )
    variants: dict[Name, Variant] = Field(default_factory=lambda: {"plain": Variant()})


class Folds(Part):
    """Subject-disjoint nested cross-validation."""

    outer: int = Field(default=6, ge=2)
    inner: int = Field(default=5, ge=2)
    draws: int = Field(default=1, ge=1, description="the outer folds are drawn so many times")
    seed: int = 0


class Recipe(Part):
    """Everything that `vagus train` needs beside the data.

    With a map `training` any network is trained by gradient descent; with `speech` one on clips of
    several corpora; without either the network is linear, and nested folds search its settings.
    """

    bundle: Name = Field(description="the name of what comes out")
    dataset: str | list[str] = Field(description="one data set, or several under one split")
    options: dict[str, str] = Field(default_factory=dict, description="of the data set's reader")
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
    skip_s: Seconds | None = Field(
        default=None,
        description="of each recording's start, not trained on; 0 for `training`, else 2",
    )
    min_filled: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="valid share of a window, to train on; default: as live for `training`, else 1",
    )
    calibrate_s: Seconds | None = Field(
        default=None, description="of each subject's first rest, where inputs adapt to it"
    )
    unit: Literal["window", "recording"] | None = Field(
        default=None, description="what the headline counts; default: recordings that have a label"
    )
    network: str = "linear"
    network_args: dict[str, Any] = Field(default_factory=dict)
    training: Training | None = Field(default=None, description="gradient descent, any data set")
    speech: Speech | None = Field(default=None, description="for the data set `speech`")
    search: Search = Search()
    folds: Folds = Folds()
    tune: dict[str, Space] = Field(
        default_factory=dict, description="what `vagus tune` varies: keys as --set has them"
    )
    abstain_below: float = Field(default=0.0, ge=0, le=1)
    batch_sizes: list[int] = Field(default=[1, 8, 64], min_length=1)

    _text: str = PrivateAttr(default="")

    def specs(self, variant: str) -> dict[str, InputSpec]:
        """The bundle's inputs under one of the variants."""
        other = self.search.variants[variant]
        strange = sorted(set(other.inputs) - set(self.inputs))
        if strange:
            raise ConfigError(
                f"{self.bundle}: search.variants.{variant}.inputs: no input is called "
                f"'{strange[0]}'{nearest(strange[0], self.inputs)}"
            )
        changes = {
            name: given
            | other.model_dump(exclude_none=True, exclude={"inputs"})
            | other.inputs.get(name, Change()).model_dump(exclude_none=True)
            for name, given in self.inputs.items()
        }
        try:
            return {name: msgspec.convert(told, InputSpec) for name, told in changes.items()}
        except msgspec.ValidationError as error:
            raise ConfigError(f"{self.bundle}: inputs: {error}") from error

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets by name."""
        return (self.dataset,) if isinstance(self.dataset, str) else tuple(self.dataset)

    @property
    def resolved(self) -> str:
        """The recipe as YAML with all that was changed, and how it is trained to the last key."""
        told = self.model_dump(mode="json", exclude_unset=True)
        for key, part in (("training", self.training), (SPEECH, self.speech)):
            if part is not None:
                told[key] = part.model_dump(mode="json")
        text = io.StringIO()
        YAML().dump(told, text)
        return text.getvalue()

    @property
    def text(self) -> str:
        """The recipe as it was written."""
        return self._text


def load_recipe(name: str, changes: Mapping[str, str] | None = None) -> Recipe:
    """The training config at a path, or the shipped one of that name; `changes` {"folds.seed":
    "3"} override single keys. A config with `like: NAME` says only what differs from the shipped
    one of that name. Raises ConfigError with line and column."""
    path = _file(name)
    text = path.read_bytes()
    document = _completed(parse(text, path.name))
    for key, value in (changes or {}).items():
        _set(document, key, value)
    patterns = {NAME: "1 to 64 letters, digits, '-' or '_'", UNIT: f"one of {', '.join(UNITS)}"}
    recipe = validated(Recipe, document, patterns, _rules(document.value))
    recipe._text = text.decode()
    for variant in recipe.search.variants:
        recipe.specs(variant)
    return recipe


def _file(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    known = recipe_names()
    if name not in known:
        hint = nearest(name, known) or f"; shipped: {', '.join(known)}"
        raise ConfigError(f"{name}: no such training config{hint}")
    return Path(str(_folder() / f"{name}.yaml"))


def _completed(document: Document) -> Document:
    """A config with what it leaves to the one that it is `like`; maps are merged, key by key.

    Another network has its own arguments, another data set its own options, another way to train
    its own settings: those are not merged.
    """
    own = document.value
    if not isinstance(own, dict) or "like" not in own:
        return document
    base = _completed(parse(_file(str(own["like"])).read_bytes(), f"{own['like']}.yaml")).value
    assert isinstance(base, dict)
    kept = dict(base)
    for key, others in _OWN.items():
        if key in own:
            kept = {name: value for name, value in kept.items() if name not in others}
    told = {key: value for key, value in own.items() if key != "like"}
    return Document(document.name, _merged(kept, told), document.places)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in own.items():
        there = both.get(key)
        if isinstance(there, dict) and isinstance(value, dict):
            value = _merged(there, value)
        both[key] = value
    return both


def recipe_names() -> tuple[str, ...]:
    """The training configs that come with vagus."""
    files = (f.name for f in _folder().iterdir())
    return tuple(sorted(f.removesuffix(".yaml") for f in files if f.endswith(".yaml")))


def _rules(value: Any) -> Iterator[tuple[KeyPath, str]]:
    """(path, what is wrong) for what the types do not say; `value` is the document, unchecked."""
    if not isinstance(value, dict):
        return
    has = {key for key in ("training", SPEECH) if value.get(key) is not None}
    given = value.get("dataset")
    wanted = given if isinstance(given, list) else [given]
    for dataset in wanted:
        if isinstance(dataset, str) and dataset not in (*DATASETS, SPEECH):
            hint = nearest(dataset, DATASETS) or f"; known: {', '.join(DATASETS)}"
            yield ("dataset",), f"no data set is called '{dataset}'{hint}"
    if (SPEECH in has) != (given == SPEECH):
        yield ("dataset",), "the data set `speech` and a map `speech:` go together"
    if len(has) == 2:
        yield ("speech",), "`training` and `speech` are two ways to train; keep one"
    if len(wanted) > 1 and "training" not in has:
        yield ("dataset",), "several data sets need a map `training:`"
    for key in _LINEAR:
        if has and key in value:
            yield (key,), f"belongs to the linear search; beside `{min(has)}` it does nothing"
    yield from _network_faults(value, bool(has))
    yield from space_faults(value)
    if "training" in has:
        yield from augment_faults(value)


def _network_faults(value: Mapping[str, Any], by_gradient: bool) -> Iterator[tuple[KeyPath, str]]:
    network, args = value.get("network", "linear"), value.get("network_args", {})
    if not isinstance(network, str) or not isinstance(args, dict):
        return  # the types tell
    known = names("vagus.networks")
    if network not in known:
        hint = nearest(network, known) or f"; known: {', '.join(known)}"
        yield ("network",), f"no network is called '{network}'{hint}"
    elif not by_gradient and network != "linear":
        yield ("network",), f"{network} is trained by a map `training:`; without one: linear"
    elif by_gradient:
        factory = load("vagus.networks", network)
        for key, fault in misfits(args, factory, given=("shapes", "n_labels")):
            yield ("network_args", *([key] if key else [])), fault
        training = value.get("training")
        compared = training.get("compare") if isinstance(training, dict) else None
        for key in compared if isinstance(compared, dict) else ():
            for _, fault in misfits({key: None}, factory, given=("shapes", "n_labels")):
                if fault.startswith("unknown key"):
                    yield ("training", "compare", key), fault


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
