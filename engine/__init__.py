"""The engine: exact streaming from chunks of signal to predictions on a socket."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.version import __version__ as __version__

if TYPE_CHECKING:
    from engine.bundle import Bundle
    from engine.config import Config, load_config
    from engine.daemon import Engine
    from engine.errors import UserError, VagusError
    from engine.plan import SessionPlan, StreamPlan, Tick
    from engine.player import Player
    from engine.rerun import rerun, verify
    from engine.session import Session
    from engine.types import Chunk, Event, Health, Marker, Prediction, Schema, StreamInfo, Window

__all__ = [
    "Bundle",
    "Chunk",
    "Config",
    "Engine",
    "Event",
    "Health",
    "Marker",
    "Player",
    "Prediction",
    "Schema",
    "Session",
    "SessionPlan",
    "StreamInfo",
    "StreamPlan",
    "Tick",
    "UserError",
    "VagusError",
    "Window",
    "load_config",
    "rerun",
    "verify",
]

_HOMES = {
    "bundle": ("Bundle",),
    "config": ("Config", "load_config"),
    "daemon": ("Engine",),
    "errors": ("UserError", "VagusError"),
    "plan": ("SessionPlan", "StreamPlan", "Tick"),
    "player": ("Player",),
    "rerun": ("rerun", "verify"),
    "session": ("Session",),
    "types": ("Chunk", "Event", "Health", "Marker", "Prediction", "Schema", "StreamInfo", "Window"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the command line stays quick."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"engine.{module}"), name)
    raise AttributeError(f"module 'engine' has no attribute '{name}'")
