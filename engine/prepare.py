"""From a config to what runs: bundles loaded, hops chosen, sources and sinks built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine import plugins
from engine.bundle import Bundle
from engine.clock import Clock
from engine.config import Config
from engine.detector import with_detector
from engine.errors import BundleError, ConfigError, ResourceError
from engine.plan import SessionPlan, StreamPlan
from engine.timeline import GapPolicy
from engine.types import Sink, Source

__all__ = ["bundle_for", "make_sinks", "make_sources", "plan"]

_DEFAULT_HOP_S = 0.5


def plan(
    config: Config,
    run: str,
    origin_s: float,
    wall_offset_s: float | None,
    load: Callable[[str, str], Bundle] = Bundle.load,
) -> SessionPlan:
    """What the session of `config` does; raises ConfigError with the place in the file."""
    streams: dict[str, StreamPlan] = {}
    for name, stream in config.streams.items():
        bundle = None
        if stream.bundle is not None:
            try:
                bundle = load(stream.bundle, stream.device)
            except BundleError as error:
                key = f"streams.{name}.bundle"
                raise ConfigError(f"{config.where(key)}: {key}: {error}") from error
            except ResourceError as error:
                raise ResourceError(f"{config.where(f'streams.{name}.device')}: {error}") from error
        if stream.detector is not None:
            bundle = _seen_by(config, name, bundle, stream.detector)
        gaps = GapPolicy(stream.gaps.policy, stream.gaps.max_gap_s, stream.gaps.reorder_s)
        streams[name] = StreamPlan(bundle, stream.input, stream.channels, gaps, stream.min_quality)
    hops = [s.bundle.hop_s for s in streams.values() if s.bundle is not None]
    return SessionPlan(
        session=config.session,
        run=run,
        streams=streams,
        hop_s=config.hop_s or min(hops, default=_DEFAULT_HOP_S),
        patience_s=config.patience_s,
        origin_s=origin_s,
        wall_offset_s=wall_offset_s,
        fusion=config.fusion.method,
        smoothing=config.smoothing.model_dump(),
    )


def bundle_for(
    config: Config, stream: str, which: str, load: Callable[[str, str], Bundle] = Bundle.load
) -> Bundle:
    """The bundle `which` as the config wants it for a stream: on its device, with its detector."""
    told = config.streams[stream]
    bundle = load(which, told.device)
    if told.detector is None:
        return bundle
    return _seen_by(config, stream, bundle, told.detector)


def _seen_by(config: Config, name: str, bundle: Bundle | None, detector: str) -> Bundle:
    key = f"streams.{name}.detector"
    if bundle is None:
        raise ConfigError(f"{config.where(key)}: {key}: goes with a bundle; {name} has none")
    if not Path(detector).expanduser().is_file():
        raise ConfigError(f"{config.where(key)}: {key}: {detector}: no such file")
    try:
        return with_detector(bundle, detector)
    except ConfigError as error:
        raise ConfigError(f"{config.where(key)}: {key}: {error}") from error


def make_sources(config: Config, clock: Clock, origin_s: float) -> dict[str, Source]:
    """One source per stream, not entered yet; none touches a device here."""
    sources: dict[str, Source] = {}
    for name, stream in config.streams.items():
        factory = plugins.load("vagus.sources", stream.source.type)
        given: Mapping[str, Any] = {"clock": clock, "stream": name, "origin_s": origin_s}
        takes = inspect.signature(factory).parameters
        args = {key: value for key, value in given.items() if key in takes}
        try:
            sources[name] = factory(**(args | stream.source.args))
        except ConfigError as error:
            key = f"streams.{name}.source"
            raise ConfigError(f"{config.where(key)}: {key}: {error}") from error
    return sources


def make_sinks(config: Config) -> list[Sink]:
    """The sinks that run inside the engine's process."""
    return [plugins.load("vagus.sinks", sink.type)(**sink.args) for sink in config.sinks]
