"""A dashboard server in a thread of its own, for tests that open its page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.daemon import Engine
from sinks.dashboard import Dashboard


@contextmanager
def shown(engine: Engine, port: int = 0, token: str | None = None) -> Iterator[Dashboard]:
    """The dashboard of a running engine, its port bound."""
    page = Dashboard(engine.publisher.url, engine.control.url, port, token)
    loop, ready = asyncio.new_event_loop(), threading.Event()

    def serve() -> None:
        try:
            loop.run_until_complete(page.serve(ready.set))
        finally:
            loop.close()
            ready.set()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(20)
    try:
        yield page
    finally:
        loop.call_soon_threadsafe(page.stop)
        thread.join(20)
        assert not thread.is_alive()
