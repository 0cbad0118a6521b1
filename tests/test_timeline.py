"""The timeline gives the same items at the same times however its stream was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.account import Stage
from engine.clockfit import ClockFit
from engine.timeline import GapPolicy, Run, Timeline
from engine.types import Chunk
from tests.streams import device, info, recut

FAULTS = ["jitter", "drift", "gap", "nan", "jump", "lost", "duplicate", "reorder"]


def play(
    chunks: list[Chunk], gaps: GapPolicy | None = None
) -> tuple[list[Run], list[Any], Stage, Timeline]:
    """All runs and events of a stream, with the law of account checked after every chunk."""
    runs: list[Run] = []
    events: list[Any] = []
    stage = Stage(lambda: timeline.held())
    timeline = Timeline(
        info(), gaps or GapPolicy(), stage, lambda code, t, detail: events.append((code, t, detail))
    )
    for chunk in chunks:
        timeline.push(chunk, runs.append)
        assert stage.balance() == 0
        assert timeline.span() == stage.n_out
    timeline.end(runs.append)
    assert stage.balance() == 0
    assert stage.held() == 0
    return runs, events, stage, timeline


def items(runs: list[Run]) -> bytes:
    """Every item with all that the timeline said of it, as bytes."""
    rows = [
        (run.segment, run.first + j, run.knot.time(run.first + j), bool(run.valid[j]),
         run.data[j].tobytes())
        for run in runs for j in range(len(run.data))
    ]  # fmt: skip
    return repr(rows).encode()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    faults=st.sets(st.sampled_from(FAULTS)),
    policy=st.sampled_from(["mask", "hold", "interpolate", "break"]),
    first=st.sampled_from([0, 2**31 - 500, 2**40]),
)
def test_the_items_do_not_depend_on_the_cut(
    seed: int, faults: set[str], policy: str, first: int
) -> None:
    rng = np.random.default_rng(seed)
    chunks = device(rng, 1500, faults=sorted(faults), first=first)
    gaps = GapPolicy(policy, 0.1, 0.1)
    runs, events, stage, _ = play(chunks, gaps)
    for size in (1, 7, 160, 4096, np.random.default_rng(seed + 1)):
        again, events_again, stage_again, _ = play(recut(chunks, size), gaps)
        assert items(again) == items(runs)
        assert events_again == events
        assert stage_again.snapshot() == stage.snapshot()


def test_a_clean_stream_passes_unchanged() -> None:
    chunks = device(np.random.default_rng(1), 1000)
    runs, events, stage, _ = play(chunks)
    assert np.array_equal(
        np.concatenate([r.data for r in runs]), np.concatenate([c.data for c in chunks])
    )
    assert all(r.valid.all() for r in runs)
    assert events == []
    assert stage.snapshot() == {"in": 1000, "made": {}, "out": 1000, "held": 0, "dropped": {}}


def two(gap: int) -> list[Chunk]:
    data = np.ones((20, 3), np.float32)
    return [
        Chunk("eeg", 0, 0, ((0, 0.0),), data),
        Chunk("eeg", 0, 20 + gap, ((20 + gap, (20 + gap) / 128),), 3 * data),
    ]


def test_a_short_gap_is_filled_with_invalid_items() -> None:
    runs, events, stage, _ = play(two(5))
    assert stage.made == {"gap": 5}
    assert [bool(v) for r in runs for v in r.valid] == [True] * 20 + [False] * 5 + [True] * 20
    assert events[0][0] == "stream.gap"
    assert events[0][2]["items"] == 5


def test_interpolation_runs_straight_across_the_gap() -> None:
    runs, _, _, _ = play(two(1), GapPolicy("interpolate", 0.1, 0.1))
    assert np.concatenate([r.data for r in runs])[20].tolist() == [2.0, 2.0, 2.0]


def test_a_long_gap_opens_a_segment_and_fills_nothing() -> None:
    runs, events, stage, _ = play(two(10**9))
    assert stage.made == {}
    assert [r.segment for r in runs] == [0, 1]
    assert [e[0] for e in events] == ["stream.gap", "stream.segment"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_item_that_is_not_finite_is_replaced_and_marked(bad: float) -> None:
    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    data[1, 2] = bad
    runs, _, stage, _ = play([Chunk("eeg", 0, 0, ((0, 0.0),), data)])
    assert runs[0].data[1].tolist() == [0.0, 1.0, 2.0]
    assert runs[0].valid.tolist() == [True, False, True, True]
    assert stage.dropped == stage.made == {"nonfinite": 1}


def test_a_huge_finite_item_is_not_taken_for_infinite() -> None:
    data = np.full((4, 3), 1e30, np.float32)
    runs, _, stage, _ = play([Chunk("eeg", 0, 0, ((0, 0.0),), data)])
    assert runs[0].valid.all()
    assert stage.dropped == {}


def test_swapped_chunks_come_out_in_order() -> None:
    data = np.arange(90, dtype=np.float32).reshape(30, 3)
    chunks = [Chunk("eeg", 0, i, ((i, i / 128),), data[i : i + 10]) for i in (0, 20, 10)]
    runs, events, stage, _ = play(chunks)
    assert np.array_equal(np.concatenate([r.data for r in runs]), data)
    assert events == []
    assert stage.dropped == {}


def test_a_chunk_that_comes_twice_counts_as_duplicate_and_one_after_its_gap_as_late() -> None:
    first, second = two(5)
    late = Chunk("eeg", 0, 20, (), np.zeros((5, 3), np.float32))
    _, _, stage, _ = play([first, first, second, late])
    assert stage.dropped == {"duplicate": 20, "late": 5}


def test_a_clock_set_back_never_moves_items_back() -> None:
    chunks = [
        Chunk("eeg", 0, i, ((i, i / 128 - (15.0 if i >= 40 else 0.0)),), np.ones((10, 3), "f4"))
        for i in range(0, 80, 10)
    ]
    runs, events, _, _ = play(chunks)
    times = [r.knot.time(r.first + j) for r in runs for j in range(len(r.data))]
    assert np.all(np.diff(times) > 0)
    assert [e[0] for e in events] == ["stream.segment"]
    assert events[0][2]["rebased"] is True


@pytest.mark.parametrize("by_s", [10.0, 2e5])
def test_a_clock_set_forward_moves_no_item(by_s: float) -> None:
    chunks = [
        Chunk("eeg", 0, i, ((i, i / 128 + (by_s if i >= 40 else 0.0)),), np.ones((10, 3), "f4"))
        for i in range(0, 80, 10)
    ]
    runs, events, stage, timeline = play(chunks)
    assert timeline.time(79) == pytest.approx(79 / 128)
    assert [r.segment for r in runs][-1] == 1
    assert stage.made == {}
    assert [e[0] for e in events] == ["stream.segment"]


def test_a_device_that_was_suspended_goes_on_when_it_wakes() -> None:
    runs: list[Run] = []
    stage = Stage(lambda: timeline.held())
    timeline = Timeline(info(), GapPolicy(), stage, lambda *_: None, now=lambda: 10.2)
    for i in range(0, 80, 10):
        at_s = i / 128 + (10.0 if i >= 40 else 0.0)
        timeline.push(Chunk("eeg", 0, i, ((i, at_s),), np.ones((10, 3), "f4")), runs.append)
    assert timeline.time(79) == pytest.approx(79 / 128 + 10.0)


def test_items_of_another_shape_are_refused_and_said_once() -> None:
    odd = [Chunk("eeg", 0, i, ((i, i / 128),), np.ones((5, 4), np.float32)) for i in (20, 25)]
    _, events, stage, _ = play([two(0)[0], *odd])
    assert stage.dropped == {"refused": 10}
    assert [e[0] for e in events] == ["source.refused"]


def test_a_device_at_another_rate_than_declared_is_measured() -> None:
    chunks = [
        Chunk("eeg", 0, i, ((i, i / 104.32),), np.ones((10, 3), "f4")) for i in range(0, 4000, 10)
    ]
    _, events, _, timeline = play(chunks)
    assert [e[0] for e in events] == ["stream.rate"]
    assert timeline.fit is not None
    assert timeline.fit.knot.rate_hz == pytest.approx(104.32, rel=1e-3)


def test_a_device_that_declared_200_hz_and_gave_163_is_told_once_and_stays_one_segment() -> None:
    runs: list[Run] = []
    events: list[Any] = []
    stage = Stage(lambda: timeline.held())
    timeline = Timeline(info(200.0), GapPolicy(), stage, lambda *told: events.append(told))
    for i in range(0, 163 * 60, 50):
        timeline.push(Chunk("eeg", 0, i, ((i, i / 163),), np.ones((50, 3), "f4")), runs.append)
    ((code, t, detail),) = events
    assert code == "stream.rate"
    assert 10 <= t < 20
    assert detail["declared_hz"] == 200.0
    assert detail["ratio"] == pytest.approx(163 / 200, rel=0.01)
    assert {run.segment for run in runs} == {0}
    assert timeline.time(163 * 60) == pytest.approx(60.0, abs=0.005)


def test_hold_repeats_the_last_item_and_break_never_fills() -> None:
    runs, _, stage, _ = play(two(5), GapPolicy("hold", 0.1, 0.1))
    x = np.concatenate([r.data for r in runs])
    assert x[20:25].tolist() == [[1.0] * 3] * 5
    assert all(r.valid.all() for r in runs)
    runs, events, stage, _ = play(two(1), GapPolicy("break", 0.1, 0.1))
    assert stage.made == {}
    assert [r.segment for r in runs] == [0, 1]
    assert [e[2].get("why") for e in events if e[0] == "stream.segment"] == ["gap"]


def test_what_is_out_of_order_beyond_the_bound_becomes_a_gap_and_comes_late() -> None:
    data = np.ones((4, 3), np.float32)
    order = [0, 8, 12, 16, 20, 24, 4]  # item 4 comes after 20 newer ones; 0.1 s are 12
    chunks = [Chunk("eeg", 0, i, ((i, i / 128),), data) for i in order]
    _, events, stage, _ = play(chunks)
    assert stage.made == {"gap": 4}
    assert stage.dropped == {"late": 4}
    assert [e[0] for e in events] == ["stream.gap"]


def test_a_device_clock_that_starts_again_from_zero_leaves_items_where_they_belong() -> None:
    chunks = [
        Chunk("eeg", 0, i, ((i, 5000.0 + i / 128 if i < 640 else (i - 640) / 128),),
              np.ones((10, 3), "f4"))
        for i in range(0, 1280, 10)
    ]  # fmt: skip
    _, events, stage, timeline = play(chunks)
    assert [e[0] for e in events] == ["stream.segment"]
    assert events[0][2]["jump_s"] == pytest.approx(-5005.0, abs=0.01)
    assert timeline.time(1279) == pytest.approx(5000.0 + 1279 / 128, abs=0.001)
    assert stage.made == stage.dropped == {}


@pytest.mark.parametrize("ppm", [500, -500])
def test_an_hour_of_drift_stays_within_five_milliseconds(ppm: int) -> None:
    rng, rate_hz = np.random.default_rng(3), 256.0
    fit, worst_s = ClockFit(0, 0.0, rate_hz), 0.0
    for index in range(10, int(3600 * rate_hz), 10):
        true_s = index / rate_hz * (1 + ppm * 1e-6)
        fit.take(index, true_s + rng.normal(0, 0.002))
        worst_s = max(worst_s, abs(fit.knot.time(index) - true_s))
    assert worst_s < 0.005


def test_a_log_keeps_the_devices_own_stamps_beside_the_engines(tmp_path: Path) -> None:
    from engine.log.reader import LogReader
    from tests.logs import record

    own_s, offset_s = 123456.75, -123000.25
    stamps = ((0, own_s + offset_s),)
    chunk = Chunk("eeg", 0, 0, stamps, np.ones((4, 2), np.float32), (), offset_s)
    path = record(tmp_path / "a.mcap", lambda log: log.chunk(chunk))
    (kept,) = [r.payload for r in LogReader(path) if isinstance(r.payload, Chunk)]
    assert kept.stamps == stamps
    assert kept.stamps[0][1] - kept.offset_s == own_s
    assert {part.offset_s for part in kept.cut(2)} == {offset_s}
