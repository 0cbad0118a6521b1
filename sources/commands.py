"""The commands that start from files and simulations: replay, inspect, demo."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.bundle import Bundle
    from engine.types import Prediction
    from sources.recording import Recording

__all__ = ["demo", "inspect", "replay"]


def replay(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Recordings, or folders of them.", show_default=False),
    ] = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option("--bundle", help="[STREAM=]BUNDLE: what reads it; a shipped name or a path."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Whose reader: each trial a session, with its truth."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", help="key=value: an option of that reader; may be repeated."),
    ] = None,
    speed: Annotated[
        str | None, typer.Option("--speed", help="A factor of real time, or max.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option("--chunk", help="Items per chunk; changes nothing.", min=1)
    ] = None,
    publish: Annotated[
        str | None, typer.Option("--publish", help="Serve it live on this address.")
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="All recordings at once, a session each.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Predictions as JSON lines.")] = None,
) -> None:
    """Play recordings through the engine, as fast as possible or as if they were live.

    Without --publish nothing is bound, and the default speed is max; with it, 1.
    """
    wanted = _bundles(bundle or [])
    if dataset == "recording" and not wanted:
        dataset = None  # our own recordings know their bundles
    takes = _takes(paths or [], dataset, options or [])
    factor = _speed(speed or ("1" if publish else "max"))
    if out is not None:
        _write(takes, wanted, chunk, out)
    if publish is not None:
        _serve(takes, bundle or [], factor, chunk, publish, together)
    elif out is None:
        _show(takes, wanted, factor, chunk)


def inspect(
    path: Annotated[Path, typer.Argument(help="A recording.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say what is in a file: its streams, rates, channels, how long."""
    from sources.files import inspect as look

    found = look(path)
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("stream", "kind", "items", "rate", "channels", "unit", title=path.name)
    for s in found["streams"]:
        names = ", ".join(s["channels"][:6]) + (" …" if len(s["channels"]) > 6 else "")
        channels = f"{len(s['channels'])}: {names}"
        table.add_row(
            s["name"], s["kind"], str(s["n"]), f"{s['rate_hz']:g} Hz", channels, s["unit"]
        )
    Console().print(table)
    print(f"{found['duration_s']:.3f} s, {found['markers']} markers")


def demo(
    duration: Annotated[
        float | None, typer.Option("--duration", help="Stop after so many seconds.", min=0.0)
    ] = None,
    no_dashboard: Annotated[
        bool, typer.Option("--no-dashboard", help="Show it in the terminal only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One message a line.")] = False,
) -> None:
    """A simulated participant, whose true state is known, read live by a shipped bundle."""
    from engine import plugins
    from engine.config import load_config
    from engine.daemon import Engine
    from engine.page import beside
    from sources.synthetic.bayes import RATES

    sink = plugins.load("vagus.sinks", "jsonl" if as_json else "console")
    sinks = [sink(path="-") if as_json else sink()]
    config = load_config("demo")
    if no_dashboard:
        config = config.model_copy(update={"dashboard": None})
    engine = Engine([config], sinks=sinks)
    with engine.signals(), engine, beside(config, engine.publisher.url, engine.control.url):
        engine.loop(duration)
    if not as_json:
        told = ", ".join(f"{kind} {rate:.0%}" for kind, rate in RATES.items())
        print(f"of one signal alone nobody can be expected to get more right than: {told}")


def _speed(text: str) -> float | None:
    """A factor of real time; None is as fast as possible."""
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0.0 < factor < 1e6:
        raise ConfigError(f"--speed {text}: expected a number above 0, or max")
    return factor


def _bundles(options: list[str]) -> dict[str, Bundle]:
    """["eeg=B", "B"] -> {"eeg": bundle, "": bundle}."""
    from engine.bundle import Bundle

    wanted: dict[str, Bundle] = {}
    for option in options:
        stream, equals, name = option.rpartition("=")
        if equals and (not stream or "/" in stream):
            stream, name = "", option
        wanted[stream] = Bundle.load(name)
    return wanted


class _Take(NamedTuple):
    """What is replayed: a file, or a recording of a data set; `source` is how a config names it."""

    path: Path
    open: Callable[[], Recording]
    source: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether it is the engine's own log, which is run again rather than read."""
        return self.path.suffix.lower() == ".mcap" and "dataset" not in self.source


def _takes(paths: list[Path], dataset: str | None, options: list[str]) -> list[_Take]:
    """The files below `paths`, or what a data set's reader finds there."""
    from engine.arguments import pairs
    from sources.datasets import open_with_truth, select
    from sources.files import RECORDINGS, open_recording, recordings_below

    if not paths and dataset != "simulate":
        raise ConfigError("replay: which recordings? give a file, or a folder of them")
    if dataset is None:
        if options:
            raise ConfigError("--option is meant for a data set's reader; say which: --dataset")
        files = [f for path in paths for f in recordings_below(path, RECORDINGS | {".mcap"})]
        return [_Take(f, partial(open_recording, f), {"path": str(f)}) for f in files]
    given = pairs(options)
    takes = []
    for path in paths or [Path()]:
        about: dict[str, Any] = {"path": str(path), "dataset": dataset}
        about |= {"options": given} if given else {}
        for one in select(dataset, path, given):
            opener = partial(open_with_truth, one)
            takes.append(_Take(one.path, opener, {**about, "recording": one.uid}))
    return takes


def _messages(
    take: _Take,
    wanted: dict[str, Bundle],
    chunk: int | None,
    pace: Callable[[float], None] = lambda t_s: None,
) -> Iterator[Any]:
    """Everything that one recording gives, in order."""
    from engine.player import Player, recut
    from engine.rerun import rerun
    from sources.feed import match_bundles, play_recording, recording_plan

    if take.is_ours:
        cut = (lambda c: recut([c], chunk)) if chunk is not None else None
        yield from rerun(take.path, cut=cut)
        return
    if not wanted:
        raise ConfigError(
            f"{take.path}: which bundle reads it? for example: --bundle workload-eegmat "
            "(vagus bundle show lists the shipped ones)"
        )
    recording = take.open()
    for warning in recording.warnings:
        print(f"{take.path}: {warning}", file=sys.stderr)
    player = Player(recording_plan(recording, match_bundles(recording, wanted)))
    yield from play_recording(recording, player, chunk, pace)


def _write(takes: list[_Take], wanted: dict[str, Bundle], chunk: int | None, out: Path) -> None:
    """All predictions as JSON lines: a pure function of files, bundles and options."""
    from rich.progress import track

    from engine.errors import ResourceError
    from engine.types import Prediction
    from engine.wire import to_json

    show = len(takes) > 1 and sys.stderr.isatty()
    listed: Iterable[_Take] = track(takes, "replay", transient=True) if show else takes
    try:
        with out.open("w", encoding="utf-8") as lines:
            for take in listed:
                for message in _messages(take, wanted, chunk):
                    if isinstance(message, Prediction):
                        line = to_json(message)
                        del line["run"], line["latency_ms"]
                        lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ResourceError(f"cannot write {out}: {error.strerror}") from error


def _show(
    takes: list[_Take], wanted: dict[str, Bundle], speed: float | None, chunk: int | None
) -> None:
    """Predictions in the terminal, one line each."""
    from engine.types import Prediction

    for take in takes:
        with _pacer(speed) as pace:
            for message in _messages(take, wanted, chunk, pace):
                if isinstance(message, Prediction):
                    print(_line(message))


@contextmanager
def _pacer(speed: float | None) -> Iterator[Callable[[float], None]]:
    """Something to call with event times, that returns when they are due."""
    import threading

    from engine.clock import MonotonicClock

    clock, never = MonotonicClock(), threading.Event()
    began: list[float] = []

    def pace(t_s: float) -> None:
        if speed is None:
            return
        began[:] = began or [clock.now(), t_s]
        clock.wait_until(began[0] + (t_s - began[1]) / speed, never)

    yield pace


def _line(p: Prediction) -> str:
    shares = " ".join(f"{k} {v:.2f}" for k, v in (p.probabilities or {}).items())
    label = p.label or ("unsure" if p.probabilities else "-")
    why = "; ".join(f"{m}: {p.modalities[m]['reason']}" for m in p.missing)
    return f"{p.session}  {p.t:8.2f} s  {label:10s} {shares}{why}"


def _serve(
    takes: list[_Take], options: list[str], speed: float | None, chunk: int | None,
    publish: str, together: bool,
) -> None:  # fmt: skip
    """Recordings as live sessions: through inbox, loop and socket like any device."""
    from engine.config import config_from
    from engine.daemon import Engine
    from sources.feed import match_bundles, session_name

    wanted = _bundles(options)
    named = {
        stream: option.rpartition("=")[2] for stream, option in zip(wanted, options, strict=True)
    }
    configs = []
    for take in takes:
        if take.is_ours:
            raise ConfigError(f"{take.path}: a recording is replayed without --publish, with --out")
        streams, recording = {}, take.open()
        for stream, bundle in match_bundles(recording, wanted).items():
            source: dict[str, Any] = {"type": "replay", **take.source, "stream_in_file": stream}
            source |= {"speed": "max" if speed is None else speed}
            source |= {} if chunk is None else {"chunk": chunk}
            name = named.get(stream, named.get("", bundle.id))
            streams[stream] = {"source": source, "bundle": name}
        sockets = {"publish": publish, "control": "tcp://127.0.0.1:*"}
        name = session_name(recording.name)
        configs.append(config_from({"session": name, "streams": streams} | sockets))
    engine = Engine(configs, together=together)
    with engine.signals(), engine:
        print(f"ready: publish {engine.publisher.url} control {engine.control.url}", flush=True)
        engine.loop()
