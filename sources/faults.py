"""Faults as a config names them: checked, and applied to a device's deliveries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from engine.errors import ConfigError
from engine.plugins import nearest
from engine.types import StreamInfo
from sources import delivery_faults, device_faults
from sources.fault import Deliveries, Fault, Kind

__all__ = ["KINDS", "parse_faults", "with_faults"]

_ONE_CHUNK_S = 1e-9  # so short that only the first chunk is meant
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "jitter": Kind(device_faults.jitter, math.inf, {"amount_s": 0.01}),
        "drift": Kind(device_faults.drift, math.inf, {"ppm": 200.0}),
        "gap": Kind(delivery_faults.gap, 1.0),
        "nan": Kind(device_faults.nan, 1.0, {"channels": "all", "value": "nan"}),
        "flat": Kind(device_faults.flat, 1.0, {"channels": "all"}),
        "stall": Kind(delivery_faults.stall, 1.0),
        "lost": Kind(delivery_faults.lost, 1.0),
        "rate": Kind(device_faults.rate, math.inf, {"factor": 1.02}),
        "channels": Kind(device_faults.channels, 1.0, {"count": None}),
        "duplicate": Kind(delivery_faults.duplicate, _ONE_CHUNK_S),
        "reorder": Kind(delivery_faults.reorder, _ONE_CHUNK_S),
        "jump": Kind(device_faults.jump, math.inf, {"by_s": 10.0}),
    }
)


def parse_faults(specs: Sequence[Mapping[str, Any]], info: StreamInfo) -> tuple[Fault, ...]:
    """Check `{kind, at_s, for_s, ...}` maps; raises ConfigError that names entry and key."""
    if isinstance(specs, str | Mapping) or not all(isinstance(spec, Mapping) for spec in specs):
        raise ConfigError(f"faults: {specs!r}; need a list of maps such as {{kind: gap, at_s: 5}}")
    return tuple(_parse(f"faults[{n}]", spec, info) for n, spec in enumerate(specs))


def with_faults(
    deliveries: Deliveries, faults: Sequence[Fault], info: StreamInfo, seed: int
) -> Deliveries:
    """The same deliveries with all the faults in them, the earliest applied first.

    They depend on `seed` and on event time alone, not on when they are read.
    """
    for n, fault in enumerate(sorted(faults, key=lambda fault: fault.at_s)):
        deliveries = KINDS[fault.kind].apply(deliveries, fault, info, (seed, n))
    return deliveries


def _parse(where: str, spec: Mapping[str, Any], info: StreamInfo) -> Fault:
    name = spec.get("kind")
    if not isinstance(name, str) or name not in KINDS:
        raise ConfigError(f"{where}.kind: unknown fault {name!r}{_hint(name, KINDS)}")
    kind = KINDS[name]
    known = {"kind": None, "at_s": 0.0, "for_s": kind.for_s, **kind.args}
    for key in spec:
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}' for fault {name}{_hint(key, known)}")
    values = {**known, **spec}
    at_s, for_s = _number(where, "at_s", values["at_s"]), _number(where, "for_s", values["for_s"])
    if not (0 <= at_s < math.inf and for_s > 0):
        raise ConfigError(f"{where}: at_s {at_s:g}, for_s {for_s:g}; need at_s >= 0 and for_s > 0")
    args = {key: _argument(where, key, values[key], info) for key in kind.args}
    return Fault(name, at_s, for_s, args)


def _argument(where: str, key: str, value: Any, info: StreamInfo) -> Any:
    """The checked value of one key: the columns for `channels`, else a number."""
    if key == "channels":
        return _columns(where, value, info)
    if key == "value":
        if value not in ("nan", "inf", "-inf"):
            raise ConfigError(f"{where}.value: {value!r}; need nan, inf or -inf")
        return float(value)
    if key == "count":
        n_declared = info.shape[0]
        count = n_declared - 1 if value is None else value
        if not isinstance(count, int) or count < 0 or count == n_declared:
            raise ConfigError(
                f"{where}.count: {count!r}; need a number of channels other than {n_declared}"
            )
        return count
    number = _number(where, key, value)
    if key in ("amount_s", "factor") and not 0 < number < math.inf:
        raise ConfigError(f"{where}.{key}: {number:g}; need a number above 0")
    if key == "ppm" and not abs(number) < 1e6:
        raise ConfigError(f"{where}.ppm: {number:g}; need less than a million either way")
    if not math.isfinite(number):
        raise ConfigError(f"{where}.{key}: {number:g}; need a finite number")
    return number


def _number(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ConfigError(f"{where}.{key}: {value!r} is not a number")
    return float(value)


def _columns(where: str, value: Any, info: StreamInfo) -> list[int]:
    """Positions of the channels meant by a list of names, or by "all"."""
    if value == "all":
        return list(range(len(info.channels)))
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ConfigError(f"{where}.channels: {value!r}; need a list of channel names, or all")
    for name in value:
        if name not in info.channels:
            hint = _hint(name, info.channels)
            raise ConfigError(f"{where}.channels: the stream has no channel '{name}'{hint}")
    return [info.channels.index(name) for name in value]


def _hint(word: object, known: Iterable[str]) -> str:
    """The nearest of `known`, or all of them."""
    return nearest(str(word), known) or f"; known: {', '.join(sorted(known))}"
