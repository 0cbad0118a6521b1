"""What it costs to take an LSL stream in: from its outlet in another process to the timeline."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import Result, interleave, versions
from engine.account import Stage
from engine.timeline import GapPolicy, Timeline
from sources.lsl.source import LslSource, liblsl

__all__ = ["lsl"]

RATE_HZ, N_CHANNELS, RUN_S = 512.0, 32, 20.0
SENT_AT_ONCE = 16  # samples: a headset's packet, every 31 ms
PEER = "VAGUS_MNE_LSL_PYTHON"  # a Python that has mne-lsl
_SETTLE_S, _READY_S = 2.0, 30.0
_NAME = "vagus-bench"


def lsl(n_repeats: int = 3) -> Result:
    """The share of one core, all threads together, that a 32-channel stream at 512 Hz takes.

    Ours is the source and the timeline: what stands in front of the model, clocks mapped, order,
    gaps and validity included. The peer is mne-lsl's StreamLSL as it comes, in a process of its
    own too, which fills a ring buffer.
    """
    details: dict[str, Any] = {"run_s": RUN_S, "sent_at_once": SENT_AT_ONCE}
    known, notes = versions("vagus", "numpy", "pylsl"), []
    known["liblsl"] = str(liblsl().library_version())
    with ExitStack() as stack:
        stack.enter_context(_outlet())
        runs: dict[str, Callable[[], float]] = {"ours": lambda: _ours(details)}
        python = os.environ.get(PEER)
        if python is None:
            notes.append(f"mne-lsl is left out: no {PEER} names a Python that has it")
        else:
            peer = stack.enter_context(_peer(python))
            known |= {f"mne-lsl: {name}": number for name, number in _answer(peer).items()}
            runs["mne-lsl StreamLSL"] = lambda: _theirs(peer, details)
        found = interleave(runs, n_repeats, n_warm=0)  # each run settles by itself
    mine = found.pop("ours")
    return Result("lsl", "% of one core", mine, found, known, details, notes)


def _ours(details: dict[str, Any]) -> float:
    """A process that reads for RUN_S; the share of a core it took, in %."""
    spawn = multiprocessing.get_context("spawn")
    mine, its = spawn.Pipe()
    process = spawn.Process(target=_read, args=(its,), daemon=True)
    process.start()
    try:
        if not mine.poll(_READY_S + RUN_S):
            raise RuntimeError("the reader said nothing")
        cpu_s, n_items, n_invalid = mine.recv()
    finally:
        process.kill()
        process.join()
    details["received_hz"], details["invalid"] = n_items / RUN_S, n_invalid
    return float(100 * cpu_s / RUN_S)


def _read(told: Connection) -> None:
    """Take the stream in; tell (CPU seconds, items, those of them that are invalid)."""
    found = [0, 0]

    def out(run: Any) -> None:
        found[0] += len(run.data)
        found[1] += len(run.data) - int(run.valid.sum())

    with LslSource(match={"name": _NAME}, stream="eeg") as source:
        timeline = Timeline(source.info, GapPolicy(), Stage(lambda: 0), lambda *_: None)

        def take(seconds: float) -> None:
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                if (chunk := source.read(0.5)) is not None:
                    timeline.push(chunk, out)

        take(_SETTLE_S)
        found[:] = 0, 0
        before_s = time.process_time()
        take(RUN_S)
        told.send((time.process_time() - before_s, *found))


@contextmanager
def _outlet() -> Iterator[None]:
    """A device in a process of its own, in real time, from when it can be found."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=_send, args=(ready,), daemon=True)
    process.start()
    try:
        if not ready.wait(_READY_S):
            raise RuntimeError("the outlet did not start")
        yield
    finally:
        process.kill()
        process.join()


def _send(ready: Event) -> None:
    import pylsl

    info = pylsl.StreamInfo(_NAME, "EEG", N_CHANNELS, RATE_HZ, "float32", f"{_NAME}-{os.getpid()}")
    outlet = pylsl.StreamOutlet(info)
    x = np.random.default_rng(0).normal(0, 10, (SENT_AT_ONCE, N_CHANNELS)).astype(np.float32)
    ready.set()
    start_s, n = time.monotonic(), 0
    while True:
        n += SENT_AT_ONCE
        time.sleep(max(0.0, start_s + n / RATE_HZ - time.monotonic()))
        outlet.push_chunk(x)


@contextmanager
def _peer(python: str) -> Iterator[subprocess.Popen[str]]:
    command = [python, str(Path(__file__).with_name("mne_lsl_peer.py")), _NAME]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _theirs(peer: subprocess.Popen[str], details: dict[str, Any]) -> float:
    assert peer.stdin is not None
    peer.stdin.write(f"{RUN_S}\n")
    peer.stdin.flush()
    found = _answer(peer)
    details["mne-lsl received_hz"] = found["rate_hz"]
    return float(100 * found["cpu_s"] / RUN_S)


def _answer(peer: subprocess.Popen[str]) -> dict[str, Any]:
    assert peer.stdout is not None
    line = peer.stdout.readline()
    if not line:
        raise RuntimeError("mne-lsl's process ended; the reason stands above")
    answer: dict[str, Any] = json.loads(line)
    return answer
