"""Predictions as LSL streams, for LabRecorder and every other LSL tool."""

from __future__ import annotations

import math
import time
from typing import Any

from engine.errors import ResourceError
from engine.types import Event, Marker, Message, Prediction, Schema
from engine.version import __version__

__all__ = ["LslSink"]

_DIMENSIONS = ("valence", "arousal", "dominance")


class LslSink:
    """One outlet of predictions and one of markers per session.

    `vagus.<session>` of type `stream_type` is irregular and double64: a channel for each label
    (type Probability), valence, arousal and dominance (NaN where no bundle gives them),
    confidence and latency_ms. A sample is stamped with the end of its window, on LSL's clock.
    `vagus.<session>.markers` has one text channel: `label:…` when the label changes,
    `event:CODE stream` and `marker:value`. Both are there from the session's first message.
    """

    def __init__(self, stream_type: str = "Emotion") -> None:
        try:
            import pylsl
        except (ImportError, OSError, RuntimeError) as error:
            raise ResourceError(
                f"the sink lsl needs liblsl: {error}; install it with: pip install pylsl"
            ) from error
        self._pylsl, self._type = pylsl, stream_type
        # Both clocks count the seconds of this machine; they may begin at different moments.
        self._offset_s = pylsl.local_clock() - time.monotonic()
        self._outlets: dict[str, tuple[Any, Any, tuple[str, ...]]] = {}
        self._label: dict[str, str | None] = {}

    def write(self, message: Message) -> None:
        """Push what a message tells to the outlets of its session."""
        if isinstance(message, Schema):
            self._open(message)
        elif (found := self._outlets.get(message.session)) is not None:
            predictions, markers, labels = found
            stamp_s = message.t + self._offset_s
            if isinstance(message, Prediction):
                predictions.push_sample(_sample(message, labels), stamp_s)
                if message.label != self._label.get(message.session):
                    self._label[message.session] = message.label
                    markers.push_sample([f"label:{message.label or 'none'}"], stamp_s)
            elif isinstance(message, Event):
                markers.push_sample([f"event:{message.code} {message.stream or ''}"], stamp_s)
            elif isinstance(message, Marker):
                markers.push_sample([f"marker:{message.value}"], stamp_s)

    def close(self) -> None:
        """Take the outlets off the network."""
        self._outlets.clear()

    def _open(self, schema: Schema) -> None:
        """The outlets of a session, once; other labels are another pair."""
        labels = tuple(dict.fromkeys(x for b in schema.bundles.values() for x in b["labels"]))
        known = self._outlets.get(schema.session)
        if known is not None and known[2] == labels:
            return
        name = f"vagus.{schema.session}"
        channels = [(label, "Probability", "probability") for label in labels]
        channels += [(d, d.capitalize(), "normalized") for d in _DIMENSIONS]
        channels += [("confidence", "Confidence", "probability"), ("latency_ms", "Latency", "ms")]
        info = self._info(name, self._type, len(channels), "double64", schema)
        described = info.desc().append_child("channels")
        for label, kind, unit in channels:
            channel = described.append_child("channel")
            for key, value in (("label", label), ("type", kind), ("unit", unit)):
                channel.append_child_value(key, value)
        markers = self._info(f"{name}.markers", "Markers", 1, "string", schema)
        outlet = self._pylsl.StreamOutlet
        self._outlets[schema.session] = outlet(info), outlet(markers), labels

    def _info(self, name: str, kind: str, n: int, form: str, schema: Schema) -> Any:
        info = self._pylsl.StreamInfo(name, kind, n, 0.0, form, f"{name}.{schema.run}")
        about = info.desc().append_child("acquisition")
        about.append_child_value("manufacturer", "vagus")
        about.append_child_value("model", f"vagus {__version__}")
        return info


def _sample(message: Prediction, labels: tuple[str, ...]) -> list[float]:
    p, dimensions = message.probabilities or {}, message.dimensions or {}
    values = [p.get(label, math.nan) for label in labels]
    values += [dimensions.get(name, math.nan) for name in _DIMENSIONS]
    confidence = math.nan if message.confidence is None else message.confidence
    return [*values, confidence, message.latency_ms.get("total", math.nan)]
