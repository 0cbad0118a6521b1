"""The commands `devices`, `doctor` and `play`: what is there, what is wrong, a file as a device."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from sources.recording import Recording

__all__ = ["devices", "doctor", "play"]

_JSON = typer.Option("--json", help="As one JSON object.")
_TITLES = {"microphones": "microphones", "cameras": "cameras", "lsl": "LSL streams"}


def devices(as_json: Annotated[bool, _JSON] = False) -> None:
    """List microphones, cameras and LSL streams, with what to write into a config."""
    from sources.devices import devices as look

    told = look()
    if as_json:
        print(json.dumps(told))
        return
    for kind, title in _TITLES.items():
        print(title)
        for one in told[kind]:
            print(f"  {_line(kind, one)}")
        if kind in told["problems"]:
            print(f"  cannot be looked for: {told['problems'][kind]}")
        elif not told[kind]:
            print("  none")


def doctor(as_json: Annotated[bool, _JSON] = False) -> None:
    """Look at all that vagus needs here; each fault comes with the one fix."""
    from sources.doctor import as_plain, examine

    findings = examine()
    if as_json:
        print(json.dumps({"findings": as_plain(findings)}))
    else:
        width = max(len(f.what) for f in findings)
        for f in findings:
            mark = "ok  " if f.ok else ("FAIL" if f.needed else "miss")
            print(f"{mark}  {f.what:{width}s}  {f.seen}")
            if not f.ok:
                print(f"      {'':{width}s}  fix: {f.fix}")
    broken = [f.what for f in findings if f.needed and not f.ok]
    if broken:
        raise ResourceError(f"vagus cannot run here as it is: {', '.join(broken)}")


def play(
    path: Annotated[Path, typer.Argument(help="A recording: EDF, XDF, CNT ...; or a data set.")],
    lsl: Annotated[bool, typer.Option("--lsl", help="As LSL outlets.")] = False,
    stream: Annotated[
        str | None, typer.Option("--stream", help="Only this stream; else all.")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Begin at once, not when somebody listens.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Whose reader: its recordings in turn.")
    ] = None,
    recording: Annotated[
        str | None, typer.Option("--recording", help="Of a data set only this one, by its uid.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", help="key=value: an option of that reader; may be repeated."),
    ] = None,
) -> None:
    """Let a file impersonate a device: its streams, with labels and units, and its markers.

    What a data set knows of its recordings becomes markers such as label=happy.
    """
    from rich.console import Console

    from sources.play import play as run

    if not lsl:
        raise ConfigError("play: say as what; --lsl makes LSL outlets")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = Console(stderr=True)
    with console.status(f"opening {path.name}") as status:
        for opened in _recordings(path, dataset, recording, options or []):
            if stop.is_set():
                break
            n = run(opened, stream, wait=not now, stop=stop, say=status.update)
            print(f"{opened.name if dataset else path.name}: {n} samples sent")


def _recordings(
    path: Path, dataset: str | None, uid: str | None, options: list[str]
) -> Iterator[Recording]:
    """The file, or what a data set has below the path, one by one."""
    from engine.arguments import pairs
    from sources.datasets import find, open_with_truth, select
    from sources.files import open_recording
    from sources.play import with_labels

    if dataset is None:
        if uid is not None or options:
            raise ConfigError("--recording and --option are of a data set; say which: --dataset")
        yield open_recording(path)
        return
    given = pairs(options)
    one = [] if uid is None else [find(dataset, path, uid, given)]
    for labelled in one or select(dataset, path, given):
        yield with_labels(open_with_truth(labelled))


def _line(kind: str, one: dict[str, Any]) -> str:
    if kind == "microphones":
        about = f"{one['channels']} channels at {one['rate_hz']:g} Hz"
        return f"{{type: microphone, device: {one['device']}}}  {one['name']}, {about}"
    if kind == "cameras":
        return f"{{type: camera, device: {one['device']}}}  {one['name']}"
    match = f"{{type: {one['type']}, name: {one['name']}}}"
    about = f"{one['channels']} channels at {one['rate_hz']:g} Hz, from {one['host']}"
    return f"{{type: lsl, match: {match}}}  {about}"
