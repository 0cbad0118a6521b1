"""Cameras as sources, on a real MJPEG stream of a process that dies, freezes and hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError, EndOfStream, SourceLost
from engine.types import Chunk
from sources.camera import CameraSource

cv2 = pytest.importorskip("cv2")
SCRIPT = Path(__file__).with_name("mjpeg_server.py")


class Server:
    """An MJPEG camera in a process of its own."""

    def __init__(self, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.kill()


def camera(server: Server) -> CameraSource:
    return CameraSource(f"http://127.0.0.1:{server.port}/x.mjpg", rate_hz=15, stream="face")


def pictures(source: CameraSource, n: int, patience_s: float = 15.0) -> list[Chunk]:
    found: list[Chunk] = []
    end_s = time.monotonic() + patience_s
    while sum(map(len, found)) < n:
        assert time.monotonic() < end_s, "no picture comes any more"
        try:
            chunk = source.read(0.3)
        except SourceLost:
            continue
        if chunk is not None:
            found.append(chunk)
    return found


def loss(source: CameraSource) -> tuple[str, float]:
    start_s = time.monotonic()
    while time.monotonic() - start_s < 15.0:
        try:
            source.read(0.3)
        except SourceLost as error:
            return str(error), time.monotonic() - start_s
    raise AssertionError("the loss was never told")


def test_pictures_come_stamped_counted_and_whole(server: Server) -> None:
    with camera(server) as source:
        found = pictures(source, 10)
        age_s = time.monotonic() - found[-1].stamps[-1][1]
    assert source.info.unit == "jpeg"
    indices = [i for c in found for i, _ in c.stamps]
    assert indices == list(range(len(indices)))
    times_s = np.array([t for c in found for _, t in c.stamps])
    assert (np.diff(times_s) > 0.8 / 15).all()
    assert 0 <= age_s < 1.0
    assert cv2.imdecode(np.frombuffer(found[0].data[0], np.uint8), 1).shape == (120, 160, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda server: server.kill(), "broke off|no picture"),
        (lambda server: server.say("freeze"), "the same picture"),
        (lambda server: server.say("hang"), "no picture"),
    ],
    ids=["killed", "frozen", "hanging"],
)
def test_a_dead_frozen_or_hanging_camera_is_found_in_three_seconds_and_reopened(
    server: Server, spoil: Callable[[Server], None], word: str
) -> None:
    with camera(server) as source:
        pictures(source, 5)
        spoil(server)
        why, after_s = loss(source)
        assert any(part in why for part in word.split("|"))
        assert after_s < 3.0
        again = server if server.process.poll() is None else Server(server.port)
        again.say("go")
        back = pictures(source, 3)
        again.kill()
    assert back[0].segment >= 1
    assert back[0].first_index == 0


def test_a_film_is_paced_like_a_camera_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for n in range(30):
        film.write(np.full((48, 64, 3), 8 * n, np.uint8))
    film.release()
    source, n = CameraSource(str(path), rate_hz=30), 0
    with source:
        while (chunk := _next(source)) is not None:
            n += len(chunk)
    source.__exit__()
    assert 25 <= n <= 30
    with pytest.raises(EndOfStream):
        source.read(0.1)


def _next(source: CameraSource) -> Chunk | None:
    """The next pictures; None where the film is over."""
    try:
        while True:
            chunk = source.read(1.0)
            if chunk is not None:
                return chunk
    except EndOfStream:
        return None


def test_closing_ends_the_process_that_captures(server: Server) -> None:
    with camera(server) as source:
        pictures(source, 1)
        assert source._process is not None
        pid = source._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "none.mp4"}, "no such video file"),
        ({"quality": 5}, "need 10 to 100"),
        ({"rate_hz": 0.0}, "more than 0"),
    ],
)
def test_a_wrong_argument_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CameraSource(**given)  # type: ignore[arg-type]
