"""The dashboard: one local page that shows a running engine and steers it."""

from __future__ import annotations

from sinks.dashboard.server import Dashboard

__all__ = ["Dashboard"]
