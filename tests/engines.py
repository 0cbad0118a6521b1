"""Engines for tests: in a thread, turned by hand, or in a process of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from engine.config import config_from
from engine.daemon import Engine

DEADLINE_S = 30.0  # of anything a test waits for


def config(bundle: Path | str, session: str = "p1", seconds: float = 60.0, **more: Any) -> Any:
    """A simulated EEG through `bundle`, on free ports."""
    return config_from(document(bundle, session, seconds, **more))


def document(
    bundle: Path | str, session: str = "p1", seconds: float = 60.0, **more: Any
) -> dict[str, Any]:
    """The same as a config file would say it."""
    source = {"type": "simulate", "person": 1, "seconds": seconds} | more.pop("source", {})
    return {
        "session": session,
        "publish": "tcp://127.0.0.1:*",
        "control": "tcp://127.0.0.1:*",
        "streams": {"eeg": {"source": source, "bundle": str(bundle)}},
    } | more


@contextmanager
def running(*configs: Any) -> Iterator[Engine]:
    """An engine whose loop runs in a thread until its sessions are done or it is stopped."""
    failures: list[BaseException] = []
    ready = threading.Event()
    engine = Engine(configs)

    def run() -> None:
        try:
            with engine:
                ready.set()
                engine.loop(10 * DEADLINE_S)
        except BaseException as error:
            failures.append(error)
        ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(DEADLINE_S)
    try:
        yield engine
    finally:
        engine.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        if failures:
            raise failures[0]


def until(true: Callable[[], bool], what: str = "it") -> None:
    """Wait for something that a thread or another process does."""
    end_s = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end_s, f"{what} never came"
        threading.Event().wait(0.005)


class Daemon(NamedTuple):
    """`vagus run` in a process of its own."""

    process: subprocess.Popen[str]
    publish: str
    control: str

    def rss_mib(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(x for x in status.splitlines() if x.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


@contextmanager
def daemon(
    told: dict[str, Any], folder: Path, limit: Callable[[], None] | None = None
) -> Iterator[Daemon]:
    """A running engine, killed at the end; `limit` is called in its process before it starts."""
    path = folder / f"{told['session']}.yaml"
    path.write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML as well
    command = [str(Path(sys.executable).with_name("vagus")), "run", str(path)]
    error = (folder / f"{told['session']}.err").open("w+")
    with (
        error,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=error,
            text=True,
            preexec_fn=limit,
            cwd=Path(__file__).parents[1],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        ) as process,
    ):
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:1] == ["ready:"], Path(error.name).read_text()
            yield Daemon(process, words[2], words[4])
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(DEADLINE_S)
