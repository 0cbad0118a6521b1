"""Neuroscan files: the same values as mne reads, piece by piece, and what is refused."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.types import Array
from offline.fixtures.cnt import write_cnt
from sources.files import inspect, open_recording

CHANNELS = ("FP1", "M1", "VEO", "O2", "CB2")
RATE_HZ = 1000


@pytest.fixture
def x() -> Array:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((2300, 5)) * 50 + [0, 300, -4000, 1, 7]).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path, x: Array) -> Path:
    path = tmp_path / "1_1_20180804.cnt"
    write_cnt(path, x, CHANNELS, RATE_HZ, events=[(100, 4), (2000, 1)])
    return path


def patch(path: Path, at: int, form: str, value: float) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, at, value)
    path.write_bytes(content)


def test_a_file_gives_what_mne_reads_in_it(path: Path) -> None:
    mne = pytest.importorskip("mne")
    for j, (baseline, sensitivity, calibration) in enumerate(
        [(0, 1.0, 1.0), (-30, 2.5, 0.9), (7, 0.5, 1.1), (0, 1.0, 2.0), (12000, 3.0, 1.0)]
    ):
        patch(path, 900 + 75 * j + 47, "<h", baseline)
        patch(path, 900 + 75 * j + 59, "<f", sensitivity)
        patch(path, 900 + 75 * j + 71, "<f", calibration)
    raw = mne.io.read_raw_cnt(path, data_format="int32", date_format="mm/dd/yy", verbose="error")
    (stream,) = open_recording(path).streams
    assert stream.info.channels == tuple(raw.ch_names) == CHANNELS
    assert (stream.info.rate_hz, stream.n_items) == (raw.info["sfreq"], raw.n_times)
    expected = raw.get_data().T * 1e6
    np.testing.assert_allclose(stream.read(0, 2300), expected, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(stream.read(700, 1234), expected[700:1234], rtol=1e-6, atol=1e-4)
    found = [value for _, value in open_recording(path).markers]
    assert found == [str(each) for each in raw.annotations.description]


def test_what_is_written_is_read_to_a_four_hundredth_of_a_microvolt(path: Path, x: Array) -> None:
    recording = open_recording(path)
    (stream,) = recording.streams
    assert (stream.info.kind, stream.info.unit, stream.info.shape) == ("eeg", "uV", (5,))
    assert stream.read(0, 1).dtype == np.float32
    np.testing.assert_allclose(stream.read(5, 2300), x[5:], atol=0.0025)
    assert recording.markers == ((0.1, "4"), (2.0, "1"))
    assert recording.start_wall == datetime(2018, 8, 4, 10, 30, tzinfo=UTC).timestamp()
    assert inspect(path)["duration_s"] == 2.3


@pytest.mark.parametrize(("kind", "length"), [(2, 19), (3, 19)])
def test_events_of_the_long_kinds_are_read(path: Path, kind: int, length: int) -> None:
    content = path.read_bytes()
    data_at, sample = 900 + 75 * 5, 4 * 5
    table_at = data_at + 2300 * sample
    places = (200, 300) if kind == 3 else (data_at + 200 * sample, data_at + 300 * sample)
    events = [struct.pack("<HBBi", 9, 0, 0, places[0]), struct.pack("<HBBi", 0, 3, 0, places[1])]
    table = b"".join(event.ljust(length, b"\0") for event in events)
    path.write_bytes(content[:table_at] + struct.pack("<Bii", kind, len(table), 0) + table)
    assert open_recording(path).markers == ((0.2, "9"), (0.3, "key 3"))


def test_a_file_without_events_or_a_date_has_neither(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[225:247] = bytes(22)
    path.write_bytes(content[: 900 + 75 * 5 + 2300 * 20])
    recording = open_recording(path)
    assert (recording.markers, recording.start_wall) == ((), None)


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (370, "<H", 0, "not a Neuroscan file"),
        (376, "<H", 0, "not a Neuroscan file"),
        (370, "<H", 65000, "promises 65000 channels; the file ends among them"),
        (864, "<I", 2301, "promises 2301 samples"),
        (864, "<I", 4600, "16 bits"),
        (886, "<i", 10**9, "was cut off or changed"),
        (886, "<i", 0, "was cut off or changed"),
        (894, "<i", 400, "in blocks per channel"),
        (900 + 59, "<f", float("nan"), "sensitivity or calibration is no number"),
        (900 + 75 * 5 + 2300 * 20, "<B", 7, "damaged event table: kind 7"),
        (900 + 75 * 5 + 2300 * 20 + 1, "<i", 10**6, "damaged event table: kind 1, 1000000 bytes"),
    ],
)
def test_a_damaged_header_is_refused_by_name(
    path: Path, at: int, form: str, value: float, message: str
) -> None:
    patch(path, at, form, value)
    with pytest.raises(DataError, match=f"{path.name}: .*{message}"):
        open_recording(path)


@pytest.mark.parametrize("size", [1, 500, 1200, 20_000])
def test_a_file_that_was_cut_off_is_refused(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=path.name):
        open_recording(path)
