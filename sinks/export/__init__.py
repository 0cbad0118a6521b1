"""Recordings in the formats of others: XDF, EDF, BIDS, CSV, EmotionML."""

from __future__ import annotations

from sinks.export.formats import FORMATS, export
from sinks.export.pseudonyms import Pseudonyms
from sinks.export.recorded import Recorded

__all__ = ["FORMATS", "Pseudonyms", "Recorded", "export"]
