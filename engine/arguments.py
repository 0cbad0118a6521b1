"""Whether a map of free keys fits the factory it is meant for, told before anything is opened."""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from engine.errors import ConfigError
from engine.plugins import nearest

__all__ = ["describe", "misfits", "pairs"]

_NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "nothing",
}


def misfits(
    args: Mapping[str, Any], factory: Callable[..., Any], given: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it) for every argument that `factory` would not take.

    Key "" stands for the map as a whole. `given` are the parameters that the engine fills in
    itself. Types are compared where a parameter wants text, numbers or booleans.
    """
    parameters = inspect.signature(factory).parameters
    known = {
        name: parameter
        for name, parameter in parameters.items()
        if name not in given
        and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = _hints(factory)
    for key, value in args.items():
        if key in known:
            wanted = _wanted(hints.get(key))
            if wanted and not _fits(value, wanted):
                expected = " or ".join(_NAMES[kind] for kind in _NAMES if kind in wanted)
                yield key, f"expected {expected}, found {describe(value)}"
        elif not takes_any or key in given:
            hint = nearest(key, known) or f"; known: {', '.join(known) or 'none'}"
            yield key, f"unknown key{hint}"
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in args:
            yield "", f"needs the key {name!r}"


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """["key=value", ...] as a map; raises ConfigError for what is none."""
    made = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{text}: expected key=value, for example folds.seed=3")
        made[key] = value
    return made


def describe(value: Any) -> str:
    """A found value as a message names it, such as `the text 'fast'`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value:.12g}"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
    return "a list" if isinstance(value, list) else "a map"


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except NameError:  # a name that only type checkers import: the factory checks for itself
        return {}


def _wanted(hint: Any) -> frozenset[Any]:
    """The plain types that a parameter takes; empty where it takes anything else as well."""
    union = get_origin(hint) in (Union, types.UnionType)
    kinds = frozenset(
        str if isinstance(kind, type) and issubclass(kind, os.PathLike) else kind
        for kind in (get_args(hint) if union else (hint,))
    )
    return kinds if kinds <= _NAMES.keys() else frozenset()


def _fits(value: Any, wanted: frozenset[Any]) -> bool:
    kind = type(value)
    return kind in wanted or (kind is int and float in wanted)
