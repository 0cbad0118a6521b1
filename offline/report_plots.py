"""The report's pictures: SVG that takes its colours from the page, light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from engine.types import Array

__all__ = ["Line", "colour", "curves", "intervals", "reliability", "scatter"]

_N_COLOURS = 9


@dataclass(frozen=True, slots=True)
class Line:
    """One run's course: `x` epochs, `y` values; the shipped one is drawn in front."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    number: int
    shipped: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values lie on a canvas, in its units."""

    width: float
    height: float
    x: tuple[float, float]  # the values at the left and the right edge
    y: tuple[float, float]  # at the bottom and at the top
    left: float = 40.0
    right: float = 10.0
    top: float = 8.0
    bottom: float = 34.0

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Values to canvas units."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0)
        inner_w = self.width - self.left - self.right
        inner_h = self.height - self.top - self.bottom
        return self.left + across * inner_w, self.top + (1 - up) * inner_h

    def axes(self, x_name: str, y_name: str, n: int = 5) -> str:
        """A grid with numbers and the names of both axes."""
        parts = []
        for value in _ticks(*self.y, n):
            (x0, y), (x1, _) = self.at(self.x[0], value), self.at(self.x[1], value)
            parts.append(f'<path class="axis" d="M{x0:.1f} {y:.1f}H{x1:.1f}"/>')
            parts.append(_text(x0 - 6, y + 4, f"{value:.3g}", "end"))
        for value in _ticks(*self.x, n):
            x, y = self.at(value, self.y[0])
            parts.append(_text(x, y + 16, f"{value:.3g}", "middle"))
        middle = (self.left + self.width - self.right) / 2
        parts.append(_text(middle, self.height - 3, x_name, "middle"))
        y = (self.top + self.height - self.bottom) / 2
        turned = f'transform="rotate(-90 10 {y:.1f})"'
        parts.append(f'<text x="10" y="{y:.1f}" text-anchor="middle" {turned}>{y_name}</text>')
        return "".join(parts)

    def svg(self, inner: str, told: str, kind: str = "") -> str:
        """The canvas around `inner`; `told` is what somebody hears who does not see it."""
        return (
            f'<svg{kind} viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(told)}">{inner}</svg>'
        )


def colour(number: int) -> str:
    """The page's colour of that number."""
    return f"var(--c{number % _N_COLOURS})"


def reliability(bins: Mapping[str, Sequence[Any]]) -> str:
    """Bars of accuracy over confidence, wide where many lie, and their gap to what was claimed."""
    n_bins = len(bins["n"])
    most = max(bins["n"]) or 1
    frame = _Frame(360, 330, (0, 1), (0, 1))
    (x0, y0), (x1, y1) = frame.at(0, 0), frame.at(1, 1)
    parts = [frame.axes("confidence", "share that is right")]
    wide = (x1 - x0) / n_bins
    for i, (n, confidence, right) in enumerate(
        zip(bins["n"], bins["confidence"], bins["accuracy"], strict=True)
    ):
        if not n:
            continue
        thin = wide * (0.25 + 0.65 * (n / most) ** 0.5)
        x = x0 + i * wide + (wide - thin) / 2
        tops = [frame.at(0, value)[1] for value in (right, confidence)]
        parts.append(_box("bin", x, max(tops), thin, y0 - max(tops)))
        parts.append(_box("gap", x, min(tops), thin, abs(tops[0] - tops[1])))
        parts.append(_box("edge", x - 1, tops[0] - 1.25, thin + 2, 2.5))  # what was right
    parts.append(f'<path class="ideal" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>')
    return frame.svg("".join(parts), "accuracy over confidence")


def curves(lines: Sequence[Line], y_name: str) -> str:
    """One line per run over epochs."""
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y if np.isfinite(y)]
    low, high = min(ys), max(ys)
    room = 0.06 * (high - low) or 0.1
    frame = _Frame(420, 260, (min(min(xs), 1), max(max(xs), 2)), (low - room, high + room))
    parts = [frame.axes("epoch", y_name)]
    for line in sorted(lines, key=lambda one: one.shipped):
        shown = [(x, y) for x, y in zip(line.x, line.y, strict=True) if np.isfinite(y)]
        points = " ".join("{:.1f},{:.1f}".format(*frame.at(x, y)) for x, y in shown)
        kind = "run shipped" if line.shipped else "run"
        parts.append(
            f'<polyline class="{kind}" style="stroke:{colour(line.number)}" points="{points}">'
            f"<title>{escape(line.name)}</title></polyline>"
        )
    return frame.svg("".join(parts), f"{y_name} over epochs")


def scatter(points: Array, truth: Sequence[int], right: Sequence[bool], told: str) -> str:
    """(rows, 2) points in the colour of their label; a ring where the verdict was wrong."""
    low, high = points.min(0), points.max(0)
    room = 0.04 * np.maximum(high - low, 1e-9)
    (x0, y0), (x1, y1) = low - room, high + room
    frame = _Frame(360, 320, (x0, x1), (y0, y1), left=4, right=4, top=4, bottom=4)
    parts = []
    for (x, y), label, good in zip(points, truth, right, strict=True):
        px, py = frame.at(float(x), float(y))
        ink = f"fill:{colour(label)};opacity:.75" if good else f"stroke:{colour(label)};fill:none"
        parts.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{3 if good else 2.6}" style="{ink}"/>'
        )
    return frame.svg("".join(parts), told)


def intervals(entries: Sequence[tuple[str, float, Sequence[float] | None]], chance: float) -> str:
    """Dots with whiskers, the first one ours: (name, value, (low, high)) on a line from 0 to 1."""
    row = 26.0
    left = max(86.0, 20.0 + 6.5 * max(len(name) for name, _, _ in entries))
    frame = _Frame(460, 30 + row * len(entries), (0, 1), (0, 1), left, 44, 4, 26)
    bottom = frame.height - frame.bottom
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        x = frame.at(value, 0)[0]
        parts.append(f'<path class="axis" d="M{x:.1f} 2V{bottom:.1f}"/>')
        parts.append(_text(x, bottom + 15, f"{value:g}", "middle"))
    x = frame.at(chance, 0)[0]
    parts.append(f'<path class="ideal" d="M{x:.1f} 2V{bottom:.1f}"><title>chance</title></path>')
    for i, (name, value, interval) in enumerate(entries):
        y = 4 + row * (i + 0.5)
        inner = _text(frame.left - 12, y + 4, name, "end", "name")
        if interval is not None:
            ends = [frame.at(one, 0)[0] for one in interval]
            inner += f'<path class="whisker" d="M{ends[0]:.1f} {y:.1f}H{ends[1]:.1f}"/>'
        inner += f'<circle class="mark" cx="{frame.at(value, 0)[0]:.1f}" cy="{y:.1f}" r="5"/>'
        inner += _text(frame.width - 2, y + 4, f"{value:.3f}", "end", "name")
        parts.append(f'<g class="{"ours" if i == 0 else "other"}">{inner}</g>')
    return frame.svg(
        "".join(parts), "unweighted average recall with 95 % intervals", " data-narrow"
    )


def _ticks(low: float, high: float, n: int) -> list[float]:
    """About `n` round numbers between `low` and `high`."""
    span = (high - low) or 1.0
    rough = span / n
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.99)
    first = np.ceil(low / step - 1e-9) * step
    return [float(v) + 0.0 for v in np.arange(first, high + step * 1e-6, step).round(9)]


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _box(kind: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{max(height, 0):.1f}"/>'
    )
