"""LSL streams as sources: found, held against their signature, mapped onto the engine's clock."""

from __future__ import annotations

from sources.lsl.source import LslSource

__all__ = ["LslSource"]
