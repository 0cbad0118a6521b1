"""A visitor's own microphone and camera, sent by a page in a browser."""

from __future__ import annotations

from sources.browser.source import BrowserSource

__all__ = ["BrowserSource"]
