"""One clap before a microphone, a camera and an LSL device: the same moment in the session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.log import LogReader
from engine.timeline import Run
from engine.types import Array, Marker
from sinks.export import Recorded
from tests.engines import until
from tests.virtual_microphone import MISSING, virtual_microphone

cv2 = pytest.importorskip("cv2")
HERE = Path(__file__).parent
N = 6
WITHIN_S = 0.04

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}"),
]


@contextmanager
def process(*command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            running.kill()


def config(port: str) -> dict[str, Any]:
    sources = {
        "eeg": {"type": "lsl", "match": {"name": "clap-eeg"}},
        "marks": {"type": "lsl", "match": {"name": "clap-marks"}},
        "voice": {"type": "microphone", "device": "vmic", "rate_hz": 16000, "n_channels": 1},
        "face": {"type": "camera", "device": f"http://127.0.0.1:{port}/x.mjpg", "rate_hz": 200},
    }
    return {
        "session": "clap", "purpose": "research", "hop_s": 0.5,
        "publish": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*",
        "streams": {name: {"source": source} for name, source in sources.items()},
    }  # fmt: skip


def counts(path: Path) -> dict[str, int]:
    """Items of each stream that are in the recording so far, and markers."""
    found: dict[str, int] = {}
    if path.exists() and path.stat().st_size:
        for record in LogReader(path):
            name = record.stream if record.kind == "chunk" else record.kind
            n = len(record.payload) if record.kind == "chunk" else 1
            found[str(name)] = found.get(str(name), 0) + n
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A session of N claps, made by an engine in a process that sees the virtual microphone."""
    folder = tmp_path_factory.mktemp("clap")
    path = folder / "clap.mcap"
    with virtual_microphone(folder, bytes(3200)) as seen:
        env = {**seen, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
        with process(sys.executable, str(HERE / "clap_devices.py"), env=env) as devices:
            assert devices.stdin is not None
            assert devices.stdout is not None
            (folder / "clap.yaml").write_text(json.dumps(config(devices.stdout.readline().strip())))
            vagus = str(Path(sys.executable).with_name("vagus"))
            command = (vagus, "record", str(folder / "clap.yaml"), "--out", str(path))
            with process(*command, env=env) as engine:
                until(lambda: {"eeg", "voice", "face"} <= counts(path).keys(), "the devices")
                for k in range(N):
                    heard = counts(path)["voice"]
                    until(_heard(path, heard + 8000), "more sound")
                    devices.stdin.write("clap\n")
                    devices.stdin.flush()
                    until(lambda k=k: counts(path).get("marker", 0) > k, "the mark")  # type: ignore[misc]
                heard = counts(path)["voice"]
                until(_heard(path, heard + 8000), "the last of it")
                os.kill(engine.pid, 15)
                engine.wait(20)
    return Recorded.open(path)


def _heard(path: Path, n: int) -> Callable[[], bool]:
    return lambda: counts(path)["voice"] >= n


def begins(times_s: Array, loud: Array) -> list[float]:
    """When something begins, that was not there in the 0.3 s before."""
    found, last_s = [], -1.0
    for at_s in times_s[loud]:
        if at_s - last_s > 0.3:
            found.append(float(at_s))
        last_s = at_s
    return found


def moments(recorded: Recorded) -> dict[str, list[float]]:
    """{stream: when, on the session's clock, it saw a clap}."""
    times: dict[str, list[Any]] = {"eeg": [], "voice": [], "face": []}
    values: dict[str, list[Any]] = {"eeg": [], "voice": [], "face": []}
    marks = []
    for item in recorded.runs():
        if isinstance(item, Marker):
            marks.append(item.t)
        elif isinstance(item, tuple) and isinstance(run := item[1], Run):
            at = run.knot.time_s + (np.arange(len(run.data)) + run.first - run.knot.index) / (
                run.knot.rate_hz
            )
            times[item[0].name].append(at)
            values[item[0].name].append(np.abs(run.data[:, 0]))
        elif isinstance(item, tuple) and item[0].name == "face":
            pictures = [cv2.imdecode(np.frombuffer(p, np.uint8), 1) for p in item[1].data]
            times["face"].append([t for _, t in item[1].stamps])
            values["face"].append([picture.mean() for picture in pictures])
    loud = {"eeg": 0.5, "voice": 0.2, "face": 120.0}
    found = {
        name: begins(np.concatenate(times[name]), np.concatenate(values[name]) > loud[name])
        for name in times
    }
    return {"marks": marks, **found}


def test_a_clap_lands_within_40_ms_of_itself_in_all_streams(recorded: Recorded) -> None:
    found = moments(recorded)
    assert {name: len(at_s) for name, at_s in found.items()} == dict.fromkeys(found, N)
    spread = np.ptp(np.array([*found.values()]), axis=0)
    for name, at_s in found.items():
        off = 1e3 * (np.array(at_s) - found["marks"])
        print(f"{name}: {', '.join(f'{ms:.1f}' for ms in off)} ms behind the mark")
    # one late picture on a busy machine is no misalignment: half of the claps must be narrow
    assert np.median(spread) <= WITHIN_S, f"claps are {spread * 1e3} ms wide"
