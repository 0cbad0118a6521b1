"""From the arrival of a window's last sample to its prediction in another process's hands."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnxruntime as ort
import zmq

from benchmarks.receiver import receiving
from benchmarks.result import Result, interleave, versions
from engine.batcher import Batcher
from engine.bundle import Bundle
from engine.config import config_from
from engine.daemon import Engine
from engine.session import Session
from engine.types import Array, Prediction, Window
from engine.view import fit
from sources.simulate import SimulateSource

__all__ = ["latency"]

BUNDLE = "simulated-eeg"
PERSON = 7
_BLOCK_S = 16.0
_QUIET_S = 1.5  # no prediction for so long: there will be no more
_READ_S = 0.5


def latency(n_repeats: int = 7) -> Result:
    """One person at real speed through the engine to a subscriber over loopback TCP.

    The peer is the floor: the same steps on each chunk, then the same features, onnxruntime and a
    ZeroMQ message of 8 bytes, in one thread that waits for the chunks itself. Both run in blocks
    of 16 s by turns; a figure is a block's median.
    """
    ours: list[dict[str, float]] = []
    floor: list[dict[str, float]] = []
    runs = {"ours": lambda: _block(_engine(), ours), "floor": lambda: _block(_floor(), floor)}
    found = interleave(runs, n_repeats, n_warm=0)
    mine = found.pop("ours")
    details: dict[str, Any] = {"ours": _percentiles(ours), "floor": _percentiles(floor)}
    for name, measured in (("ours", ours), ("floor", floor)):
        details[f"{name}, where it goes (medians)"] = {
            part: float(np.median([known[part] for known in measured])) for part in measured[0]
        }
    known = versions("vagus", "numpy", "scipy", "onnxruntime", "pyzmq", "msgspec")
    return Result("latency", "ms from last sample to subscriber", mine, found, known, details)


def _block(measured: list[dict[str, float]], into: list[dict[str, float]]) -> float:
    into.extend(measured)
    return float(np.median([known["latency"] for known in measured]))


class _Stamped(Batcher):
    """Notes when the newest sample of each prediction came."""

    def __init__(self, on_error: Any) -> None:
        super().__init__(on_error)
        self.arrived_s: dict[int, float] = {}

    def run(self) -> list[tuple[Session, Prediction, float]]:
        done = super().run()
        self.arrived_s.update({p.seq: arrived_s for _, p, arrived_s in done})
        return done


def _engine() -> list[dict[str, float]]:
    """A block of the real engine; its own account of each latency comes along."""
    config = config_from(
        {
            "session": "latency",
            "publish": "tcp://127.0.0.1:*",
            "control": "tcp://127.0.0.1:*",
            "streams": {
                "eeg": {"source": {"type": "simulate", "person": PERSON}, "bundle": BUNDLE}
            },
        }
    )
    engine = Engine([config])
    engine._batcher = stamped = _Stamped(engine._infer_failed)
    with engine, receiving(engine.publisher.url, _QUIET_S, bare=False) as receiver:
        engine.loop(_BLOCK_S)
        received = receiver.received()
    return _joined(received, stamped.arrived_s)


class _Bare:
    """The same steps, features and graph, with nothing around them."""

    def __init__(self, source: SimulateSource) -> None:
        bundle = Bundle.load(BUNDLE)
        spec = bundle.inputs["eeg"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._graph = ort.InferenceSession(str(bundle.path / "model.onnx"), options)
        self._name = self._graph.get_inputs()[0].name
        self._view, self._features = fit("eeg", source.info, spec, bundle.id, {})
        self._hop = round(bundle.hop_s * spec.rate_hz)
        room = round((_BLOCK_S + 10) * spec.rate_hz)
        self._signal = np.zeros((room, *self._view.info.shape), np.float32)
        self._valid, self._at, self.tick = np.ones(room, bool), 0, 0

    def push(self, data: Array) -> float | None:
        """A chunk (time, channels) in; when the features of the window that it completes were
        ready and the graph is run, or None if it completes none."""
        valid = self._valid[: len(data)]
        for step in self._view.steps:
            data, valid, _ = step(data, valid)
        self._signal[self._at : self._at + len(data)] = data
        self._at += len(data)
        n, end = self._view.n_items, (self.tick + 1) * self._hop
        if end > self._at:
            return None
        self.tick += 1
        if end < n:
            return None
        cut = slice(end - n, end)
        window = Window("eeg", 0, end - n, end - 1, self._signal[cut], self._valid[cut], n, n)
        features, _ = self._features(window)
        ready_s = time.monotonic()
        self._graph.run(None, {self._name: features[None]})
        return ready_s


def _floor() -> list[dict[str, float]]:
    """A block of the bare parts."""
    source = SimulateSource(person=PERSON)
    bare, arrived_s = _Bare(source), {}
    parts: dict[int, dict[str, float]] = {}
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.bind("tcp://127.0.0.1:*")
        url = socket.get_string(zmq.LAST_ENDPOINT)
        with receiving(url, _QUIET_S, bare=True) as receiver, source:
            end_s = time.monotonic() + _BLOCK_S
            while time.monotonic() < end_s:
                chunk = source.read(_READ_S)
                if chunk is None:
                    continue
                now_s = time.monotonic()
                ready_s = bare.push(chunk.data)
                if ready_s is not None:
                    run_s = time.monotonic()
                    socket.send_multipart((b"", bare.tick.to_bytes(8, "big")))
                    arrived_s[bare.tick] = now_s
                    steps_ms, infer_ms = 1e3 * (ready_s - now_s), 1e3 * (run_s - ready_s)
                    parts[bare.tick] = {"steps": steps_ms, "infer": infer_ms}
            received = receiver.received()
    return _joined({n: known | parts[n] for n, known in received.items()}, arrived_s)


def _joined(
    received: dict[int, dict[str, float]], arrived_s: dict[int, float]
) -> list[dict[str, float]]:
    """Per message in ms: `latency` from arrival to receipt, and what else was known of it."""
    joined = []
    for number, known in received.items():
        parts = dict(known)
        parts["latency"] = 1e3 * (parts.pop("received_s") - arrived_s[number])
        joined.append(parts)
    return joined


def _percentiles(measured: list[dict[str, float]]) -> dict[str, float]:
    values = [known["latency"] for known in measured]
    p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
    return {"n": len(values), "p50": p50, "p95": p95, "p99": p99, "max": max(values)}
