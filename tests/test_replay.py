"""Replay: pace, stamps, segments; and the contract that every source keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.clock import MonotonicClock, SettableClock
from engine.errors import ConfigError, DataError, EndOfStream
from engine.types import Chunk, Source
from sources.files import open_recording
from sources.recording import RecordedStream, Recording
from sources.replay import ReplaySource
from sources.simulate import SimulateSource

RATE_HZ = 50.0


def save(path: Path, **more: Any) -> Path:
    x = np.random.default_rng(1).normal(size=(503, 3))
    np.savez(path, x=x, rate_hz=RATE_HZ, channels=["a", "b", "c"], kind="physio", **more)
    return path


def drain(source: Source, timeout_s: float = 1.0) -> list[Chunk]:
    """All chunks of an entered source; read until it ends."""
    chunks = []
    try:
        while True:
            chunk = source.read(timeout_s)
            if chunk is not None:
                chunks.append(chunk)
    except EndOfStream:
        return chunks


def replayed(path: Any, **args: Any) -> list[Chunk]:
    with ReplaySource(path=path, speed="max", clock=SettableClock(), **args) as source:
        return drain(source)


Make = Callable[[], Source]


@pytest.fixture(params=["replay", "replay paced", "simulate", "simulate paced"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes a source of 3 to 11 s, paced by a clock that moves when it is waited on, or not."""
    kind, _, paced = str(request.param).partition(" ")
    speed: float | str = 1.0 if paced else "max"
    path = save(tmp_path / "p.npz")
    if kind == "replay":
        return lambda: ReplaySource(path=path, speed=speed, clock=SettableClock(5.0))
    return lambda: SimulateSource(person=3, seconds=3.3, speed=speed, clock=SettableClock(5.0))


def test_a_source_knows_its_stream_once_it_is_entered(make: Make) -> None:
    with make() as source:
        info = source.info
        assert info.rate_hz is not None
        assert info.shape == (len(info.channels),)
        chunk = source.read(10.0)
        assert chunk is not None
        assert (chunk.stream, chunk.data.shape[1:]) == (info.name, info.shape)
        assert chunk.data.dtype == np.float32


def test_a_source_counts_every_item_from_0_and_then_ends(make: Make) -> None:
    with make() as source:
        chunks = drain(source)
        with pytest.raises(EndOfStream):
            source.read(0.0)
    expected = 0
    for chunk in chunks:
        assert (chunk.segment, chunk.first_index) == (0, expected)
        assert all(expected <= i < expected + len(chunk) for i, _ in chunk.stamps)
        expected += len(chunk)
    assert expected in (503, 845)
    assert chunks[0].stamps[0][0] == 0


def test_a_closed_source_gives_nothing_and_closes_twice(make: Make) -> None:
    source = make()
    with pytest.raises(EndOfStream):
        source.read(0.0)
    with source:
        assert source.read(1.0) is not None
    source.__exit__(None, None, None)
    with pytest.raises(EndOfStream):
        source.read(1.0)


def test_a_source_that_is_entered_again_begins_again(make: Make) -> None:
    source = make()
    with source:
        before = drain(source)
    with source:
        again = drain(source)
    assert len(before) == len(again)
    for a, b in zip(before, again, strict=True):
        assert a.first_index == b.first_index
        np.testing.assert_array_equal(a.data, b.data)


def test_closing_wakes_a_read_that_waits() -> None:
    source = SimulateSource(chunk_s=60.0, clock=MonotonicClock())
    got: list[object] = []
    entered = threading.Event()

    def wait() -> None:
        entered.set()
        got.append(source.read(120.0))

    with source:
        thread = threading.Thread(target=wait)
        thread.start()
        assert entered.wait(10.0)
    thread.join(30.0)
    assert not thread.is_alive()
    assert got in ([None], [])  # it waited, or had not begun to read yet


def test_closed_before_reading_ends_the_stream_in_any_thread() -> None:
    source = SimulateSource(clock=SettableClock())
    with source:
        pass
    with pytest.raises(EndOfStream):
        source.read(0.0)


@pytest.mark.parametrize("chunk", [1, 7, 100, 5000, None])
def test_replay_gives_the_same_items_and_stamps_however_it_cuts(
    tmp_path: Path, chunk: int | None
) -> None:
    label = np.where(np.arange(503) < 201, "calm", "sad")
    path = save(tmp_path / "p.npz", label=label, t=3 + np.arange(503) / 49.0)
    whole = replayed(path, chunk=503)
    parts = replayed(path, chunk=chunk)
    assert len(whole) == 1
    np.testing.assert_array_equal(np.concatenate([c.data for c in parts]), whole[0].data)
    assert sum((c.stamps for c in parts), ()) == whole[0].stamps
    assert sum((c.truth for c in parts), ()) == whole[0].truth == ((0, "calm"), (201, "sad"))
    assert max(map(len, parts)) == min(chunk or 25, 503)


def test_a_file_without_a_clock_has_one_stamp_at_its_origin(tmp_path: Path) -> None:
    path = save(tmp_path / "p.npz")
    assert sum((c.stamps for c in replayed(path)), ()) == ((0, 0.0),)
    assert sum((c.stamps for c in replayed(path, origin_s=7.5)), ()) == ((0, 7.5),)


def test_a_file_with_a_clock_keeps_it_unless_an_origin_is_given(tmp_path: Path) -> None:
    path = save(tmp_path / "p.npz", t=1000 + np.arange(503) / RATE_HZ)
    assert replayed(path)[0].stamps[0] == (0, 1000.0)
    assert replayed(path, origin_s=7.5)[0].stamps[0] == (0, 7.5)


def test_streams_of_one_recording_keep_their_distance(tmp_path: Path) -> None:
    (early,) = open_recording(save(tmp_path / "p.npz")).streams
    late = replace(
        early, info=replace(early.info, name="late"), stamps=(np.array([0]), np.array([0.5]))
    )
    both = Recording("p", tmp_path, (early, late))
    starts = {}
    for name in ("physio", "late"):
        clock = SettableClock(20.0)
        source = ReplaySource(both, stream_in_file=name, chunk=1, clock=clock, loop=True)
        with source:
            begins: list[tuple[float, float]] = []
            while len(begins) < 2:
                chunk = source.read(1.0)
                if chunk is not None and chunk.first_index == 0:
                    begins.append((chunk.stamps[0][1], clock.now()))
        np.testing.assert_allclose([stamp for stamp, _ in begins], [now for _, now in begins])
        starts[name] = [stamp for stamp, _ in begins]
    np.testing.assert_allclose(starts["physio"], [20.0, 20.0 + 10.56])
    np.testing.assert_allclose(starts["late"], [20.5, 20.5 + 10.56])


def test_paced_replay_stands_on_the_clock_it_was_entered_at(tmp_path: Path) -> None:
    path = save(tmp_path / "p.npz", t=1000 + np.arange(503) / RATE_HZ)
    with ReplaySource(path=path, clock=SettableClock(40.0)) as source:
        first = source.read(1.0)
    assert first is not None
    np.testing.assert_allclose(first.stamps, [(0, 40.0), (1, 40.02)])


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_a_chunk_comes_when_the_clock_reaches_its_last_item(tmp_path: Path, speed: float) -> None:
    clock = SettableClock(100.0)
    with ReplaySource(path=save(tmp_path / "p.npz"), speed=speed, chunk=10, clock=clock) as source:
        for n in range(5):
            due_s = 100.0 + (10 * n + 9) / RATE_HZ / speed
            assert source.read((due_s - clock.now()) * 0.5) is None
            assert clock.now() < due_s
            chunk = source.read(1.0)
            assert chunk is not None
            assert chunk.first_index == 10 * n
            assert clock.now() == pytest.approx(due_s)


def test_playing_waits_for_an_origin_that_lies_ahead(tmp_path: Path) -> None:
    clock = SettableClock(1.0)
    path = save(tmp_path / "p.npz")
    with ReplaySource(path=path, chunk=1, clock=clock, origin_s=3.0) as source:
        assert source.read(1.5) is None
        chunk = source.read(1.0)
        assert chunk is not None
        assert chunk.stamps == ((0, 3.0),)
        assert clock.now() == 3.0


def test_a_source_that_is_entered_late_catches_up_with_its_origin(tmp_path: Path) -> None:
    clock = SettableClock(7.0)
    path = save(tmp_path / "p.npz")
    with ReplaySource(path=path, chunk=50, clock=clock, origin_s=4.5) as source:
        times = []
        for _ in range(4):
            assert source.read(1.0) is not None
            times.append(clock.now())
    assert times == pytest.approx([7.0, 7.0, 4.5 + 149 / RATE_HZ, 4.5 + 199 / RATE_HZ])


def test_a_loop_goes_on_in_a_new_segment_without_a_hole_in_time(tmp_path: Path) -> None:
    path = save(tmp_path / "p.npz", label="calm")
    chunks: list[Chunk] = []
    with ReplaySource(path=path, speed="max", loop=True, clock=SettableClock()) as source:
        while not chunks or chunks[-1].segment < 3:
            chunk = source.read(0.0)
            assert chunk is not None
            chunks.append(chunk)
    begins = [c for c in chunks if c.first_index == 0]
    assert [c.segment for c in begins] == [0, 1, 2, 3]
    assert [c.stamps[0][1] for c in begins] == pytest.approx([0, 10.06, 20.12, 30.18])
    assert all(c.truth == ((0, "calm"),) for c in begins)
    np.testing.assert_array_equal(begins[0].data, begins[1].data)


def segmented(tmp_path: Path) -> Recording:
    """A recording of 40 items that pauses after the first 25, with a label across the pause."""
    (stream,) = open_recording(save(tmp_path / "p.npz")).streams
    stamps = (np.array([0, 25]), np.array([0.0, 8.0]))
    parts = RecordedStream(stream.info, 40, stream.read, stamps, ((10, "sad"),), (0, 25))
    return Recording("p", tmp_path, (parts,))


@pytest.mark.parametrize("chunk", [1, 10, 40])
def test_a_pause_in_the_file_is_a_new_segment_with_its_own_stamp(
    tmp_path: Path, chunk: int
) -> None:
    chunks = replayed(segmented(tmp_path), chunk=chunk)
    assert {c.segment: sum(len(d) for d in chunks if d.segment == c.segment) for c in chunks} == {
        0: 25,
        1: 15,
    }
    second = [c for c in chunks if c.segment == 1]
    assert (second[0].first_index, second[0].stamps) == (0, ((0, 8.0),))
    assert second[0].truth == ((0, "sad"),)


def test_a_pause_is_waited_for(tmp_path: Path) -> None:
    clock = SettableClock()
    with ReplaySource(path=segmented(tmp_path), chunk=40, clock=clock) as source:
        assert len(drain(source)) == 2
    assert clock.now() == pytest.approx(8.0 + 14 / RATE_HZ)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "p.npz")
    for args, said in (
        ({"speed": "fast"}, "speed: 'fast' is neither a number above 0 nor 'max'"),
        ({"speed": 0}, "speed: 0"),
        ({"chunk": 0}, "chunk: 0 items"),
    ):
        with pytest.raises(ConfigError, match=said):
            ReplaySource(path, **args)
    source = ReplaySource(path, stream_in_file="eeg")
    with pytest.raises(DataError, match="no stream 'eeg' in it; stream_in_file is one of physio"):
        source.__enter__()


def test_a_recording_of_several_streams_asks_which(tmp_path: Path) -> None:
    one = segmented(tmp_path)
    both = Recording("p", tmp_path, one.streams * 2)
    with pytest.raises(DataError, match="several streams in it; stream_in_file is one of"):
        ReplaySource(both).__enter__()


def test_a_stream_can_be_renamed(tmp_path: Path) -> None:
    chunks = replayed(save(tmp_path / "p.npz"), stream="wrist")
    assert {c.stream for c in chunks} == {"wrist"}


@pytest.mark.parametrize("name", ["eegmat_edf/Subject01_2.edf", "eegmat_128hz/Subject01_2.npz"])
def test_a_real_recording_comes_out_whole(name: str) -> None:
    path = Path(__file__).resolve().parents[1].parent / "shared/data/eeg" / name
    if not path.exists():
        pytest.skip(f"the shared data are not on this machine: {path.name}")
    (stream,) = open_recording(path).streams
    chunks = replayed(path, chunk=777)
    np.testing.assert_array_equal(
        np.concatenate([c.data for c in chunks]), stream.read(0, stream.n_items)
    )
