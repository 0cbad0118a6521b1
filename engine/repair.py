"""Electrodes that came off: in a window they get the signal of their nearest good neighbour."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from engine.lane import View
from engine.quality import ALL
from engine.steps import Reference
from engine.types import Array, Signal, StreamInfo, Window

__all__ = ["repaired"]

_DEAD = frozenset({"flat", "railed"})
_MOST = 0.25  # of the channels; with more of them gone, neighbours know too little
# The 10-10 system: rows from nose to inion, columns by number; even ones are on the right.
_ROWS = {"fp": 4.0, "af": 3.0, "f": 2.0, "fc": 1.0, "ft": 1.0, "c": 0.0, "t": 0.0, "cp": -1.0,
         "tp": -1.0, "p": -2.0, "po": -3.0, "o": -4.0, "i": -5.0}  # fmt: skip
_OLD_ROWS = {"t5": ("p", 7), "t6": ("p", 8), "t3": ("t", 7), "t4": ("t", 8)}
_SITE = re.compile(r"(?:eeg[\s_:-]+)?(fp|af|fc|ft|cp|tp|po|[fctpoi])(z|\d{1,2})(?:\W.*)?$")


def repaired(window: Window, view: View) -> Window | None:
    """The `window` (time, channels) of a view with its dead channels taken from their neighbours.

    A channel is dead while it is told to be flat or railed. It gets the signal of the nearest good
    one on the 10-10 grid, or in the list where names are no sites: a mean of several would have
    less power than any electrode. The note `repaired` names it. Behind an average reference it
    stays: there it is what the others have in common, and no silence. None if over a quarter of
    the channels are dead. Whatever is not EEG channel by channel stays as it is.
    """
    info = view.info
    dead = _dead(window.signal, info)
    if len(dead) > _MOST * len(info.channels):
        return None
    if not dead or any(isinstance(step, Reference) and step.average for step in view.steps):
        return window
    data = np.array(window.data)
    data[:, dead] = window.data[:, _nearest(info.channels, dead)]
    data.flags.writeable = False
    notes = {**window.notes, "repaired": [info.channels[i] for i in dead]}
    return replace(window, data=data, notes=notes)


def _dead(signal: Signal | None, info: StreamInfo) -> tuple[int, ...]:
    """Positions of the dead channels among those of the window's items."""
    if signal is None or not signal.faults or info.kind != "eeg" or len(info.shape) != 1:
        return ()
    if not _DEAD.isdisjoint(signal.faults.get(ALL, ())):
        return tuple(range(len(info.channels)))
    gone = {name for name, faults in signal.faults.items() if not _DEAD.isdisjoint(faults)}
    return tuple(i for i, name in enumerate(info.channels) if name in gone)


@lru_cache(maxsize=64)
def _nearest(channels: tuple[str, ...], dead: tuple[int, ...]) -> list[int]:
    """The good channel that is nearest to each dead one; of several, the first in the list."""
    places = _places(channels)
    good = [i for i in range(len(channels)) if i not in dead]
    squares = [np.square(places[good] - places[at]).sum(axis=1) for at in dead]
    return [good[int(np.argmin(square))] for square in squares]


def _places(channels: Sequence[str]) -> Array:
    """Where electrodes are on the 10-10 grid (channels, 2); their order, if any name is no site."""
    found = [_site(name) for name in channels]
    if any(place is None for place in found):
        return np.arange(len(channels), dtype=np.float64)[:, None]
    return np.array(found, np.float64)


def _site(name: str) -> tuple[float, float] | None:
    match = _SITE.match(name.strip().lower())
    if match is None:
        return None
    row, number = match[1], 0 if match[2] == "z" else int(match[2])
    row, number = _OLD_ROWS.get(f"{row}{number}", (row, number))
    side = 1.0 if number % 2 == 0 else -1.0
    return _ROWS[row], side * ((number + 1) // 2)
