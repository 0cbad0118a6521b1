"""Injected faults: each leaves its own signature, the same for any pace and chunk size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.clock import SettableClock
from engine.errors import ConfigError, EndOfStream, SourceLost
from engine.types import Array, Chunk
from sources.faults import KINDS
from sources.simulate import SimulateSource

RATE_HZ = 128.0
SECONDS = 6.0
Seen = tuple[float, Chunk | SourceLost]


def seen(*faults: dict[str, Any], chunk_s: float = 0.125, speed: Any = 1.0) -> list[Seen]:
    """What comes of a simulated participant of 6 s, and when."""
    clock = SettableClock()
    source = SimulateSource(
        person=3,
        rate_hz=RATE_HZ,
        seconds=SECONDS,
        faults=faults,
        chunk_s=chunk_s,
        speed=speed,
        clock=clock,
        origin_s=0.0,
    )
    out: list[Seen] = []
    with source:
        while True:
            try:
                chunk = source.read(100.0)
            except SourceLost as lost:
                out.append((clock.now(), lost))
            except EndOfStream:
                return out
            else:
                assert chunk is not None
                out.append((clock.now(), chunk))


def chunks(*faults: dict[str, Any], **args: Any) -> list[Chunk]:
    return [what for _, what in seen(*faults, **args) if isinstance(what, Chunk)]


def joined(parts: list[Chunk]) -> Array:
    return np.concatenate([c.data for c in parts])


def stamps(parts: list[Chunk]) -> Array:
    """(stamps, index and time)."""
    return np.array([stamp for c in parts for stamp in c.stamps])


CLEAN = chunks()


def test_without_faults_stamps_and_arrivals_are_even() -> None:
    table = stamps(CLEAN)
    np.testing.assert_allclose(table[:, 0] / RATE_HZ, table[:, 1])
    assert [at for at, _ in seen()] == [(16 * n + 15) / RATE_HZ for n in range(48)]


def test_jitter_shakes_stamps_and_nothing_else() -> None:
    shaken = chunks({"kind": "jitter", "at_s": 2, "for_s": 2, "amount_s": 0.05})
    off = stamps(shaken)[:, 1] - stamps(CLEAN)[:, 1]
    inside = (stamps(CLEAN)[:, 1] >= 2) & (stamps(CLEAN)[:, 1] < 4)
    assert np.all(off[~inside] == 0)
    assert 0.01 < np.std(off[inside]) < 0.05
    assert np.abs(off).max() <= 0.05
    np.testing.assert_array_equal(joined(shaken), joined(CLEAN))


def test_drift_slows_stamps_and_pace_alike() -> None:
    drifted = seen({"kind": "drift", "ppm": 1000})
    table = stamps([what for _, what in drifted if isinstance(what, Chunk)])
    np.testing.assert_allclose(table[:, 1], 1.001 * table[:, 0] / RATE_HZ)
    assert drifted[-1][0] == pytest.approx(1.001 * (SECONDS - 1 / RATE_HZ))


def test_rate_delivers_more_items_a_second_than_declared_for_a_while() -> None:
    fast = seen({"kind": "rate", "at_s": 2, "for_s": 2, "factor": 2})
    table = stamps([what for _, what in fast if isinstance(what, Chunk)])
    at = dict(table.tolist())
    assert (at[256], at[384], at[512], at[640]) == (2.0, 2.5, 3.0, 4.0)
    assert fast[-1][0] == pytest.approx(SECONDS - 1 - 1 / RATE_HZ)


def test_gap_makes_the_index_jump_by_the_items_lost() -> None:
    parts = chunks({"kind": "gap", "at_s": 1.95, "for_s": 1.5})
    ends = [c.first_index + len(c) for c in parts]
    jumps = [(e, c.first_index) for e, c in zip(ends, parts[1:], strict=False)]
    holes = [(a, b) for a, b in jumps if a != b]
    assert holes == [(math.ceil(1.95 * RATE_HZ), math.ceil(3.45 * RATE_HZ))]
    after = next(c for c in parts if c.first_index == holes[0][1])
    np.testing.assert_allclose(after.stamps[0], (holes[0][1], holes[0][1] / RATE_HZ))
    kept = np.r_[0 : holes[0][0], holes[0][1] : round(SECONDS * RATE_HZ)]
    np.testing.assert_array_equal(joined(parts), joined(CLEAN)[kept])


def test_a_label_that_begins_in_a_gap_stands_behind_it() -> None:
    parts = chunks({"kind": "gap", "at_s": 0, "for_s": 1})
    assert parts[0].truth == ((128, CLEAN[0].truth[0][1]),)


@pytest.mark.parametrize(("value", "check"), [("nan", np.isnan), ("-inf", np.isneginf)])
def test_nan_spoils_the_named_channels_only(value: str, check: Any) -> None:
    fault = {"kind": "nan", "at_s": 1, "for_s": 2, "channels": ["F3", "Cz"], "value": value}
    x, clean = joined(chunks(fault)), joined(CLEAN)
    channels = SimulateSource().info.channels
    columns = [channels.index("F3"), channels.index("Cz")]
    assert check(x[128:384][:, columns]).all()
    x[128:384, columns] = clean[128:384, columns]
    np.testing.assert_array_equal(x, clean)


def test_flat_holds_the_first_value_of_all_channels() -> None:
    x, clean = joined(chunks({"kind": "flat", "at_s": 1, "for_s": 2})), joined(CLEAN)
    np.testing.assert_array_equal(x[128:384], np.repeat(clean[128:129], 256, axis=0))
    np.testing.assert_array_equal(x[384:], clean[384:])


def test_stall_brings_nothing_and_then_everything_at_once() -> None:
    late = seen({"kind": "stall", "at_s": 2, "for_s": 1.5})
    times = [at for at, _ in late]
    assert not [at for at in times if 2 <= at < 3.5]
    assert times.count(3.5) == 12
    np.testing.assert_array_equal(joined(chunks({"kind": "stall", "at_s": 2})), joined(CLEAN))


def test_lost_raises_and_comes_back_with_a_new_segment_from_0() -> None:
    events = seen({"kind": "lost", "at_s": 2, "for_s": 1})
    gone = [n for n, (_, what) in enumerate(events) if isinstance(what, SourceLost)]
    assert len(gone) == 1
    assert events[gone[0]][0] == 2.0
    at, back = events[gone[0] + 1]
    assert isinstance(back, Chunk)
    assert (back.segment, back.first_index, back.stamps[0]) == (1, 0, (0, 3.0))
    assert back.truth == ((0, CLEAN[0].truth[0][1]),)
    assert at == pytest.approx(3 + 15 / RATE_HZ)
    after = [what for _, what in events[gone[0] + 1 :] if isinstance(what, Chunk)]
    np.testing.assert_array_equal(joined(after), joined(CLEAN)[384:])
    assert [c.first_index for c in after] == list(range(0, 384, 16))


def test_lost_twice_counts_two_segments_on() -> None:
    faults = [{"kind": "lost", "at_s": at_s, "for_s": 0.5} for at_s in (4, 1)]
    parts = chunks(*faults)
    assert sorted({c.segment for c in parts}) == [0, 1, 2]
    for segment, n_items in ((0, 128), (1, 320), (2, 192)):
        own = [c for c in parts if c.segment == segment]
        assert (own[0].first_index, sum(map(len, own))) == (0, n_items)


def test_channels_come_in_another_number_for_a_while() -> None:
    parts = chunks({"kind": "channels", "at_s": 1, "for_s": 1, "count": 8})
    assert {c.data.shape[1] for c in parts if 128 <= c.first_index < 256} == {8}
    assert {c.data.shape[1] for c in parts if not 128 <= c.first_index < 256} == {32}
    fewer = chunks({"kind": "channels", "at_s": 1})
    assert {c.data.shape[1] for c in fewer} == {31, 32}


def test_duplicate_sends_a_chunk_twice() -> None:
    firsts = [c.first_index for c in chunks({"kind": "duplicate", "at_s": 1})]
    assert firsts == sorted([*range(0, 768, 16), 128])
    more = [c.first_index for c in chunks({"kind": "duplicate", "at_s": 1, "for_s": 0.5})]
    assert more == sorted([*range(0, 768, 16), 128, 144, 160, 176])


def test_reorder_swaps_neighbours() -> None:
    firsts = [c.first_index for c in chunks({"kind": "reorder", "at_s": 1})]
    assert firsts[7:11] == [112, 144, 128, 160]
    more = [c.first_index for c in chunks({"kind": "reorder", "at_s": 1, "for_s": 0.5})]
    assert more[7:13] == [112, 144, 128, 176, 160, 192]


@pytest.mark.parametrize("by_s", [10.0, -15.0])
def test_jump_moves_the_stamps_from_there_on(by_s: float) -> None:
    off = stamps(chunks({"kind": "jump", "at_s": 3, "by_s": by_s}))[:, 1] - stamps(CLEAN)[:, 1]
    np.testing.assert_allclose(off, np.where(stamps(CLEAN)[:, 1] >= 3, by_s, 0.0))


ONE_OF_EACH = [{"kind": kind, "at_s": 0.45 * n} for n, kind in enumerate(sorted(KINDS))]
ABOUT_ITEMS = [
    {"kind": "gap", "at_s": 1.01, "for_s": 0.3},
    {"kind": "nan", "at_s": 1.1, "for_s": 0.55, "channels": ["Oz"]},
    {"kind": "flat", "at_s": 1.7, "for_s": 0.7},
    {"kind": "lost", "at_s": 3.03, "for_s": 0.5},
]


def test_all_faults_together_depend_on_the_seed_alone() -> None:
    a, b = chunks(*ONE_OF_EACH), chunks(*ONE_OF_EACH, speed="max")
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert (one.segment, one.first_index) == (other.segment, other.first_index)
        assert (one.stamps, one.truth) == (other.stamps, other.truth)
        np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.parametrize("chunk_s", [1 / RATE_HZ, 0.7, 60.0])
def test_faults_of_items_hit_the_same_items_in_any_chunks(chunk_s: float) -> None:
    a, b = chunks(*ABOUT_ITEMS), chunks(*ABOUT_ITEMS, chunk_s=chunk_s)
    for segment in (0, 1):
        index_a, index_b = (
            np.concatenate([c.first_index + np.arange(len(c)) for c in s if c.segment == segment])
            for s in (a, b)
        )
        np.testing.assert_array_equal(index_a, index_b)
    np.testing.assert_array_equal(joined(a), joined(b))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"kind": "gpa"}, "faults[0].kind: unknown fault 'gpa'; did you mean 'gap'?"),
        ({}, "faults[0].kind: unknown fault None; known: channels, drift, duplicate, flat"),
        ({"kind": "gap", "at": 3}, "unknown key 'at' for fault gap; did you mean 'at_s'?"),
        ({"kind": "gap", "ppm": 3}, "unknown key 'ppm' for fault gap; known: at_s, for_s, kind"),
        ({"kind": "gap", "at_s": -1}, "need at_s >= 0"),
        ({"kind": "gap", "for_s": "long"}, "faults[0].for_s: 'long' is not a number"),
        ({"kind": "rate", "factor": 0}, "faults[0].factor: 0; need a number above 0"),
        ({"kind": "drift", "ppm": 2e6}, "faults[0].ppm"),
        ({"kind": "nan", "channels": ["FZ1"]}, "the stream has no channel 'FZ1'"),
        ({"kind": "nan", "channels": "Fz"}, "need a list of channel names, or all"),
        ({"kind": "nan", "value": 3}, "faults[0].value: 3; need nan, inf or -inf"),
        ({"kind": "channels", "count": 32}, "a number of channels other than 32"),
        ({"kind": "jump", "by_s": math.inf}, "need a finite number"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused_by_name(fault: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimulateSource(faults=[fault])
    assert said in str(caught.value)


@pytest.mark.parametrize("faults", [{"kind": "gap"}, "gap", ["gap"]])
def test_faults_that_are_no_list_of_maps_are_refused(faults: Any) -> None:
    with pytest.raises(ConfigError, match=r"faults: .*; need a list of maps"):
        SimulateSource(faults=faults)
