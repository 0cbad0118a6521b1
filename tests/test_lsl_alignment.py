"""Predictions beside the signal they are made from, in a laboratory's recording."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import wire
from engine.config import config_from
from engine.log.reader import LogReader
from engine.types import Array, Prediction
from sources.files import open_recording
from sources.simulate import SimulateSource
from tests.bundles import write
from tests.engines import running

pylsl = pytest.importorskip("pylsl")
pyxdf = pytest.importorskip("pyxdf", reason="reading XDF files needs pyxdf")
RATE_HZ = 256.0
N = 10  # predictions that are recorded


@contextmanager
def headset(channels: tuple[str, ...]) -> Iterator[None]:
    """An outlet that counts its samples on the first channel and stamps them itself."""
    info = pylsl.StreamInfo("lab-headset", "EEG", len(channels), RATE_HZ, "float32", "lab-1")
    described = info.desc().append_child("channels")
    for label in channels:
        channel = described.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("unit", "microvolts")
    outlet, ended = pylsl.StreamOutlet(info), threading.Event()

    def push() -> None:
        start_s, n, rng = pylsl.local_clock(), 0, np.random.default_rng(0)
        while not ended.wait(0.01):
            due = int((pylsl.local_clock() - start_s) * RATE_HZ)
            if due > n:
                rows = rng.normal(0, 20, (due - n, len(channels))).astype(np.float32)
                rows[:, 0] = np.arange(n, due)
                outlet.push_chunk(rows, start_s + (due - 1) / RATE_HZ)  # the last one's
                n = due

    thread = threading.Thread(target=push)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the laboratory recorded as XDF, and what the engine recorded itself."""
    from tests.lab_recorder import LabRecorder

    folder = tmp_path_factory.mktemp("lab")
    told = config_from(
        {
            "session": "lab", "purpose": "research",
            "publish": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*",
            "streams": {
                "eeg": {
                    "source": {"type": "lsl", "match": {"name": "lab-headset"}},
                    "bundle": str(write(folder / "test-eeg")),
                }
            },
            "sinks": [{"type": "lsl"}],
            "recording": {"path": str(folder / "own.mcap"), "raw": True},
        }
    )  # fmt: skip
    with headset(SimulateSource(person=1).info.channels), running(told):
        lab = LabRecorder("lab-headset", "vagus.lab", "vagus.lab.markers")
        lab.until(lambda: lab.counts[1] >= N)
        lab.until(lambda: lab.counts[0] >= RATE_HZ)
    return lab.write(folder / "lab.xdf"), folder / "own.mcap"


def streams(path: Path) -> dict[str, Any]:
    return {one["info"]["name"][0]: one for one in pyxdf.load_xdf(path)[0]}


def engine_saw(path: Path) -> tuple[list[Prediction], dict[int, int]]:
    """The engine's predictions, and {item: the headset's count} of its samples."""
    said: list[Prediction] = []
    counts: dict[int, int] = {}
    for record in LogReader(path):
        if record.kind == "chunk":
            data: Array = record.payload.data
            first = record.payload.first_index
            counts |= {first + k: round(float(x)) for k, x in enumerate(data[:, 0])}
        elif record.kind == "prediction":
            message = wire.decode("prediction", record.payload)
            assert isinstance(message, Prediction)
            said.append(message)
    return said, counts


def test_a_prediction_stands_at_the_last_sample_of_its_window(files: tuple[Path, Path]) -> None:
    xdf = streams(files[0])
    eeg, emotion = xdf["lab-headset"], xdf["vagus.lab"]
    at_s = dict(zip(eeg["time_series"][:, 0].astype(int).tolist(), eeg["time_stamps"], strict=True))
    said, counts = engine_saw(files[1])
    by_confidence = {m.probabilities["calm"]: m for m in said if m.probabilities}
    calm = [c["label"][0] for c in emotion["info"]["desc"][0]["channels"][0]["channel"]].index(
        "calm"
    )
    compared = 0
    for row, stamp_s in zip(emotion["time_series"], emotion["time_stamps"], strict=True):
        message = by_confidence.get(float(row[calm]))
        if message is None:  # no window yet
            continue
        count = counts[message.modalities["eeg"]["last"]]
        if count in at_s:
            assert abs(stamp_s - at_s[count]) <= 1 / RATE_HZ
            compared += 1
    assert compared >= N - 6  # the first ones come before the window is full


def test_nothing_of_the_predictions_is_lost_on_the_way_to_the_file(
    files: tuple[Path, Path],
) -> None:
    emotion = streams(files[0])["vagus.lab"]
    labels = [c["label"][0] for c in emotion["info"]["desc"][0]["channels"][0]["channel"]]
    assert labels[:4] == ["happy", "angry", "sad", "calm"]
    assert labels[-2:] == ["confidence", "latency_ms"]
    said = [m for m in engine_saw(files[1])[0] if m.probabilities]
    rows = [row[:4].tolist() for row in emotion["time_series"] if not np.isnan(row[0])]
    told = [[m.probabilities[label] for label in labels[:4]] for m in said if m.probabilities]
    start = told.index(rows[0])
    assert rows == told[start : start + len(rows)]
    assert emotion["info"]["type"][0] == "Emotion"


def test_label_changes_are_text_markers_at_the_time_of_their_prediction(
    files: tuple[Path, Path],
) -> None:
    xdf = streams(files[0])
    marks = xdf["vagus.lab.markers"]
    texts = [row[0] for row in marks["time_series"]]
    stamps = xdf["vagus.lab"]["time_stamps"]
    changes = [t for x, t in zip(texts, marks["time_stamps"], strict=True) if x[:6] == "label:"]
    assert changes
    # the recorder compares the clocks for each stream by itself, to some 10 us
    assert all(np.abs(stamps - t).min() < 1e-3 for t in changes)


def test_the_laboratorys_file_is_a_recording_like_any_other(files: tuple[Path, Path]) -> None:
    recording = open_recording(files[0])
    (eeg,) = recording.streams
    assert (eeg.info.kind, eeg.info.unit) == ("eeg", "uV")
    assert any(text.startswith("label:") for _, text in recording.markers)
    assert any("numbers without a rate" in warning for warning in recording.warnings)
