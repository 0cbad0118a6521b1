"""How many people one engine serves in real time: sessions are added until something gives way.

    python -m benchmarks.sessions N [cpu|cuda]

runs N of them in this process and prints what became of them as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.result import Result, versions
from engine.config import config_from
from engine.daemon import Engine
from engine.types import Message, Prediction

__all__ = ["measured", "sessions"]

COUNTS = (64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
NEEDED = 64
HOP_S = 0.5
_SETTLE_S = 4.0  # windows of 2 s are full, and what waited during the start is worked off
_MEASURE_S = 10.0


def sessions() -> Result:
    """Simulated 32-channel EEG at 256 Hz and real speed, a prediction per session every 0.5 s.

    A count holds if nothing was dropped or shed and the 99th percentile of the latency stays
    below one hop; one that fails gets a second try. The sources run in the same process and are
    part of its CPU share.
    """
    tried: dict[str, Any] = {}
    held, breaks_at = 0, None
    for n in COUNTS:
        found = measured(n)
        if not found["holds"]:
            found = measured(n)
        tried[str(n)] = found
        print(f"  {n}: {found}", file=sys.stderr, flush=True)
        if not found["holds"]:
            breaks_at = n
            break
        held = n
    notes = [] if held >= NEEDED else [f"fewer than the {NEEDED} that are asked for"]
    known = versions("vagus", "numpy", "scipy", "onnxruntime", "pyzmq")
    details = {"breaks_at": breaks_at, "tried": tried}
    unit = "sessions in real time (more is better)"
    return Result("sessions", unit, [float(held)], {}, known, details, notes)


def measured(n: int, device: str = "cpu") -> dict[str, Any]:
    """`n` sessions in a process of their own, so that one count leaves nothing for the next."""
    command = [sys.executable, "-m", "benchmarks.sessions", str(n), device]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class _Timed(Engine):
    """Keeps the latency of every prediction from the moment on at which `latencies_ms` is set."""

    def __init__(self, configs: list[Any]) -> None:
        super().__init__(configs)
        self.latencies_ms: list[float] | None = None

    def _send(self, message: Message) -> bytes:
        if (
            self.latencies_ms is not None
            and isinstance(message, Prediction)
            and message.probabilities is not None
        ):
            self.latencies_ms.append(message.latency_ms["total"])
        return super()._send(message)


def _run(n: int, device: str) -> dict[str, Any]:
    configs = [
        config_from(
            {
                "session": f"p{i}",
                "hop_s": HOP_S,
                "publish": "tcp://127.0.0.1:*",
                "control": "tcp://127.0.0.1:*",
                "streams": {
                    "eeg": {
                        "source": {"type": "simulate", "person": i},
                        "bundle": "simulated-eeg",
                        "device": device,
                    }
                },
            }
        )
        for i in range(n)
    ]
    engine = _Timed(configs)
    with engine:
        engine.loop(_SETTLE_S)
        engine.latencies_ms = []
        begin_s, cpu_s = time.monotonic(), time.process_time()
        engine.loop(_MEASURE_S)
        took_s, cpu_s = time.monotonic() - begin_s, time.process_time() - cpu_s
        with engine._inbox.frozen():
            dropped = _dropped(engine)
        lag_s = _lag_s(engine)
    made = engine.latencies_ms
    p50, p99 = np.percentile(made, (50, 99)).tolist() if made else (None, None)
    enough = len(made) >= n * (_MEASURE_S / HOP_S - 2)  # the edges may cost one tick each
    return {
        "holds": enough and not dropped and p99 is not None and p99 < 1e3 * HOP_S,
        "dropped": dropped,
        "predictions_per_s": len(made) / took_s,
        "cpu_percent": 100 * cpu_s / took_s,
        "latency_ms": {"p50": p50, "p99": p99, "max": max(made, default=None)},
        "lag_s": lag_s,
    }


def _dropped(engine: Engine) -> dict[str, int]:
    """{"stage: reason": items} over all sessions."""
    total: dict[str, int] = {}
    for seat in engine.seats.values():
        for stages in seat.session.account.snapshot().values():
            for name, counters in stages.items():
                for reason, number in counters["dropped"].items():
                    key = f"{name}: {reason}"
                    total[key] = total.get(key, 0) + number
    return total


def _lag_s(engine: Engine) -> float:
    """How far the stream that came least far lies behind the clock."""
    reached = [seat.session.reached_s("eeg") for seat in engine.seats.values()]
    now_s = next(iter(engine.seats.values())).now()
    return max(now_s - at_s if at_s is not None else float("inf") for at_s in reached)


if __name__ == "__main__":
    print(json.dumps(_run(int(sys.argv[1]), *(sys.argv[2:] or ["cpu"]))))
