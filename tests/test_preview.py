"""Raw previews: what they show, when they end, and that predictions do not notice them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
import zmq

from engine import preview, wire
from engine.config import config_from
from engine.control import ControlError, request
from engine.daemon import Engine
from engine.errors import ResourceError
from engine.pictures import Picture, Spectrogram, Traces
from engine.rerun import verify
from engine.types import Chunk, StreamInfo
from tests.messages import TIMEOUT_S
from tests.test_live import running

EEG = StreamInfo("eeg", "eeg", 256.0, ("Fp1", "Fp2"), "uV", (2,))
VOICE = StreamInfo("voice", "voice", 16000.0, ("mono",), "fs", (1,))
CAMERA = StreamInfo("face", "face", None, ("blue", "green", "red"), "jpeg", ())


def chunk(info: StreamInfo, first: int, data: Any, segment: int = 0) -> Chunk:
    rate_hz = info.rate_hz or 15.0
    return Chunk(info.name, segment, first, ((first, first / rate_hz),), data)


def demo(**more: Any) -> Any:
    kinds = {"eeg": "simulated-eeg", "voice": "simulated-voice", "face": "simulated-face"}
    streams = {
        kind: {"source": {"type": "simulate", "kind": kind, "seconds": 3.0}, "bundle": bundle}
        for kind, bundle in kinds.items()
    }
    sockets = {"publish": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*"}
    return config_from({"session": "p1", "streams": streams} | sockets | more)


def listen(engine: Engine, context: zmq.Context[Any]) -> zmq.Socket[Any]:
    socket: zmq.Socket[Any] = context.socket(zmq.SUB)
    socket.connect(engine.publisher.url)
    socket.subscribe(wire.topic("p1", "preview"))
    return socket


def test_a_trace_keeps_the_lowest_and_the_highest_of_each_bin() -> None:
    view = Traces(EEG)
    x = np.random.default_rng(3).normal(size=(103, 2)).astype(np.float32)
    view.take(chunk(EEG, 0, x[:60]))
    view.take(chunk(EEG, 60, x[60:]))
    told = view.told({})
    assert told is not None
    bins = x[:100].reshape(20, 5, 2)
    np.testing.assert_allclose(told["low"], bins.min(axis=1).T, atol=1e-3)
    np.testing.assert_allclose(told["high"], bins.max(axis=1).T, atol=1e-3)
    assert told["rate_hz"] == pytest.approx(51.2)
    assert told["end_s"] == pytest.approx(100 / 256)
    assert view.told({}) is None  # three items are no bin


def test_a_trace_has_no_bin_that_reaches_over_a_gap() -> None:
    view = Traces(EEG)
    view.take(chunk(EEG, 0, np.zeros((4, 2), np.float32)))
    view.take(chunk(EEG, 100, np.ones((5, 2), np.float32)))
    told = view.told({})
    assert told is not None
    assert told["low"] == told["high"] == [[1.0], [1.0]]


def test_a_trace_nobody_reads_stays_bounded() -> None:
    view = Traces(EEG)
    for first in range(0, 100_000, 100):
        view.take(chunk(EEG, first, np.full((100, 2), first, np.float32)))
    told = view.told({})
    assert told is not None
    assert len(told["low"][0]) * 5 <= 2 * 256 + 100
    assert told["high"][0][-1] == pytest.approx(99_900, rel=1e-3)


def test_channels_without_a_finite_sample_do_not_disturb_the_others() -> None:
    view = Traces(EEG)
    x = np.ones((10, 2), np.float32)
    x[:, 0] = np.nan
    view.take(chunk(EEG, 0, x))
    told = view.told({})
    assert told is not None
    assert np.isnan(told["low"][0]).all()
    assert told["low"][1] == [1.0, 1.0]


@pytest.mark.parametrize("freq_hz", [300.0, 1000.0, 4000.0])
def test_a_tone_stands_at_its_place_in_the_spectrogram(freq_hz: float) -> None:
    view = Spectrogram(VOICE)
    t = np.arange(8000) / 16000
    view.take(chunk(VOICE, 0, np.sin(2 * np.pi * freq_hz * t)[:, None].astype(np.float32)))
    told = view.told({})
    assert told is not None
    levels = np.frombuffer(told["columns"], np.uint8).reshape(-1, told["bands"])
    mel = 1127 * np.log1p(np.array([told["low_hz"], freq_hz, told["high_hz"]]) / 700)
    place = (mel[1] - mel[0]) / (mel[2] - mel[0]) * told["bands"]
    assert abs(float(levels[3].argmax()) + 0.5 - place) < 1.5
    assert levels.max() > 230  # of 255 for full scale


@pytest.mark.parametrize("rate_hz", [8000.0, 16000.0, 44100.0, 48000.0])
def test_a_spectrogram_has_as_many_columns_as_its_rate_says(rate_hz: float) -> None:
    view = Spectrogram(replace(VOICE, rate_hz=rate_hz))
    n, columns = round(rate_hz / 10), 0
    for i in range(40):
        told = None
        data = np.zeros((n, 1), np.float32)
        view.take(chunk(view.info, i * n, data))
        told = view.told({})
        columns += len(told["columns"]) // told["bands"] if told else 0
    assert columns == pytest.approx(100, abs=2)


def test_a_camera_s_picture_is_cut_out_around_the_face() -> None:
    view = Picture(CAMERA, shown=True)
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[200:300, 300:400] = (0, 0, 255)
    data = np.empty(1, object)
    data[0] = cv2.imencode(".jpg", picture)[1].tobytes()
    view.take(chunk(CAMERA, 0, data))
    face = {"id": 4, "box": [300.0, 200.0, 100.0, 100.0]}
    told = view.told({"faces": [face], "face": 4})
    assert told is not None
    small = cv2.imdecode(np.frombuffer(told["jpeg"], np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (told["height"], told["width"], 3) == (200, 200, 3)
    x, y, width, height = map(round, told["box"])
    assert (x, y, width, height) == (50, 50, 100, 100)
    assert small[y + 10 : y + 90, x + 10 : x + 90].mean(axis=(0, 1))[2] > 240  # red


@pytest.mark.parametrize("junk", [b"", b"\xff\xd8\xff", b"no picture"])
def test_what_is_no_picture_is_not_shown(junk: bytes) -> None:
    view = Picture(CAMERA, shown=True)
    data = np.empty(1, object)
    data[0] = junk
    view.take(chunk(CAMERA, 0, data))
    told = view.told({})
    assert told is not None
    assert told["jpeg"] is None


def test_every_stream_of_a_session_is_shown_on_request() -> None:
    context = zmq.Context()
    with running(demo(dashboard={})) as engine:
        socket = listen(engine, context)
        assert request(engine.control.url, "preview", {"on": True})["seconds"] > 0
        seen: dict[str, Any] = {}
        while len(seen) < 3:
            assert socket.poll(1e3 * TIMEOUT_S)
            topic, body = socket.recv_multipart()
            assert topic == b"vagus/1/p1/preview"
            assert msgpack.unpackb(body) == preview.decode(body)
            seen |= preview.decode(body)["streams"]
        socket.close(0)
    context.term()
    assert {name: told["kind"] for name, told in seen.items()} == {
        "eeg": "eeg", "voice": "voice", "face": "face",
    }  # fmt: skip
    assert seen["face"]["jpeg"][:2] == b"\xff\xd8"
    assert len(seen["eeg"]["low"]) == 32


def test_a_face_stays_in_the_engine_unless_the_config_has_a_dashboard() -> None:
    context = zmq.Context()
    with running(demo()) as engine:
        socket = listen(engine, context)
        request(engine.control.url, "preview", {"on": True})
        seen: dict[str, Any] = {}
        while "face" not in seen:
            assert socket.poll(1e3 * TIMEOUT_S)
            seen |= preview.decode(socket.recv_multipart()[1])["streams"]
        socket.close(0)
    context.term()
    assert seen["face"]["jpeg"] is None


def test_a_preview_ends_when_nobody_renews_it() -> None:
    previews = preview.Previews()
    previews.switch("p1", True, 100.0)
    previews.switch("p2", True, 105.0)
    previews.serve(100.0 + preview.RENEW_S, {}, NOWHERE)
    assert previews.due_s == float("inf")  # no such seats
    previews.switch("p1", True, 200.0)
    previews.switch("p1", False, 201.0)
    assert previews.due_s == float("inf")


class _Nowhere:
    def pass_on(self, session: str, kind: str, body: bytes) -> None:
        raise AssertionError("nobody looks")


NOWHERE = _Nowhere()


def test_an_unknown_session_cannot_be_looked_at() -> None:
    with running(demo()) as engine, pytest.raises(ControlError, match="no session 'p9'"):
        request(engine.control.url, "preview", {"session": "p9", "on": True})


def test_predictions_are_the_same_bits_while_somebody_looks(tmp_path: Path) -> None:
    config = demo(dashboard={}, recording={"path": str(tmp_path / "p1.mcap"), "raw": True})
    with running(config) as engine:
        request(engine.control.url, "preview", {"on": True})
        while not engine.seats["p1"].session.done:
            assert engine.seats["p1"].session.tick < 1000
            try:
                request(engine.control.url, "preview", {"on": True}, timeout_s=2.0)
            except ResourceError:  # it was over between the look and the question
                assert engine.seats["p1"].session.done
    proof = verify(tmp_path / "p1.mcap")  # made again from the log, where nobody looks
    assert proof.reason is None
    assert proof.n_compared >= 5
    assert "preview" not in proof.report.counts
