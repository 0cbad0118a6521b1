"""The config file: one session, its streams, and everything that may be said about them."""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path as FilePath
from typing import Any

from pydantic import Field, PrivateAttr, field_validator

from engine import plugins
from engine.arguments import misfits
from engine.config.complaints import locate, place_of, refusal, validated
from engine.config.purpose import RECORDED, Basis, Purpose, objection
from engine.config.settings import (
    NAME,
    Curve,
    Dashboard,
    Fusion,
    Gaps,
    Hop,
    Name,
    Notice,
    Overload,
    Part,
    PluginConfig,
    Recording,
    Seconds,
    Security,
    SinkConfig,
    Smoothing,
    SourceConfig,
    StreamConfig,
)
from engine.config.yaml import Document, Path, Place, dotted, parse
from engine.errors import ConfigError

__all__ = [
    "Config",
    "Curve",
    "Dashboard",
    "Fusion",
    "Gaps",
    "Overload",
    "Recording",
    "Security",
    "SinkConfig",
    "Smoothing",
    "SourceConfig",
    "StreamConfig",
    "agree",
    "config_from",
    "load_config",
    "repeat",
    "shipped",
    "shipped_names",
]

_PATTERNS = {NAME: "1 to 64 letters, digits, '-' or '_'"}
_ADDRESS = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]/:\s]+):(?P<port>\d{1,5}|\*)")
_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}|localhost|\[::1\]")
_GIVEN = ("clock", "stream")  # what the engine itself hands to a source


class Config(Part):
    """One session of the engine, as its config file describes it."""

    session: Name
    purpose: Purpose | None = Field(
        default=None, description="what people are observed for; live sources need it"
    )
    basis: Basis | None = Field(
        default=None, description="what alone allows the purposes workplace and education"
    )
    notice: Notice = Notice()
    retention_days: int | None = Field(
        default=None, ge=1, le=36500, description="how long what is recorded may be kept"
    )
    hop_s: Hop | None = Field(
        default=None, description="the tick grid; default: the smallest hop of the bundles"
    )
    patience_s: Seconds = Field(
        default=0.3, description="how long a live tick waits for a late stream"
    )
    publish: str = Field(default="tcp://127.0.0.1:5570", description="where subscribers connect")
    control: str = Field(default="tcp://127.0.0.1:5571", description="where commands come in")
    streams: dict[Name, StreamConfig] = Field(min_length=1)
    fusion: Fusion = Fusion()
    smoothing: Smoothing = Smoothing()
    recording: Recording | None = None
    sinks: list[SinkConfig] = Field(default_factory=list)
    dashboard: Dashboard | None = None
    security: Security | None = None

    _name: str = PrivateAttr(default="config")
    _places: Mapping[Path, Place] = PrivateAttr(default_factory=dict)

    @field_validator("publish", "control")
    @classmethod
    def _is_address(cls, address: str) -> str:
        match = _ADDRESS.fullmatch(address)
        if not (match and (match["port"] == "*" or int(match["port"]) < 65536)) and not (
            address.startswith("ipc://") and len(address) > len("ipc://")
        ):
            raise ValueError(f"expected tcp://host:port or ipc://path, found the text {address!r}")
        return address

    def where(self, path: str | Path) -> str:
        """`live.yaml:7:5` for the key at `path` (`streams.eeg.bundle`, or a tuple of its parts),
        or for the nearest map around it that the file has."""
        wanted = path if isinstance(path, str) else dotted(path)
        places = {dotted(known): place for known, place in self._places.items()}
        while wanted not in places and wanted:
            wanted = wanted.rpartition(".")[0]
        return locate(self._name, places.get(wanted))

    def check_plugins(self, load: Callable[[str, str], Any] = plugins.load) -> None:
        """Raise one ConfigError for all sources and sinks that do not exist, or that get
        arguments they do not take. Opens no device."""
        faults = list(self._plugin_faults(load))
        if faults:
            problems = [(place_of(self._places, path), path, text) for path, text in faults]
            raise refusal(self._name, self._places, problems)

    def _plugin_faults(self, load: Callable[[str, str], Any]) -> Iterator[tuple[Path, str]]:
        asked: list[tuple[Path, str, PluginConfig, tuple[str, ...]]] = [
            (("streams", name, "source"), "vagus.sources", stream.source, _GIVEN)
            for name, stream in self.streams.items()
        ]
        asked += [
            (("sinks", i), "vagus.sinks", sink, ("clock",)) for i, sink in enumerate(self.sinks)
        ]
        for path, group, plugin, given in asked:
            try:
                factory = load(group, plugin.type)
            except ConfigError as error:
                yield (*path, "type"), str(error)
                continue
            for key, text in misfits(plugin.args, factory, given):
                yield ((*path, key) if key else path), text


def load_config(path: str | os.PathLike[str]) -> Config:
    """The config at `path`, or the shipped one of that name.

    Raises ConfigError that names all problems of the file, each with line and column.
    """
    name = os.fspath(path)
    file = FilePath(name)
    try:
        if not file.is_file() and name in shipped_names():
            return _build(parse(shipped(name), f"{name}.yaml"))
        return _build(parse(file.read_bytes(), name))
    except FileNotFoundError as error:
        known = shipped_names()
        hint = plugins.nearest(name, known) or f"; shipped configs: {', '.join(known)}"
        raise ConfigError(f"{name}: no such file{hint}") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{name}: is a folder; expected a config file") from error
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error


def config_from(value: Mapping[str, Any], name: str = "config") -> Config:
    """A config out of a map that was never a file (a `join` command); errors have no positions."""
    return _build(Document(name, dict(value), {}))


def shipped_names() -> tuple[str, ...]:
    """The configs that come with vagus, in alphabetical order."""
    folder = importlib.resources.files("configs")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml")))


def shipped(name: str) -> bytes:
    """The text of the shipped config `name`; ConfigError if there is none."""
    known = shipped_names()
    if name not in known:
        raise ConfigError(f"no shipped config is called {name!r}{plugins.nearest(name, known)}")
    return (importlib.resources.files("configs") / f"{name}.yaml").read_bytes()


def repeat(config: Config, n: int) -> list[Config]:
    """`n` sessions out of one, `<session>-1` to `<session>-n`; simulated person p becomes p + i.

    Raises ConfigError for live sources (a device is there once) and where files would collide.
    """
    if n < 1:
        raise ConfigError(f"--sessions {n}: expected 1 or more")
    for name, stream in config.streams.items():
        if stream.source.type not in RECORDED:
            where = config.where(f"streams.{name}.source.type")
            raise ConfigError(
                f"{where}: --sessions repeats replayed and simulated sessions; the source "
                f"{stream.source.type!r} of {name} is there only once"
            )
    if config.recording is not None and "%p" not in config.recording.path:
        raise ConfigError(
            f"{config.where('recording.path')}: {n} sessions would write one file: put the "
            "session's name, %p, into recording.path"
        )
    if len(longest := f"{config.session}-{n}") > 64:
        raise ConfigError(f"{config.where('session')}: {longest!r} is longer than 64 characters")
    return [
        config.model_copy(
            update={
                "session": f"{config.session}-{i}",
                "streams": {name: _other(stream, i) for name, stream in config.streams.items()},
            }
        )
        for i in range(1, n + 1)
    ]


def agree(configs: Sequence[Config]) -> None:
    """Raise ConfigError unless `configs` can run in one engine: sockets equal, sessions not."""
    for one, other in combinations(configs, 2):
        if one.session == other.session:
            raise ConfigError(
                f"{other.where('session')}: the session {other.session!r} is there already, at "
                f"{one.where('session')}: give each its own name"
            )
    for other in configs[1:]:
        for key in ("publish", "control", "dashboard", "security"):
            mine, theirs = getattr(configs[0], key), getattr(other, key)
            if mine != theirs:
                raise ConfigError(
                    f"{other.where(key)}: {key} differs from {configs[0].where(key)}: configs "
                    "that run in one engine share its sockets"
                )


def _other(stream: StreamConfig, i: int) -> StreamConfig:
    """`stream` of the i-th session: another simulated person, or the same files."""
    source = stream.source
    person = source.args.get("person", 0)
    if source.type != "simulate" or not isinstance(person, int):
        return stream
    return stream.model_copy(update={"source": source.model_copy(update={"person": person + i})})


def _build(document: Document) -> Config:
    value = document.value
    rules = _broken_rules(value) if isinstance(value, dict) else ()
    config = validated(Config, document, _PATTERNS, rules)
    config._name, config._places = document.name, document.places
    return config


def _broken_rules(value: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """What no single key can tell: purposes against sources, addresses against keys."""
    streams = value.get("streams")
    sources = [
        stream["source"].get("type")
        for stream in (streams.values() if isinstance(streams, dict) else ())
        if isinstance(stream, dict) and isinstance(stream.get("source"), dict)
    ]
    reason = objection(value.get("purpose"), value.get("basis"), sources)
    if reason is not None:
        yield (("purpose",) if "purpose" in value else ()), reason
    security = value.get("security")
    curve = security.get("curve") if isinstance(security, dict) else None
    for key in ("publish", "control"):
        match = _ADDRESS.fullmatch(str(value.get(key)))
        if match and not _LOOPBACK.fullmatch(match["host"]) and curve is None:
            yield (
                (key,),
                (
                    "an address beyond loopback needs keys: run 'vagus keys DIR' and name them "
                    "under security.curve, or use 127.0.0.1"
                ),
            )
