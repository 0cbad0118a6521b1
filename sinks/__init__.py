"""Where messages end: a client for a running engine, the terminal, and JSON lines."""

from __future__ import annotations

from sinks.console import ConsoleSink
from sinks.jsonl import JsonlSink
from sinks.subscribe import (
    AsyncSubscription,
    Hole,
    Subscription,
    subscribe,
    subscribe_async,
)

__all__ = [
    "AsyncSubscription",
    "ConsoleSink",
    "Hole",
    "JsonlSink",
    "Subscription",
    "subscribe",
    "subscribe_async",
]
