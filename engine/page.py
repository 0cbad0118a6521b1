"""The dashboard's process: started beside an engine whose config asks for it, ended with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.config import Config

__all__ = ["beside"]

_COMMAND = "from engine.cli import main; main()"
_END_S = 3.0


@contextmanager
def beside(config: Config, publish: str, control: str) -> Iterator[None]:
    """While this is entered a dashboard shows the engine, if `config` has a `dashboard`.

    Its address, with the token, is told on stderr. The process ends when this one does, however
    that comes about; one that fails says why and disturbs nobody.
    """
    if config.dashboard is None:
        yield
        return
    if config.security is not None and config.security.curve is not None:
        print(
            f"dashboard: the sockets demand a client's keys: vagus dashboard {publish} "
            f"--control {control} --key NAME.key_secret --server engine.key",
            file=sys.stderr,
        )
        yield
        return
    asked = ["dashboard", publish, "--control", control, "--port", str(config.dashboard.port)]
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *asked, "--attached"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    telling = threading.Thread(target=_tell, args=(process,), name="dashboard", daemon=True)
    telling.start()
    try:
        yield
    finally:
        _end(process, telling)


def _tell(process: subprocess.Popen[str]) -> None:
    """Say where the page is, once it is there; through this process, whose screen it shares."""
    assert process.stdout is not None
    for line in process.stdout:
        print(f"dashboard: {line.strip()}", file=sys.stderr, flush=True)


def _end(process: subprocess.Popen[str], telling: threading.Thread) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    telling.join(_END_S)
    process.stdout.close()
