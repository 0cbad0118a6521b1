"""Plug-ins by name: what the installed packages offer through entry points."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from engine.errors import ConfigError, ResourceError

__all__ = ["lacking", "load", "names", "nearest"]

# import name -> distribution, where pip knows a package by another name
_DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "zmq": "pyzmq",
}
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+).*;.*extra\s*==\s*[\"'](?P<extra>[\w.-]+)[\"']")


def names(group: str) -> tuple[str, ...]:
    """The names known in `group` (such as `vagus.sources`), in alphabetical order."""
    return tuple(sorted(_entries(group)))


def load(group: str, name: str) -> Any:
    """The object that `name` stands for in `group`; its module is imported now, not before.

    Raises ConfigError for a name that nobody offers, or that two packages offer differently, and
    ResourceError where the module needs a package that is not installed.
    """
    kind = _kind(group)
    offers = _entries(group).get(name)
    if offers is None:
        known = names(group)
        raise ConfigError(
            f"no {kind} is called {name!r} (known: {', '.join(known) or 'none'})"
            f"{nearest(name, known)}"
        )
    if len({offer.value for offer in offers}) > 1:
        packages = " and ".join(sorted(_package(offer) for offer in offers))
        raise ConfigError(f"two packages offer a {kind} {name!r}: {packages}; uninstall one")
    try:
        return offers[0].load()
    except ModuleNotFoundError as error:
        lack = lacking(group, name, error)
        if lack is None:
            raise
        raise lack from error


def lacking(group: str, name: str, error: ModuleNotFoundError) -> ResourceError | None:
    """What to install after `name` failed with `error`; None where that is not the remedy."""
    missing = (error.name or "").partition(".")[0]
    if not missing or find_spec(missing) is not None:
        return None  # a part of a package that is there: a broken installation
    return ResourceError(f"{_kind(group)} {name!r} {_advice(_entries(group)[name][0], missing)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest of `known`, or nothing where none is close."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


@cache
def _entries(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=group):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _kind(group: str) -> str:
    return group.rpartition(".")[2].removesuffix("s")


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module


def _advice(entry: EntryPoint, missing: str) -> str:
    """What to install so that the module `missing` is there for `entry`."""
    wanted = _DISTRIBUTIONS.get(missing, missing).lower().replace("_", "-")
    extras = [
        match["extra"]
        for requirement in (entry.dist.requires if entry.dist is not None else None) or ()
        if (match := _REQUIREMENT.match(requirement))
        and match["name"].lower().replace("_", "-") == wanted
    ]
    if not extras:
        return f"needs the package {wanted!r}: pip install {wanted}"
    home = entry.module.partition(".")[0]  # offline's modules want the extra `offline`
    extra = home if home in extras else extras[0]
    return f"needs the package {wanted!r}: pip install '{_package(entry)}[{extra}]'"
