"""What a config file may say about each part of a session: keys, types, bounds, defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "NAME",
    "Curve",
    "Dashboard",
    "Fusion",
    "Gaps",
    "Hop",
    "Name",
    "Notice",
    "Overload",
    "Part",
    "PluginConfig",
    "Recording",
    "Seconds",
    "Security",
    "SinkConfig",
    "Smoothing",
    "SourceConfig",
    "StreamConfig",
]

NAME = r"^[A-Za-z0-9_-]{1,64}$"

Name = Annotated[str, Field(pattern=NAME)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Hop = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """Strict and frozen: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PluginConfig(Part):
    """A plug-in by its `type`; all other keys are arguments for it."""

    model_config = ConfigDict(extra="allow")

    type: Text

    @property
    def args(self) -> dict[str, Any]:
        """Everything beside `type`."""
        return dict(self.model_extra or {})


class SourceConfig(PluginConfig):
    """Where a stream comes from: lsl, microphone, camera, browser, replay, simulate or a plug-in;
    the other keys are that source's own."""

    @property
    def live(self) -> bool:
        """Whether time passes while it runs; only `replay` can wait for the engine."""
        return self.type != "replay"


class SinkConfig(PluginConfig):
    """Where messages go besides the socket: console, jsonl or a plug-in; the other keys are that
    sink's own."""


class Gaps(Part):
    """What becomes of lost items."""

    policy: Literal["mask", "hold", "interpolate", "break"] = Field(
        default="mask",
        description="fill up to max_gap_s, or open a new segment at every gap (break)",
    )
    max_gap_s: Seconds = Field(default=0.1, description="a longer gap opens a new segment")
    reorder_s: Seconds = Field(default=0.1, description="how long to wait for items out of order")


class Overload(Part):
    """What gives way when windows come faster than they can be computed."""

    policy: Literal["latest", "block"] | None = Field(
        default=None, description="shed old ticks (live), or make the source wait (files)"
    )
    stale_s: Seconds = Field(
        default=0.5, description="under `latest`: a tick older than this is shed"
    )


class StreamConfig(Part):
    """One stream: its source, and the bundle that predicts from it."""

    source: SourceConfig
    bundle: Text | None = Field(
        default=None,
        description="a shipped name or a path; without one the stream is only recorded",
    )
    input: Text | None = Field(
        default=None, description="which of the bundle's inputs this stream feeds"
    )
    device: Literal["cpu", "cuda"] = Field(
        default="cpu",
        description="where the bundle runs: cpu in onnxruntime, cuda in torch on a GPU",
    )
    detector: Text | None = Field(
        default=None,
        description="the path of an ONNX file in place of the bundle's own detector: Silero's "
        "for a voice, YuNet's for a face",
    )
    channels: dict[str, str] = Field(
        default_factory=dict, description="bundle channel: device channel, where names differ"
    )
    gaps: Gaps = Gaps()
    overload: Overload = Overload()
    min_quality: float = Field(
        default=0.3, ge=0, le=1, description="below this a window counts as missing"
    )

    @property
    def policy(self) -> str:
        """The overload policy: as declared, else `latest` live and `block` for files."""
        return self.overload.policy or ("latest" if self.source.live else "block")


class Fusion(Part):
    """How the streams' probabilities become one prediction."""

    method: Literal["mean"] = Field(
        default="mean", description="equal-weight mean of log probabilities"
    )


class Smoothing(Part):
    """What happens to probabilities over time, causally."""

    method: Literal["none", "mean", "hysteresis"] = "none"
    n: int = Field(default=4, ge=1, le=1000, description="mean: over how many ticks")
    margin: float = Field(
        default=0.1, ge=0, le=1, description="hysteresis: the lead a new label needs"
    )


class Recording(Part):
    """A recording of predictions, events, health, stamps and commands."""

    path: Text = Field(description="placeholders: %p session, %t start time, in UTC")
    raw: bool = Field(
        default=False, description="raw signals too: only then can predictions be re-run"
    )


class Dashboard(Part):
    """The page on loopback that shows what happens."""

    port: int = Field(default=5572, ge=0, le=65535, description="0: any free one")


class Notice(Part):
    """Who answers to the people observed; `vagus check --notice` writes the notice for them."""

    controller: Text | None = Field(default=None, description="who is responsible: name, address")
    contact: Text | None = Field(default=None, description="an e-mail address or a telephone")


class Curve(Part):
    """CURVE keys for the sockets; `vagus keys` makes them."""

    secret: Text = Field(description="the engine's secret key file")
    clients: Text = Field(description="a folder with the public keys of all who may connect")


class Security(Part):
    """What any address but loopback and ipc needs."""

    curve: Curve | None = None
