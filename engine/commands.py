"""The commands that the engine itself brings: run, check, control, keys, record, verify."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import ConfigError

__all__ = ["KEY", "SERVER", "check", "client_keys", "control", "keys", "record", "run", "verify"]

KEY = typer.Option("--key", help="Your NAME.key_secret, for an engine that demands CURVE.")
SERVER = typer.Option("--server", help="The engine's public key, engine.key.")

_ANSWER_S = 30.0  # a bundle is loaded and tried before swap and join answer
_DURATION = typer.Option("--duration", help="Stop after so many seconds.", min=0.0)


def run(
    configs: Annotated[list[str], typer.Argument(help="Config files, or shipped names.")],
    duration: Annotated[float | None, _DURATION] = None,
    sessions: Annotated[
        int, typer.Option("--sessions", help="Repeat simulated or replayed sessions.", min=1)
    ] = 1,
) -> None:
    """Run the engine: sources in, predictions out, until stopped."""
    from engine.config import agree, load_config, repeat

    loaded = [load_config(name) for name in configs]
    if sessions > 1:
        loaded = [one for config in loaded for one in repeat(config, sessions)]
    _serve(loaded, duration, agree)


def record(
    config: Annotated[str, typer.Argument(help="A config file, or a shipped name.")],
    out: Annotated[Path, typer.Option("--out", help="The recording to write (.mcap).")],
    duration: Annotated[float | None, _DURATION] = None,
) -> None:
    """Run a config and record everything, raw signals too."""
    from engine.config import agree, load_config
    from engine.config.settings import Recording

    loaded = load_config(config)
    recording = Recording(path=str(out), raw=True)
    _serve([loaded.model_copy(update={"recording": recording})], duration, agree)


def check(
    config: Annotated[str | None, typer.Argument(help="A config file, or a shipped name.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema, for editors.")
    ] = False,
    notice: Annotated[
        bool, typer.Option("--notice", help="Write the notice for the people observed.")
    ] = False,
) -> None:
    """Resolve a config without opening a device, and say what it would do.

    With --notice, write in Markdown what those observed have to be told: hang it up, hand it out.
    """
    from engine.config import Config, load_config
    from engine.prepare import make_sources, plan

    if schema:
        print(json.dumps(Config.model_json_schema(), indent=2))
        return
    if config is None:
        raise ConfigError("which config? vagus check CONFIG, or vagus check --schema")
    loaded = load_config(config)
    loaded.check_plugins()
    planned = plan(loaded, "check", 0.0, None)
    from engine.clock import MonotonicClock

    make_sources(loaded, MonotonicClock(), 0.0)
    if notice:
        from engine.config.notice import notice as written

        print(written(loaded, planned), end="")
        return
    print(f"session {planned.session}: a prediction every {planned.hop_s:g} s")
    for name, stream in planned.streams.items():
        source = loaded.streams[name].source.type
        reads = "recorded only" if stream.bundle is None else f"read by {stream.bundle.id}"
        print(f"  {name}: {source}, {reads}")


def control(
    verb: Annotated[str, typer.Argument(help="What to do, see above.")],
    args: Annotated[
        list[str] | None, typer.Argument(help="The verb's arguments, as key=value.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", help="The engine's control socket.")
    ] = "tcp://127.0.0.1:5571",
    key: Annotated[Path | None, KEY] = None,
    server: Annotated[Path | None, SERVER] = None,
) -> None:
    """Ask a running engine something, or to do something; prints its answer as JSON.

    Every verb may be repeated without harm. `session=NAME` goes with all but status, join and
    shutdown, and may be left out where there is one session.

    \b
    status                               what runs: streams, bundles, recordings, what is muted
    pause, resume                        predict nothing in between
    mark value=TEXT                      a marker, now
    calibrate stream=NAME seconds=30     learn the person's own level from the next seconds
    mute stream=NAME, unmute stream=NAME leave a modality out, use it again
    swap stream=NAME bundle=NAME_OR_PATH another bundle, between two ticks
    record path=%p-%t.mcap raw=true      record from now on; stop_record ends it
    join config=NAME_OR_PATH, leave      open a session, end one
    fetch kind=prediction first=0 last=9 messages that were missed, by number
    preview on=true                      decimated signals for a dashboard, ten seconds long
    shutdown                             end the engine

    \b
    vagus control swap stream=eeg bundle=runs/eeg-2/bundle
    vagus control mark session=p01 value="video 3"
    """
    from engine.control import VERBS, request

    texts = {name for name, arg in VERBS.get(verb, {}).items() if arg.types == (str,)}
    given, keys = _pairs(args or [], texts), client_keys(key, server)
    for name in ("bundle", "config"):  # the engine may run in another folder
        if isinstance(path := given.get(name), str) and Path(path).exists():
            given[name] = str(Path(path).resolve())
    print(json.dumps(request(url, verb, given, timeout_s=_ANSWER_S, keys=keys), default=_plain))


def keys(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the keys go.")],
    clients: Annotated[
        list[str] | None, typer.Argument(metavar="CLIENT...", help="Who may connect, by name.")
    ] = None,
) -> None:
    """Make CURVE keys: the engine's, and a pair for each client; what is there stays.

    The config names DIR/engine.key_secret and DIR/clients under security.curve. Give each client
    its own NAME.key_secret and engine.key, and delete NAME.key_secret here.
    """
    from engine.keys import make_keys

    names = clients or []
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or name == "engine":
            raise ConfigError(f"{name!r} is no name for a client: 1 to 64 letters, digits, - or _")
    made = make_keys(folder, names)
    for path in made:
        print(path)
    if not made:
        print(f"{folder}: all keys are there already", file=sys.stderr)


def verify(
    path: Annotated[Path, typer.Argument(help="A recording (.mcap).")],
) -> None:
    """Prove a recording: every byte, the account, and the same predictions again."""
    from engine.rerun import verify as prove

    proof = prove(path)
    report = proof.report
    print(f"{path}: {report.n_records} records, every checksum and number right")
    for kind, n in sorted(report.counts.items()):
        print(f"  {n:8d} {kind}")
    if not report.clean:
        print("  the recording has no clean end: the engine was killed, or the disk failed")
    if proof.reason is None:
        print(f"  {proof.n_compared} predictions made again from the inputs: equal, bit for bit")
    else:
        print(f"  predictions not made again: {proof.reason}")


def client_keys(key: Path | None, server: Path | None) -> Any:
    """The keys that --key and --server name; None without either, ConfigError with one alone."""
    from engine.keys import ClientKeys

    if key is None and server is None:
        return None
    if key is None or server is None:
        raise ConfigError("--key and --server go together: NAME.key_secret and engine.key")
    return ClientKeys.load(key, server)


def _serve(configs: list[Any], duration: float | None, agree: Any) -> None:
    from engine.daemon import Engine
    from engine.page import beside

    agree(configs)
    for config in configs:
        config.check_plugins()
    engine = Engine(configs)
    with engine.signals(), engine:
        print(f"ready: publish {engine.publisher.url} control {engine.control.url}", flush=True)
        _tell_systemd("READY=1")
        with beside(configs[0], engine.publisher.url, engine.control.url):
            engine.loop(duration)
        _tell_systemd("STOPPING=1")


def _tell_systemd(state: str) -> None:
    """The service manager's notification protocol (sd_notify): a datagram to its socket."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall(state.encode())
        except OSError as error:
            print(f"vagus: systemd was not told: {error}", file=sys.stderr)


def _pairs(args: list[str], texts: set[str]) -> dict[str, Any]:
    """key=value -> {key: value}, values as JSON where they are JSON, else (and `texts`) as text."""
    pairs: dict[str, Any] = {}
    for arg in args:
        key, equals, value = arg.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{arg}' is not key=value; for example: session=p01")
        pairs[key] = value
        if key not in texts:
            with suppress(json.JSONDecodeError):
                pairs[key] = json.loads(value)
    return pairs


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):  # bodies of fetched messages
        import msgspec

        return msgspec.msgpack.decode(value)
    raise TypeError(type(value))
