"""The commands `devices`, `doctor` and `play`: what is there, what is wrong, a file as a device."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import ConfigError, ResourceError

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
    path: Annotated[Path, typer.Argument(help="A recording, such as an EDF, XDF or CNT file.")],
    lsl: Annotated[bool, typer.Option("--lsl", help="As LSL outlets.")] = False,
    stream: Annotated[
        str | None, typer.Option("--stream", help="Only this stream; else all.")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Begin at once, not when somebody listens.")
    ] = False,
) -> None:
    """Let a file impersonate a device: its streams, with labels and units, and its markers."""
    from rich.console import Console

    from sources.files import open_recording
    from sources.play import play as run

    if not lsl:
        raise ConfigError("play: say as what; --lsl makes LSL outlets")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = Console(stderr=True)
    with console.status(f"opening {path.name}") as status:
        n = run(open_recording(path), stream, wait=not now, stop=stop, say=status.update)
    print(f"{path.name}: {n} samples sent")


def _line(kind: str, one: dict[str, Any]) -> str:
    if kind == "microphones":
        about = f"{one['channels']} channels at {one['rate_hz']:g} Hz"
        return f"{{type: microphone, device: {one['device']}}}  {one['name']}, {about}"
    if kind == "cameras":
        return f"{{type: camera, device: {one['device']}}}  {one['name']}"
    match = f"{{type: {one['type']}, name: {one['name']}}}"
    about = f"{one['channels']} channels at {one['rate_hz']:g} Hz, from {one['host']}"
    return f"{{type: lsl, match: {match}}}  {about}"
