"""Where chunks come from: recordings, and simulated participants with known truth."""

from __future__ import annotations

from sources.files import inspect, open_recording, recordings_below
from sources.participant import LatentState
from sources.recording import RecordedStream, Recording
from sources.replay import ReplaySource
from sources.simulate import SimulateSource

__all__ = [
    "LatentState",
    "RecordedStream",
    "Recording",
    "ReplaySource",
    "SimulateSource",
    "inspect",
    "open_recording",
    "recordings_below",
]
