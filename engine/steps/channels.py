"""Channel names: which of a stream's channels a bundle means, across spellings and schemes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from engine.errors import BundleError, ConfigError
from engine.plugins import nearest
from engine.types import StreamInfo

__all__ = ["locate"]

# The 10-20 system of 1958 and the 10-10 system of 1991 name four sites differently.
_OLD_NAMES: Mapping[str, str] = {"t7": "t3", "t8": "t4", "p7": "t5", "p8": "t6"}
_PREFIX = re.compile(r"^eeg[\s_:-]+")
# What a recorder says about the reference. Scalp sites are not listed: 'FP1-F7' is another channel.
_SUFFIX = re.compile(r"[\s_-]+(ref|le|ar|avg|car|[am][12]|a1a2|m1m2)$")
_SHOWN = 6  # a longer list of channels is cut to its first two


def locate(wanted: Sequence[str], info: StreamInfo, mapping: Mapping[str, str]) -> list[int]:
    """Where in `info.channels` each of `wanted` is.

    `mapping` is {wanted channel: channel of the stream} where names differ altogether. The same
    spelling goes first, then the same name without case, 'EEG ' in front and a reference behind,
    then the older or newer name of its 10-20 site.

    Raises ConfigError for a mapping that `wanted` does not hold and for channels wanted twice,
    BundleError for channels that the stream lacks or that fit two of its names.
    """
    for name in mapping:
        if name not in wanted:
            hint = nearest(name, wanted) or f"; needed: {_listed(wanted)}"
            raise ConfigError(f"channels: {name!r} is none of the channels that are needed{hint}")
    found = [_find(mapping.get(name, name), info) for name in wanted]
    for name, device in mapping.items():
        if found[wanted.index(name)] is None:
            raise BundleError(
                f"channels: {name} is mapped to {device!r}, which stream {info.name!r} does not "
                f"have{nearest(device, info.channels)}; it has {_listed(info.channels)}"
            )
    missing = [name for name, at in zip(wanted, found, strict=True) if at is None]
    if missing:
        raise BundleError(
            f"needs {len(wanted)} channels {_listed(wanted)}; stream {info.name!r} has "
            f"{len(info.channels)} {_listed(info.channels)}; missing: {', '.join(missing)}. "
            "Map them to the stream's channels, or retrain with these"
        )
    places = [at for at in found if at is not None]
    _refuse_twins(wanted, places, info)
    return places


def _find(name: str, info: StreamInfo) -> int | None:
    """The only channel of the stream that `name` fits, by the strictest rule that fits any."""
    for spelling in (str, _plain, _site):
        hits = [i for i, channel in enumerate(info.channels) if spelling(channel) == spelling(name)]
        if len(hits) > 1:
            twins = ", ".join(repr(info.channels[i]) for i in hits)
            raise BundleError(
                f"channel {name!r} fits {len(hits)} channels of stream {info.name!r}: {twins}; "
                "map it to one of them"
            )
        if hits:
            return hits[0]
    return None


def _refuse_twins(wanted: Sequence[str], places: Sequence[int], info: StreamInfo) -> None:
    first: dict[int, str] = {}
    for name, at in zip(wanted, places, strict=True):
        if at in first:
            raise ConfigError(
                f"channels {first[at]!r} and {name!r} are the same channel "
                f"{info.channels[at]!r} of stream {info.name!r}; each may be used once"
            )
        first[at] = name


def _plain(name: str) -> str:
    """A name without what recorders add to it: 'EEG Fp1-REF' and 'Fp1..' are 'fp1'."""
    bare = _PREFIX.sub("", name.strip().casefold())
    return _SUFFIX.sub("", bare).strip(" .")


def _site(name: str) -> str:
    plain = _plain(name)
    return _OLD_NAMES.get(plain, plain)


def _listed(names: Sequence[str]) -> str:
    shown = names if len(names) <= _SHOWN else (*names[:2], "...")
    return f"({', '.join(shown)})"
