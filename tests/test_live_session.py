"""A live session of real devices, one of which dies and returns, against its own recording."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import wire
from engine.cli import main
from engine.config import config_from
from engine.control import request
from engine.log import Command, LogReader
from engine.rerun import rerun, verify
from engine.types import Chunk, Message
from sources.simulate import SimulateSource
from tests.bundles import write
from tests.engines import running, until

pytest.importorskip("pylsl")
HERE = Path(__file__).parent


class Script:
    """A device in a process of its own, told what to do line by line."""

    def __init__(self, name: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / name), *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def devices() -> Iterator[Callable[..., Script]]:
    """Begins scripts; whatever still runs at the end is killed."""
    with ExitStack() as stack:

        def begin(name: str, *args: str) -> Script:
            script = Script(name, *args)
            stack.callback(script.kill)
            return script

        yield begin


def headset(begin: Callable[..., Script]) -> Script:
    labels = list(SimulateSource(person=1).info.channels)
    about = {"name": "live-eeg", "source_id": "live-eeg", "labels": labels}
    return begin("lsl_outlet.py", json.dumps(about))


def config(folder: Path, port: str) -> Any:
    camera = f"http://127.0.0.1:{port}/x.mjpg"
    return config_from(
        {
            "session": "live", "purpose": "research", "hop_s": 0.5,
            "publish": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*",
            "streams": {
                "eeg": {
                    "source": {"type": "lsl", "match": {"name": "live-eeg"}},
                    "bundle": str(write(folder / "test-eeg")),
                },
                "face": {"source": {"type": "camera", "device": camera}, "bundle": "face-6"},
                "marks": {"source": {"type": "lsl", "match": {"name": "live-marks"}}},
            },
            "recording": {"path": str(folder / "live.mcap"), "raw": True},
        }
    )  # fmt: skip


def logged(path: Path, kind: str) -> list[bytes]:
    return [record.payload for record in LogReader(path) if record.kind == kind]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording: a headset that is killed and comes back, a camera that hangs, two marks."""
    folder = tmp_path_factory.mktemp("live")
    with devices() as begin:
        first = headset(begin)
        marks = begin(
            "lsl_outlet.py", '{"name": "live-marks", "type": "Markers", "source_id": "m"}'
        )
        camera = begin("mjpeg_server.py", "0", "15")
        with running(config(folder, camera.said)) as engine:
            seat = engine.seats["live"]

            def said(n: int, segment: int) -> bool:
                """Whether `n` predictions were made from the headset since it connected."""
                return _used(folder / "live.mcap", segment) >= n

            until(lambda: said(3, 0), "a prediction")
            marks.tell("mark clap")
            request(engine.control.url, "mark", {"session": "live", "value": "go"}, timeout_s=5)
            camera.tell("hang")
            first.kill()
            until(lambda: seat.session.slots["eeg"].state == "lost", "the loss")
            headset(begin)
            camera.tell("go")
            until(lambda: said(3, 1), "a prediction from the one that came back")
            until(lambda: len(logged(folder / "live.mcap", "marker")) == 2, "both marks")
    return folder / "live.mcap"


def _used(path: Path, segment: int) -> int:
    found = [wire.decode("prediction", body) for body in logged(path, "prediction")]
    return sum(
        m.modalities["eeg"].get("segment") == segment  # type: ignore[union-attr]
        for m in found
    )


pytestmark = pytest.mark.slow


def test_the_recording_is_proven_with_every_prediction(path: Path) -> None:
    proof = verify(path)
    assert proof.report.clean
    assert proof.n_compared == len(logged(path, "prediction"))
    assert {"eeg", "face", "marks"} <= proof.report.streams.keys()


def test_predictions_and_markers_come_out_again_byte_for_byte(path: Path) -> None:
    again: dict[str, list[bytes]] = {"prediction": [], "marker": [], "event": []}
    for message in rerun(path):
        again[message.kind].append(_bytes(message))
    assert again["marker"] == logged(path, "marker")
    before = [_bytes(wire.decode("prediction", body)) for body in logged(path, "prediction")]
    assert again["prediction"] == before


def _bytes(message: Message) -> bytes:
    """What went over the wire, but for the latency: no replay takes as long."""
    quiet = replace(message, latency_ms={}) if message.kind == "prediction" else message
    return wire.encode(quiet)


def test_the_faults_are_in_the_recording_and_come_out_again(path: Path) -> None:
    verbs = [
        (r.payload.verb, r.payload.args.get("stream"))
        for r in LogReader(path)
        if isinstance(r.payload, Command)
    ]
    assert ("lost", "eeg") in verbs
    assert verbs.count(("connect", "eeg")) == 2
    codes = [m.code for m in rerun(path) if m.kind == "event" and m.stream == "eeg"]
    assert "source.lost" in codes
    assert "source.back" in codes


def test_both_marks_are_there_once(path: Path) -> None:
    values = [wire.decode("marker", body).value for body in logged(path, "marker")]  # type: ignore[union-attr]
    assert sorted(values) == ["clap", "go"]


def test_pictures_are_recorded_as_the_jpeg_that_came(path: Path) -> None:
    chunks = [r.payload for r in LogReader(path) if r.kind == "chunk" and r.stream == "face"]
    assert chunks
    assert all(isinstance(c, Chunk) and c.data.dtype == object for c in chunks)
    pictures = [picture for c in chunks for picture in c.data]
    assert all(p[:3] == b"\xff\xd8\xff" and p[-2:] == b"\xff\xd9" for p in pictures)


def test_the_command_replays_it_to_the_same_lines_twice(path: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    assert main(["replay", str(path), "--out", str(outs[0])]) == 0
    assert main(["replay", str(path), "--out", str(outs[1]), "--chunk", "7"]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert len(outs[0].read_text().splitlines()) == len(logged(path, "prediction"))
