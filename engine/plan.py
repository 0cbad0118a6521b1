"""What a session is told to do, and what it asks to be run at a tick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.timeline import GapPolicy
from engine.types import Array, Window

if TYPE_CHECKING:
    from engine.bundle import Bundle

__all__ = ["Request", "SessionPlan", "StreamPlan", "Tick"]


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What a session does with one stream. Without a bundle it is recorded, not predicted from."""

    bundle: Bundle | None = None
    input: str | None = None  # which of the bundle's inputs; needed only where it has several
    channels: Mapping[str, str] = field(default_factory=dict)
    gaps: GapPolicy = field(default_factory=GapPolicy)
    min_quality: float = 0.3


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """All that decides what a session makes of its inputs."""

    session: str
    run: str
    streams: Mapping[str, StreamPlan]
    hop_s: float = 0.5
    patience_s: float = 0.3
    origin_s: float = 0.0
    wall_offset_s: float | None = None  # Unix seconds minus engine seconds
    fusion: str = "mean"
    smoothing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One modality's windows at a tick, to be run through its bundle.

    The windows are views: take `arrays()` before the session gets its next input.
    """

    modality: str
    bundle: Bundle
    windows: Mapping[str, Window]
    entries: Mapping[str, Callable[[Window], tuple[Array, Array]]]

    def arrays(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Fresh arrays for the graph, and the windows' validity, by input."""
        pairs = {name: self.entries[name](window) for name, window in self.windows.items()}
        return {n: p[0] for n, p in pairs.items()}, {n: p[1] for n, p in pairs.items()}


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick that fired: what is to be run, what is missing and why."""

    number: int
    t: float
    requests: tuple[Request, ...]
    missing: Mapping[str, str]
    truth: str | None
    faults: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)  # of the missing
