"""What is wrong with a config file: every problem one line, with its position and the remedy."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from engine.arguments import describe
from engine.config.yaml import Document, Path, Place, Problem, dotted
from engine.errors import ConfigError
from engine.plugins import nearest

__all__ = ["locate", "place_of", "problems_of", "refusal", "validated"]

Model = TypeVar("Model", bound=BaseModel)

MAX_LINES = 15

_EXPECTED: Mapping[str, str] = {
    "string_type": "text",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a map of keys",
    "model_type": "a map of keys",
    "finite_number": "a finite number",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def refusal(name: str, places: Mapping[Path, Place], problems: Iterable[Problem]) -> ConfigError:
    """One error that tells all `problems` in the order of the file, one a line, on one screen."""
    lines = [
        f"{locate(name, place if places else None)}: {dotted(path)}{': ' if path else ''}{text}"
        for place, path, text in sorted(problems, key=lambda problem: problem[0])
    ]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES - 1 :] = [f"... and {len(lines) - MAX_LINES + 1} more problems"]
    return ConfigError("\n".join(lines))


def locate(name: str, place: Place | None) -> str:
    """`live.yaml:7:5`, or the name alone where there is no file with positions."""
    return name if place is None else f"{name}:{place[0]}:{place[1]}"


def problems_of(
    error: ValidationError, root: type[BaseModel], patterns: Mapping[str, str]
) -> Iterator[tuple[Path, str]]:
    """(path, text) for every fault that pydantic found; `patterns` says regular expressions in
    words."""
    for fault in error.errors(include_url=False):
        path: Path = tuple(part for part in fault["loc"] if part != "[key]")
        kind, found, context = fault["type"], fault["input"], fault.get("ctx", {})
        if kind == "missing":
            yield path[:-1], f"needs the key {path[-1]!r}"
        elif kind == "extra_forbidden":
            known = _keys(root, path[:-1])
            hint = nearest(str(path[-1]), known) or f"; known: {', '.join(known)}"
            yield path, f"unknown key{hint}"
        elif kind == "literal_error":
            yield path, _choice(found, str(context["expected"]))
        elif kind in _EXPECTED:
            yield path, f"expected {_EXPECTED[kind]}, found {describe(found)}"
        elif kind in _BOUNDS:
            bound, words = _BOUNDS[kind]
            yield path, f"expected {words} {context[bound]:g}, found {describe(found)}"
        elif kind == "too_short":
            yield path, "is empty: name at least one"
        elif kind == "string_pattern_mismatch":
            yield path, f"expected {patterns[context['pattern']]}, found {describe(found)}"
        elif kind == "value_error":
            yield path, str(context["error"])
        else:
            yield path, f"{fault['msg'].lower()}, found {describe(found)}"


def validated(
    model: type[Model],
    document: Document,
    patterns: Mapping[str, str],
    rules: Iterable[tuple[Path, str]] = (),
) -> Model:
    """`document` as a `model`; or one ConfigError for all that is wrong, `rules` among it."""
    told = {path for _, path, _ in document.problems}
    faults: list[tuple[Path, str]] = []
    made: Model | None = None
    if isinstance(document.value, dict):
        try:
            made = model.model_validate(document.value)
        except ValidationError as error:
            faults += problems_of(error, model, patterns)
        faults += rules
    else:
        first = ": and ".join([*model.model_fields][:2])
        faults.append(((), f"expected keys such as {first}:, found no map of keys"))
    problems = list(document.problems) + [
        (place_of(document.places, path), path, text)
        for path, text in faults
        if not any(path[: len(known)] == known and known for known in told)
    ]
    if problems or made is None:
        raise refusal(document.name, document.places, problems)
    return made


def place_of(places: Mapping[Path, Place], path: Path) -> Place:
    """Where `path` stands in its file, or the nearest map around it."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path, (1, 1))


def _choice(found: Any, expected: str) -> str:
    """`expected` is pydantic's list, such as "'mask', 'hold' or 'break'"."""
    options = [part.strip("'") for part in expected.replace(" or ", ", ").split(", ")]
    hint = nearest(found, options) if isinstance(found, str) else ""
    if len(options) == 1:
        return f"expected {options[0]}, found {describe(found)}"
    return f"expected one of {', '.join(options)}; found {describe(found)}{hint}"


def _keys(root: type[BaseModel], path: Path) -> list[str]:
    """The keys that a map at `path` may have."""
    model: Any = root
    for part in path:
        hint = model.model_fields[part].annotation if _is_model(model) else get_args(model)[-1]
        model = _bare(hint)
    return list(model.model_fields) if _is_model(model) else []


def _bare(hint: Any) -> Any:
    """`hint` without `| None`."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)
