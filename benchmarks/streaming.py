"""CPU per second of signal from chunks to windows: filters, notch and a sliding window."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import butter, iirnotch, sosfilt, sosfilt_zi, tf2sos

from benchmarks.peers import PeersMissing, peers_python
from benchmarks.result import Result, interleave, versions
from engine.bundle import Bundle, InputSpec
from engine.plan import SessionPlan, StreamPlan, Tick
from engine.session import Session
from engine.types import Array, Chunk, Event, Marker, StreamInfo

__all__ = ["streaming"]

RATE_HZ, N_CHANNELS, WINDOW_S, HOP_S, N_SECONDS = 512, 32, 1.0, 0.1, 60
LOW_HZ, HIGH_HZ, ORDER, MAINS_HZ, Q = 1, 40, 4, 50, 30
BANDPASS = butter(ORDER, (LOW_HZ, HIGH_HZ), "bandpass", fs=RATE_HZ, output="sos")
NOTCH = tf2sos(*iirnotch(MAINS_HZ, Q, fs=RATE_HZ))
WINDOWS = ("Window", "Window, index=sample", "Slide")  # timeflux's nodes for the same thing
_LIMIT = 1e-4  # how far two ways to the same window may differ, in their sums


def streaming(n_repeats: int = 9, peers: str | None = None) -> Result:
    """Band-pass 1-40 Hz, 50 Hz notch, 1 s window every 0.1 s; 32 channels at 512 Hz.

    All get the same arrays, one per hop, and put them into containers of their own within the
    measured time. Each one's last window is held against the filters run over the whole signal.
    """
    x = np.random.default_rng(0).normal(size=(N_SECONDS * RATE_HZ, N_CHANNELS)).astype(np.float32)
    # A chunk ends with the item that a hop ends with, so each can complete a window.
    edges = [0, *(int(i * HOP_S * RATE_HZ) + 1 for i in range(1, round(N_SECONDS / HOP_S)))]
    check = _Check(x)
    runs: dict[str, Callable[[], float]] = {
        "ours": lambda: _ours(x, edges, check),
        "scipy script": lambda: _script(x, edges, check),
    }
    notes: list[str] = []
    known = versions("numpy", "scipy")
    with ExitStack() as stack:
        try:
            timeflux = stack.enter_context(_timeflux(peers_python(peers), x, edges))
        except (PeersMissing, OSError) as error:
            notes.append(f"timeflux is left out: {error}")
        else:
            known |= {f"timeflux: {name}": number for name, number in timeflux.versions.items()}
            for window in WINDOWS:
                runs[f"timeflux {window}"] = partial(timeflux.run, window, check)
        found = interleave(runs, n_repeats)
    per_second = {
        name: [1e3 * cpu_s / N_SECONDS for cpu_s in values] for name, values in found.items()
    }
    ours = per_second.pop("ours")
    unit = "ms CPU per second of signal"
    return Result("streaming", unit, ours, per_second, known, {"windows": check.n_windows}, notes)


class _Check:
    """Holds a window against the same filters run once over the whole signal."""

    def __init__(self, x: Array) -> None:
        y, _ = _settled(BANDPASS, x)
        self._y, _ = _settled(NOTCH, y)
        self.n_windows: dict[str, int] = {}

    def __call__(self, name: str, end: int, sums: list[float], n_windows: int) -> None:
        """`sums` are those of the window's values and squares; `end` is the item behind it."""
        expected = self._y[end - round(WINDOW_S * RATE_HZ) : end]
        off = max(
            abs(sums[0] - float(expected.sum())) / expected.size,
            abs(sums[1] - float(np.square(expected).sum())) / expected.size,
        )
        if off > _LIMIT:
            raise AssertionError(f"{name} computes something else: its last window is off {off:g}")
        self.n_windows[name] = n_windows


def _settled(sos: Array, x: Array) -> tuple[Array, Array]:
    """`x` (time, channels) through `sos`, begun as if x[0] had stood for ever; and the state."""
    y, state = sosfilt(sos, x, axis=0, zi=sosfilt_zi(sos)[:, :, None] * x[0])
    return y, state


def _sums(window: Array) -> list[float]:
    return [float(window.sum(dtype=np.float64)), float(np.square(window, dtype=np.float64).sum())]


class _NoRuntime:
    """Stands where a bundle's graph would: the benchmark ends with the windows."""

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        raise NotImplementedError


def _session(emit: Callable[[Tick | Event | Marker], None]) -> Session:
    names = tuple(f"C{i}" for i in range(N_CHANNELS))
    steps = (
        {"name": "bandpass", "low_hz": LOW_HZ, "high_hz": HIGH_HZ, "order": ORDER},
        {"name": "notch", "freq_hz": MAINS_HZ, "q": Q},
    )
    spec = InputSpec(
        kind="eeg",
        rate_hz=RATE_HZ,
        channels=names,
        unit="uV",
        steps=steps,
        window_s=WINDOW_S,
        min_filled_s=WINDOW_S,
    )
    bundle = Bundle(
        path=Path("none"),
        id="none",
        sha256="none",
        labels=("a", "b"),
        vocabulary="none",
        inputs={"eeg": spec},
        hop_s=HOP_S,
        runtime=_NoRuntime(),
    )
    session = Session(SessionPlan("s", "run", {"eeg": StreamPlan(bundle)}, hop_s=HOP_S), emit)
    info = StreamInfo("eeg", "eeg", RATE_HZ, names, "uV", (N_CHANNELS,))
    session.command("connect", stream="eeg", info=info)
    return session


def _ours(x: Array, edges: list[int], check: _Check) -> float:
    """A session, its ticks taken: filtered, masked, counted, each window copied for its batch."""
    windows: list[Any] = [0, None]

    def emit(made: Tick | Event | Marker) -> None:
        if isinstance(made, Tick):
            for request, arrays, _ in session.take(made):
                windows[0] += 1
                windows[1] = arrays["eeg"], request.windows["eeg"].last

    session = _session(emit)
    begin_s = time.process_time()
    for start, stop in pairwise(edges):
        session.push(Chunk("eeg", 0, start, ((start, start / RATE_HZ),), x[start:stop]))
    cpu_s = time.process_time() - begin_s
    session.account.check()
    data, last = windows[1]
    check("ours", last + 1, _sums(data), windows[0])
    return cpu_s


def _script(x: Array, edges: list[int], check: _Check) -> float:
    """What one would write: two sosfilt calls and a rolled buffer; no gaps, masks or counts."""
    window = np.zeros((round(WINDOW_S * RATE_HZ), N_CHANNELS))
    begin_s = time.process_time()
    state_1 = sosfilt_zi(BANDPASS)[:, :, None] * x[0]
    state_2 = None
    for start, stop in pairwise(edges):
        y, state_1 = sosfilt(BANDPASS, x[start:stop], axis=0, zi=state_1)
        if state_2 is None:
            state_2 = sosfilt_zi(NOTCH)[:, :, None] * y[0]
        y, state_2 = sosfilt(NOTCH, y, axis=0, zi=state_2)
        window = np.roll(window, -len(y), axis=0)
        window[-len(y) :] = y
    cpu_s = time.process_time() - begin_s
    first = next(i for i, edge in enumerate(edges) if edge >= len(window))
    check("scipy script", edges[-1], _sums(window), len(edges) - first)
    return cpu_s


class _Timeflux:
    """A process that runs the chain in timeflux, whenever it is asked to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.versions: dict[str, str] = self._answer()

    def run(self, window: str, check: _Check) -> float:
        """CPU seconds of one pass, `window` being the node that cuts."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{window}\n")
        self._process.stdin.flush()
        found = self._answer()
        check(f"timeflux {window}", found["end"], found["sums"], found["n_windows"])
        return float(found["cpu_s"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeersMissing("its process ended; the reason stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _timeflux(python: str, x: Array, edges: list[int]) -> Iterator[_Timeflux]:
    with tempfile.TemporaryDirectory() as folder:
        signal = Path(folder) / "signal.npz"
        np.savez(
            signal,
            x=x,
            edges=np.array(edges),
            rate_hz=RATE_HZ,
            window_s=WINDOW_S,
            hop_s=HOP_S,
            bandpass=BANDPASS,
            notch=NOTCH,
        )
        script = Path(__file__).with_name("timeflux_peer.py")
        command = [python, str(script), str(signal)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield _Timeflux(process)
            finally:
                assert process.stdin is not None
                process.stdin.close()
