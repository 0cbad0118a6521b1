"""What every source promises, held against each of them: files, simulation, devices, a page."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import pytest
import soundfile
from scipy.io import savemat

from engine.errors import EndOfStream, ResourceError, SourceLost
from engine.types import Chunk, Source
from offline.fixtures.cnt import write_cnt
from sinks.export import Recorded, export
from sources.camera import CameraSource
from sources.lsl import LslSource
from sources.replay import ReplaySource
from sources.simulate import SimulateSource
from tests import lab_log
from tests.test_biosignal_files import save
from tests.test_browser import open_port, samples, source, visiting
from tests.test_files import save_edf, signal
from tests.virtual_microphone import MISSING, run_with_microphone, virtual_microphone

HERE = Path(__file__).parent
Opened: TypeAlias = Callable[[Path], AbstractContextManager[Source]]


def npz(folder: Path) -> AbstractContextManager[Source]:
    x = np.random.default_rng(0).standard_normal((600, 2)).astype(np.float32)
    np.savez(folder / "x.npz", x=x, rate_hz=100.0, channels=["a", "b"], kind="eeg", unit="uV")
    return nullcontext(ReplaySource(folder / "x.npz", "max"))


def replayed(path: Path, stream: str | None = None) -> AbstractContextManager[Source]:
    return nullcontext(ReplaySource(path, "max", stream_in_file=stream))


def sound(suffix: str) -> Opened:
    def write(folder: Path) -> AbstractContextManager[Source]:
        soundfile.write(folder / f"x{suffix}", np.sin(np.arange(16000) / 9.0), 16000)
        return replayed(folder / f"x{suffix}")

    return write


def table(folder: Path) -> AbstractContextManager[Source]:
    body = "".join(f"{i / 128},{i},{-i}\n" for i in range(1280))
    (folder / "x.csv").write_text(f"t,Fz,Cz\n{body}")
    return replayed(folder / "x.csv")


def edf(folder: Path) -> AbstractContextManager[Source]:
    return replayed(save_edf(folder / "x.edf", signal("Fz"), signal("Cz")))


def cnt(folder: Path) -> AbstractContextManager[Source]:
    x = np.random.default_rng(0).normal(0, 50, (2300, 2)).astype(np.float32)
    write_cnt(folder / "x.cnt", x, ("Fz", "Cz"), 1000, events=[(100, 4)])
    return replayed(folder / "x.cnt")


def xdf(folder: Path) -> AbstractContextManager[Source]:
    """A device that was lost once, so that the file has segments."""
    pytest.importorskip("pyxdf")
    recorded = Recorded.open(lab_log.record(folder / "x.mcap").path)
    return replayed(export(recorded, "xdf", folder)[0], "eeg")


def of_mne(suffix: str) -> Opened:
    def write(folder: Path) -> AbstractContextManager[Source]:
        mne = pytest.importorskip("mne")
        info = mne.create_info(["Fz", "Cz"], 128.0, "eeg")
        x = np.random.default_rng(0).normal(0, 1e-5, (2, 1280))
        return replayed(save(mne.io.RawArray(x, info, verbose="ERROR"), folder, suffix))

    return write


def eeglab(folder: Path) -> AbstractContextManager[Source]:
    pytest.importorskip("mne")
    x = np.random.default_rng(0).normal(0, 20, (2, 1280)).astype(np.float32)
    places = np.array([("Fz",), ("Cz",)], [("labels", object)])
    told = {"nbchan": 2, "trials": 1, "pnts": 1280, "srate": 128.0, "xmin": 0.0, "xmax": 9.99,
            "data": x, "chanlocs": places, "event": [], "epoch": [], "ref": "common"}  # fmt: skip
    savemat(folder / "x.set", {"EEG": told}, appendmat=False)
    return replayed(folder / "x.set")


def brainvision(folder: Path) -> AbstractContextManager[Source]:
    pytest.importorskip("mne")
    np.random.default_rng(0).normal(0, 20, (1280, 2)).astype("<f4").tofile(folder / "x.eeg")
    (folder / "x.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        "DataFile=x.eeg\n[Marker Infos]\nMk1=Stimulus,S  1,64,1,0\n"
    )
    (folder / "x.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        "DataFile=x.eeg\nMarkerFile=x.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        "NumberOfChannels=2\nSamplingInterval=7812.5\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n"
        "[Channel Infos]\nCh1=Fz,,1,µV\nCh2=Cz,,1,µV\n",
        encoding="utf-8",
    )
    return replayed(folder / "x.vhdr")


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


class Device:
    """A helper of the tests in a process of its own, and its first line."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        assert running.stdout is not None
        self.process, self.said = running, running.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()


@contextmanager
def process(script: str, *args: str) -> Iterator[Device]:
    """Such a device, killed at the end."""
    running = subprocess.Popen(
        [sys.executable, str(HERE / script), *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Device(running)
    finally:
        running.kill()
        running.communicate()


HEADSET = json.dumps({"name": "conform", "source_id": "conform"})
MARKS = json.dumps({"name": "conform-marks", "source_id": "marks", "type": "Markers"})


@contextmanager
def lsl(folder: Path) -> Iterator[Source]:
    with process("lsl_outlet.py", HEADSET):
        yield LslSource(match={"name": "conform"}, stream="eeg")


@contextmanager
def markers(folder: Path) -> Iterator[Source]:
    ended = threading.Event()

    def mark(device: Device) -> None:
        while not ended.wait(0.05):
            device.tell("mark clap")

    with process("lsl_outlet.py", MARKS) as device:
        thread = threading.Thread(target=mark, args=(device,))
        thread.start()
        try:
            yield LslSource(match={"name": "conform-marks"}, stream="marks")
        finally:
            ended.set()
            thread.join()


def mjpeg(port: str) -> CameraSource:
    return CameraSource(f"http://127.0.0.1:{port}/x.mjpg", rate_hz=15, stream="face")


@contextmanager
def camera(folder: Path) -> Iterator[Source]:
    with process("mjpeg_server.py", "0") as device:
        yield mjpeg(device.said)


@contextmanager
def page(folder: Path) -> Iterator[Source]:
    browser = source()
    with open_port(browser) as port, visiting(port) as line:
        for first in range(0, 16000, 800):
            line.send(samples(first, 800))
        yield browser


SOURCES: dict[str, Opened] = {
    "npz": npz, "csv": table, "wav": sound(".wav"), "flac": sound(".flac"), "ogg": sound(".ogg"),
    "edf": edf, "cnt": cnt, "xdf": xdf, "fif": of_mne(".fif"), "bdf": of_mne(".bdf"), "set": eeglab,
    "vhdr": brainvision, "video": video, "camera file": camera_file, "simulate": simulated,
    "lsl": lsl, "markers": markers, "camera": camera, "browser": page,
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
        assert info.kind in ("eeg", "physio", "voice", "face", "marker")
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


# -- lost and back ----------------------------------------------------------------------------


@contextmanager
def killed_headset() -> Iterator[tuple[Source, Callable[[], None], Callable[[], None]]]:
    """A source, what takes its device away, and what brings it back."""
    with ExitStack() as stack:
        first = stack.enter_context(process("lsl_outlet.py", HEADSET))
        yield (
            LslSource(match={"name": "conform"}, stream="eeg"),
            first.process.kill,
            lambda: void(stack.enter_context(process("lsl_outlet.py", HEADSET))),
        )


@contextmanager
def hanging_camera() -> Iterator[tuple[Source, Callable[[], None], Callable[[], None]]]:
    with process("mjpeg_server.py", "0") as device:
        yield mjpeg(device.said), lambda: device.tell("hang"), lambda: device.tell("go")


@contextmanager
def left_page() -> Iterator[tuple[Source, Callable[[], None], Callable[[], None]]]:
    browser, visits = source(), ExitStack()

    def visit() -> None:
        line = visits.enter_context(visiting(port))
        for first in range(0, 8000, 800):
            line.send(samples(first, 800))

    with open_port(browser) as port, visits:
        visit()
        yield browser, visits.close, visit


def void(_: object) -> None:
    """Nothing of it is wanted."""


@pytest.mark.slow
@pytest.mark.parametrize("device", [killed_headset, hanging_camera, left_page])
def test_a_lost_source_says_so_and_comes_back_as_another_segment(device: Any) -> None:
    with device() as (lossy, take_away, bring_back), entered(lossy):
        before = read(lossy, 1)
        take_away()
        loss = None
        end_s = time.monotonic() + 15.0
        while loss is None and time.monotonic() < end_s:
            try:
                chunk = lossy.read(0.2)
                before += [chunk] if chunk is not None else []
            except SourceLost as error:
                loss = str(error)
        assert loss, "the loss was never told"
        bring_back()
        after = read(lossy, 1)
        check(before + after, lossy.info)
        assert min(c.segment for c in after) > max(c.segment for c in before)


_MICROPHONE = """
from sources.microphone import MicrophoneSource
from tests.test_source_conformance import check, entered, read
source = MicrophoneSource("vmic", rate_hz=16000, n_channels=1, stream="voice")
with entered(source):
    assert (source.info.kind, source.info.shape) == ("voice", (1,))
    check(read(source), source.info)
source.__exit__()
for _ in range(3):
    try:
        raise SystemExit(f"out of a closed source: {source.read(0.05)}")
    except Exception as error:
        assert type(error).__name__ == "EndOfStream", error
print("conforms")
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")
def test_a_microphone_keeps_the_same_promises(tmp_path: Path) -> None:
    with virtual_microphone(tmp_path, bytes(3200)) as env:
        assert run_with_microphone(env, _MICROPHONE) == "conforms\n"
