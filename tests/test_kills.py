"""An engine killed while it records: what was said stands in the file, and can be proven."""

from __future__ import annotations

import random
import signal
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import wire
from engine.log.reader import LogReader
from engine.rerun import verify
from engine.types import Prediction
from sinks.subscribe import subscribe
from tests.bundles import write
from tests.engines import DEADLINE_S, daemon, document

LIMIT_S = 0.25  # what a kill may cost, at most
STARVED_S = 2.0  # and where the machine has no time for the writer


@pytest.mark.slow
def test_a_killed_engine_leaves_recordings_that_are_whole_up_to_the_last_flush(
    tmp_path: Path, count: Callable[[int], int]
) -> None:
    bundle = write(tmp_path / "bundle", hop_s=0.05)
    n, rng = count(100), random.Random(42)
    wait_s = [rng.uniform(0.0, 1.5) for _ in range(n)]
    with ThreadPoolExecutor(2) as pool:  # one waits for its engine while another is killed
        lost_s = list(pool.map(killed, [bundle] * n, [tmp_path] * n, range(n), wait_s))
    assert statistics.median(lost_s) <= LIMIT_S
    assert max(lost_s) < STARVED_S


def killed(bundle: Path, folder: Path, i: int, wait_s: float) -> float:
    """Kill a recording engine `wait_s` after its first prediction; the seconds that it lost."""
    path = folder / f"{i}.mcap"
    made = document(bundle, f"p{i}", 3600, recording={"path": str(path), "raw": True})
    with (
        daemon(made, folder) as engine,
        subscribe(engine.publish, kinds=("prediction",)) as heard,
    ):
        assert heard.read(DEADLINE_S) is not None  # its device is there
        threading.Event().wait(wait_s)
        engine.process.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        engine.process.wait(DEADLINE_S)
        seen = list(iter(lambda: heard.read(0.1), None))
    proof = verify(path)
    assert not proof.report.clean
    assert proof.reason is None
    reader = LogReader(path)
    kept = [wire.decode("prediction", r.payload) for r in reader if r.kind == "prediction"]
    assert proof.n_compared == len(kept)
    assert [p.seq for p in kept if isinstance(p, Prediction)] == list(range(len(kept)))
    missing = [m for m in seen if isinstance(m, Prediction) and m.seq >= len(kept)]
    assert all(killed_s - m.t < STARVED_S for m in missing)
    return killed_s - reader.last_s
