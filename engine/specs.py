"""A bundle's named specs, such as {"name": "notch", "freq_hz": 50}, become what they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from engine.arguments import misfits
from engine.errors import BundleError, ConfigError
from engine.plugins import nearest

__all__ = ["construct"]

T = TypeVar("T")


def construct(
    kind: str,
    spec: Mapping[str, Any],
    factories: Mapping[str, Callable[..., T]],
    **given: Any,
) -> T:
    """The step or feature (`kind`) that `spec` names, made with its arguments and with `given`.

    Raises BundleError for a spec without a known name, ConfigError for arguments that its factory
    does not take or lacks.
    """
    args = dict(spec)
    name = args.pop("name", None)
    if not isinstance(name, str):
        raise BundleError(f"a {kind} has no name: {dict(spec)!r}")
    factory = factories.get(name)
    if factory is None:
        hint = nearest(name, factories) or f"; known: {', '.join(sorted(factories)) or 'none'}"
        raise BundleError(f"no {kind} is called {name!r}{hint}")
    for key, problem in misfits(args, factory, tuple(given)):
        where = f"{kind} {name!r}, argument {key!r}" if key else f"{kind} {name!r}"
        raise ConfigError(f"{where}: {problem}")
    return factory(**given, **args)
