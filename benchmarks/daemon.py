"""The daemon as a process: how soon it is ready, and what it needs while nothing comes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]

from benchmarks.result import Result, interleave, versions

__all__ = ["Running", "idle", "running", "start"]

# What the daemon cannot do without; the rest of its start is ours.
LIBRARIES = "numpy, scipy.signal, onnxruntime, zmq, msgspec, pydantic, ruamel.yaml, typer"
PARTS = ("vagus", "numpy", "scipy", "onnxruntime", "pyzmq", "pydantic")
SILENT = {
    "session": "idle",
    "publish": "tcp://127.0.0.1:*",
    "control": "tcp://127.0.0.1:*",
    "streams": {
        "eeg": {
            "source": {
                "type": "simulate",
                "faults": [{"kind": "stall", "at_s": 0, "for_s": 1000000}],
            },
            "bundle": "simulated-eeg",
        }
    },
}
_SETTLE_S = 2.0
_IDLE_S = 20.0
_STOP_S = 20.0


class Running(NamedTuple):
    """A running engine: its process, the seconds until it said that it is ready, its addresses."""

    process: psutil.Process
    ready_s: float
    publish: str
    control: str


def start(n_repeats: int = 7) -> Result:
    """From the start of `vagus run` with a shipped bundle to its line `ready:`; warm disk cache.

    The peer is a Python that only imports the libraries that the daemon is built on.
    """
    details: dict[str, Any] = {}

    def ours() -> float:
        with running(SILENT) as engine:
            details.update(_memory(engine.process))
        return engine.ready_s

    found = interleave({"ours": ours, "imports alone": _imports}, n_repeats)
    mine = found.pop("ours")
    return Result("start", "s from exec to ready", mine, found, versions(*PARTS), details)


def idle(n_repeats: int = 3) -> Result:
    """The share of one core that `vagus run` takes while its device is connected and silent."""
    shares: list[float] = []
    details: dict[str, Any] = {}
    for _ in range(n_repeats):
        with running(SILENT) as engine:
            process = engine.process
            time.sleep(_SETTLE_S)
            before, begin_s = process.cpu_times(), time.monotonic()
            switches = process.num_ctx_switches().voluntary
            time.sleep(_IDLE_S)
            after, took_s = process.cpu_times(), time.monotonic() - begin_s
            spent_s = after.user + after.system - before.user - before.system
            shares.append(100 * spent_s / took_s)
            woken = process.num_ctx_switches().voluntary - switches
            details = _memory(process) | {
                "threads": process.num_threads(),
                "wakes_per_s_main": woken / took_s,
            }
    return Result("idle", "% of one core", shares, {}, versions(*PARTS), details)


@contextmanager
def running(told: Mapping[str, Any], *options: str) -> Iterator[Running]:
    """`vagus run` with the config `told` and `options`, from when it is ready."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / f"{told['session']}.yaml"
        config.write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML as well
        command = [str(Path(sys.executable).with_name("vagus")), "run", str(config), *options]
        begin_s = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            ready_s = time.monotonic() - begin_s
            try:
                if not line.startswith("ready:"):
                    raise RuntimeError(f"the daemon did not start: {line!r}")
                _, _, publish, _, control = line.split()
                yield Running(psutil.Process(process.pid), ready_s, publish, control)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(_STOP_S)


def _memory(process: psutil.Process) -> dict[str, Any]:
    """Its largest resident memory so far, and whether torch was loaded, from /proc."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    peak_kib = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM:"))
    return {"peak_rss_mib": peak_kib / 1024, "torch_loaded": "torch" in maps}


def _imports() -> float:
    begin_s = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {LIBRARIES}"], check=True)
    return time.monotonic() - begin_s
