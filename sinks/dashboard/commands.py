"""The command `dashboard`: serve the page of a running engine."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from engine.commands import KEY, SERVER, client_keys
from engine.errors import ConfigError
from sinks.dashboard.server import Dashboard
from sinks.subscribe import DEFAULT_URL

__all__ = ["dashboard"]

_CONTROL = "tcp://127.0.0.1:5571"


def dashboard(
    url: Annotated[str, typer.Argument(help="Where an engine publishes.")] = DEFAULT_URL,
    control: Annotated[
        str, typer.Option("--control", help="Where that engine takes commands.")
    ] = _CONTROL,
    port: Annotated[
        int, typer.Option("--port", help="The page's port; 0: any free one.", min=0, max=65535)
    ] = 5572,
    show: Annotated[
        bool, typer.Option("--open", help="Open the page in the default browser.")
    ] = False,
    key: Annotated[Path | None, KEY] = None,
    server: Annotated[Path | None, SERVER] = None,
    attached: Annotated[
        bool, typer.Option("--attached", hidden=True, help="End with standard input.")
    ] = False,
) -> None:
    """Show a running engine on a local page, until Ctrl-C; the page's address is printed.

    The page is served on 127.0.0.1 only, and its address holds a token: whoever has it can see
    and steer the sessions. Nothing is loaded from elsewhere.
    """
    if control == _CONTROL and url != DEFAULT_URL:
        raise ConfigError(
            f"--control: which control socket belongs to {url}? vagus run prints both addresses"
        )
    page = Dashboard(url, control, port, keys=client_keys(key, server))
    asyncio.run(_serve(page, show, attached))


async def _serve(page: Dashboard, show: bool, attached: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, page.stop)
    if attached:
        threading.Thread(target=_wait_for_end, args=(loop, page), daemon=True).start()

    def ready() -> None:
        print(page.address, flush=True)
        if show:
            import webbrowser

            webbrowser.open(page.address)

    await page.serve(ready)


def _wait_for_end(loop: asyncio.AbstractEventLoop, page: Dashboard) -> None:
    """Whoever started this process holds the other end of its standard input."""
    sys.stdin.buffer.read()
    loop.call_soon_threadsafe(page.stop)
