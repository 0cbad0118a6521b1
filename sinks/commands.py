"""The command `watch`: what a running engine says, for eyes or as JSON lines."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from engine.commands import KEY, SERVER, client_keys
from engine.types import Message, Sink
from sinks.console import ConsoleSink
from sinks.jsonl import line
from sinks.subscribe import DEFAULT_URL, Hole, Subscription

__all__ = ["watch"]

_PATIENCE_S = 2.0


def watch(
    url: Annotated[str, typer.Argument(help="Where an engine publishes.")] = DEFAULT_URL,
    session: Annotated[
        str | None, typer.Option("--session", help="Only this session; else all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one message a line.")] = False,
    key: Annotated[Path | None, KEY] = None,
    server: Annotated[Path | None, SERVER] = None,
    count: Annotated[
        int | None, typer.Option("--count", help="Stop after so many messages.", min=1)
    ] = None,
) -> None:
    """Show what a running engine predicts, until Ctrl-C."""
    sink: Sink = _Lines() if as_json else ConsoleSink()
    try:
        with (
            closing(sink),
            Subscription(
                url, session, on_hole=_tell, keys=client_keys(key, server)
            ) as subscription,
        ):
            _show(subscription, sink, count)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Lines:
    """A sink that prints JSON lines."""

    def write(self, message: Message) -> None:
        print(line(message), flush=True)

    def close(self) -> None: ...


def _show(subscription: Subscription, sink: Sink, count: int | None) -> None:
    """Write `count` messages, or all; tell once that there is nothing yet."""
    message = subscription.read(_PATIENCE_S)
    if message is None:
        of = "" if subscription.session is None else f" of session '{subscription.session}'"
        print(
            f"waiting for messages{of} from {subscription.url}; start an engine there with "
            "'vagus run CONFIG', or stop with Ctrl-C",
            file=sys.stderr,
        )
        message = next(subscription)
    n = 0
    while True:
        sink.write(message)
        n += 1
        if n == count:
            return
        message = next(subscription)


def _tell(hole: Hole) -> None:
    """Say what was lost, beside the messages."""
    print(
        f"lost {hole.kind} {hole.first} to {hole.last} of session '{hole.session}': too slow",
        file=sys.stderr,
    )
