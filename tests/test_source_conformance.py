"""What every source promises, held against each of them: files, simulation, devices, a page."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile

from engine.errors import EndOfStream, ResourceError, SourceLost
from engine.types import Chunk, Source
from sources.camera import CameraSource
from sources.lsl import LslSource
from sources.replay import ReplaySource
from sources.simulate import SimulateSource
from tests.test_browser import open_port, samples, source, visiting

HERE = Path(__file__).parent
Opened = Callable[[Path], AbstractContextManager[Source]]


def npz(folder: Path) -> AbstractContextManager[Source]:
    x = np.random.default_rng(0).standard_normal((600, 2)).astype(np.float32)
    np.savez(folder / "x.npz", x=x, rate_hz=100.0, channels=["a", "b"], kind="eeg", unit="uV")
    return nullcontext(ReplaySource(folder / "x.npz", "max"))


def wav(folder: Path) -> AbstractContextManager[Source]:
    soundfile.write(folder / "x.wav", np.sin(np.arange(16000) / 9.0), 16000)
    return nullcontext(ReplaySource(folder / "x.wav", "max"))


def film(folder: Path) -> Path:
    writer = cv2.VideoWriter(str(folder / "x.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 15.0, (64, 48))
    for k in range(45):
        writer.write(np.full((48, 64, 3), 5 * k, np.uint8))
    writer.release()
    return folder / "x.avi"


def video(folder: Path) -> AbstractContextManager[Source]:
    return nullcontext(ReplaySource(film(folder), "max"))


def camera_file(folder: Path) -> AbstractContextManager[Source]:
    return nullcontext(CameraSource(str(film(folder)), rate_hz=15, stream="face"))


def simulated(folder: Path) -> AbstractContextManager[Source]:
    return nullcontext(SimulateSource(7, "pulse", seconds=4.0, speed="max", stream="pulse"))


@contextmanager
def process(script: str, *args: str) -> Iterator[str]:
    """A helper of the tests in a process of its own, and its first line."""
    running = subprocess.Popen(
        [sys.executable, str(HERE / script), *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    try:
        yield running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def lsl(folder: Path) -> Iterator[Source]:
    with process("lsl_outlet.py", json.dumps({"name": "conform", "source_id": "conform"})):
        yield LslSource(match={"name": "conform"}, stream="eeg")


@contextmanager
def camera(folder: Path) -> Iterator[Source]:
    with process("mjpeg_server.py", "0") as port:
        yield CameraSource(f"http://127.0.0.1:{port}/x.mjpg", rate_hz=15, stream="face")


@contextmanager
def page(folder: Path) -> Iterator[Source]:
    browser = source()
    with open_port(browser) as port, visiting(port) as line:
        for first in range(0, 16000, 800):
            line.send(samples(first, 800))
        yield browser


SOURCES: dict[str, Opened] = {
    "npz": npz, "wav": wav, "video": video, "camera file": camera_file, "simulate": simulated,
    "lsl": lsl, "camera": camera, "browser": page,
}  # fmt: skip


@contextmanager
def entered(source: Source) -> Iterator[None]:
    """The source open, once its device is there, and closed behind."""
    end_s = time.monotonic() + 15.0
    while True:
        try:
            source.__enter__()
            break
        except (SourceLost, ResourceError):
            assert time.monotonic() < end_s, "the device was never there"
    try:
        yield
    finally:
        source.__exit__(None, None, None)


def read(source: Source, n_chunks: int = 20) -> list[Chunk]:
    found: list[Chunk] = []
    end_s = time.monotonic() + 15.0
    while len(found) < n_chunks and time.monotonic() < end_s:
        try:
            chunk = source.read(0.2)
        except EndOfStream:
            break
        except SourceLost:  # a page that sent all it had
            if found:
                break
            continue
        if chunk is not None and len(chunk):
            found.append(chunk)
    return found


@pytest.fixture(params=SOURCES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    with SOURCES[request.param](tmp_path) as made:
        yield made


def check(found: list[Chunk], info: Any) -> None:
    """Chunks as `info` tells them, counted without doubling, stamped in order."""
    assert found
    for chunk in found:
        assert chunk.stream == info.name
        if info.shape:
            assert chunk.data.shape[1:] == info.shape
        assert all(chunk.first_index <= i < chunk.first_index + len(chunk) for i, _ in chunk.stamps)
    for one, other in pairwise(found):
        assert other.segment >= one.segment
        if other.segment == one.segment:
            assert other.first_index >= one.first_index + len(one)
    stamps = [(c.segment, i, t) for c in found for i, t in c.stamps]
    assert stamps
    assert all(np.isfinite(t) for _, _, t in stamps)
    for (a, i, t), (b, j, u) in pairwise(stamps):
        assert a != b or (i < j and t <= u)


def test_a_source_tells_what_it_is_and_counts_its_items(opened: Source) -> None:
    with entered(opened):
        info = opened.info
        assert info.kind in ("eeg", "physio", "voice", "face", "markers")
        assert info.rate_hz is None or info.rate_hz > 0
        check(read(opened), info)
    opened.__exit__(None, None, None)  # a second time: nothing happens


def test_nothing_is_read_from_a_closed_source_and_nothing_of_it_runs_on(opened: Source) -> None:
    before = set(threading.enumerate())
    with entered(opened):
        read(opened, 2)
    for _ in range(3):
        with suppress(EndOfStream, SourceLost, ResourceError):
            assert opened.read(0.05) is None, "items out of a closed source"
    end_s = time.monotonic() + 5.0
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < end_s, f"threads run on: {left}"
        time.sleep(0.02)


def test_a_read_without_items_comes_back_in_time() -> None:
    with SimulateSource(7, "eeg", seconds=60.0, stream="eeg", chunk_s=5.0) as slow:
        start_s = time.monotonic()
        assert slow.read(0.1) is None
        assert time.monotonic() - start_s < 2.0
