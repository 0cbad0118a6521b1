"""Where messages end: a client for a running engine, the terminal, and JSON lines."""

from __future__ import annotations

from sinks.console import ConsoleSink
from sinks.jsonl import JsonlSink
from sinks.subscribe import Hole, Subscription, subscribe

__all__ = ["ConsoleSink", "Hole", "JsonlSink", "Subscription", "subscribe"]
