"""Where the 32 electrodes of the simulated cap lie, and how far a source of activity reaches."""

from __future__ import annotations

import numpy as np

from engine.types import Array

__all__ = ["CHANNELS", "spread"]

# The order is that of the DEAP recordings (Koelstra et al. 2012).
_NAMES = (
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz "
    "Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
)
CHANNELS = tuple(_NAMES.split())
# Seen from above: left of the middle line, and forward; the vertex is (0, 0), an ear (1, 0).
_LEFT = {
    "Fp1": (0.31, 0.95),
    "AF3": (0.35, 0.76),
    "F3": (0.40, 0.54),
    "F7": (0.81, 0.59),
    "FC5": (0.68, 0.28),
    "FC1": (0.24, 0.28),
    "C3": (0.50, 0.0),
    "T7": (1.0, 0.0),
    "CP5": (0.68, -0.28),
    "CP1": (0.24, -0.28),
    "P3": (0.40, -0.54),
    "P7": (0.81, -0.59),
    "PO3": (0.35, -0.76),
    "O1": (0.31, -0.95),
}
_MIDDLE = {"Fz": 0.54, "Cz": 0.0, "Pz": -0.54, "Oz": -1.0}


def _place(name: str) -> tuple[float, float]:
    """(rightward, forward) of an electrode; even numbers mirror the odd ones before them."""
    if name in _MIDDLE:
        return 0.0, _MIDDLE[name]
    number = int(name[-1])
    left, forward = _LEFT[f"{name[:-1]}{number - (number % 2 == 0)}"]
    return (left if number % 2 == 0 else -left), forward


def spread(right: float, forward: float, width: float) -> Array:
    """How strongly each channel (channels,) sees a source at a place: a Gaussian, 1 at it."""
    places = np.array([_place(name) for name in CHANNELS])
    distance = np.hypot(places[:, 0] - right, places[:, 1] - forward)
    return np.asarray(np.exp(-0.5 * (distance / width) ** 2))
