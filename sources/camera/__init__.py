"""Cameras, video files and network streams as a source of stamped pictures."""

from __future__ import annotations

from sources.camera.source import CameraSource

__all__ = ["CameraSource"]
