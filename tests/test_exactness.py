"""The law of the cut for whole sessions: one stream, two streams, every fault, any chunk size."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, iirnotch, sosfilt, sosfilt_zi, tf2sos

from engine.plan import SessionPlan, StreamPlan, Tick
from engine.player import Player
from engine.timeline import GapPolicy
from engine.types import Chunk
from tests.streams import device, info, recut
from tests.test_timeline import FAULTS
from tests.toys import FILTERS, plan, toy


def play(made: SessionPlan, infos: dict[str, Any], chunks: Iterable[Chunk]) -> dict[str, list[Any]]:
    """All messages of a session by kind, and every window's bytes; the account is checked."""
    windows: list[Any] = []

    def look(tick: Tick) -> None:
        for request in tick.requests:
            for key, w in sorted(request.windows.items()):
                spot = (tick.number, tick.t, request.modality, key, w.segment, w.first, w.last)
                windows.append((spot, w.data.tobytes(), w.valid.tobytes()))

    player = Player(made, on_tick=look)
    out: dict[str, list[Any]] = {"prediction": [], "event": [], "window": windows}
    for stream, stream_info in infos.items():
        for message in player.command("connect", stream=stream, info=stream_info):
            out[message.kind].append(message)
    for message in player.play(chunks):
        out[message.kind].append(message)
    return out


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    faults=st.sets(st.sampled_from(FAULTS)),
    first=st.sampled_from([0, 2**31 - 700, 2**40]),
)
def test_a_session_gives_the_same_bits_however_its_stream_is_cut(
    seed: int, faults: set[str], first: int
) -> None:
    chunks = device(np.random.default_rng(seed), 2500, faults=sorted(faults), first=first)
    once = play(plan(), {"eeg": info()}, chunks)
    for size in (1, 7, 160, 4096, np.random.default_rng(seed + 1)):
        again = play(plan(), {"eeg": info()}, recut(chunks, size))
        assert again == once


def two_streams(seed: int, faults: list[str]) -> tuple[SessionPlan, dict[str, Any], list[Chunk]]:
    """EEG at 200 Hz, resampled to 128, and a second stream at 64 Hz, in the order of time."""
    rng = np.random.default_rng(seed)
    fast = device(rng, 2000, 200.0, faults=faults, stream="eeg")
    slow = device(rng, 640, 64.0, faults=faults, stream="aux", start_s=0.03)
    chunks = list(heapq.merge(fast, slow, key=lambda c: (c.segment, c.stamps[0][1])))
    eeg = StreamPlan(toy(name="fast"), gaps=GapPolicy("hold"))
    aux = StreamPlan(toy({"eeg": {"rate_hz": 64.0, "steps": (), "window_s": 1.5}}, name="slow",
                         hop_s=1.0))  # fmt: skip
    made = SessionPlan("p1", "run", {"eeg": eeg, "aux": aux}, hop_s=0.5)
    return made, {"eeg": info(200.0), "aux": info(64.0, name="aux")}, chunks


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), faults=st.sets(st.sampled_from(FAULTS[:4])))
def test_two_interleaved_streams_give_the_same_bits_however_they_are_cut(
    seed: int, faults: set[str]
) -> None:
    made, infos, chunks = two_streams(seed, sorted(faults))
    once = play(made, infos, chunks)
    assert once["prediction"]
    for size in (1, 7, 160, 4096, np.random.default_rng(seed + 1)):
        again = play(made, infos, recut(chunks, size))
        assert again["prediction"] == once["prediction"]
        assert again["window"] == once["window"]


def test_the_order_in_which_two_streams_interleave_changes_no_prediction() -> None:
    made, infos, chunks = two_streams(5, [])
    once = play(made, infos, chunks)
    apart = [c for c in chunks if c.stream == "eeg"] + [c for c in chunks if c.stream == "aux"]
    again = play(made, infos, apart)
    assert again["prediction"] == once["prediction"]
    assert again["window"] == once["window"]


def test_windows_equal_scipy_on_the_whole_signal() -> None:
    chunks = device(np.random.default_rng(2), 2000)
    x = np.concatenate([c.data for c in chunks])
    sos = np.vstack(
        [butter(4, (1, 40), "bandpass", fs=128, output="sos"), tf2sos(*iirnotch(50, 30, 128))]
    )
    state = sosfilt_zi(sos)[:, :, None] * x[0].astype(np.float64)
    y = sosfilt(sos, x.astype(np.float64), axis=0, zi=state)[0].astype(np.float32)
    made = play(plan(), {"eeg": info()}, chunks)
    assert FILTERS[0]["name"] == "bandpass"
    full = [w for w in made["window"] if w[0][0] >= 4]
    assert len(full) > 20
    for (_, t, _, _, _, first, last), data, _ in full:
        assert (first, last) == (last - 255, min(1999, int(t * 128)))
        expected = y[first : last + 1]
        assert np.allclose(np.frombuffer(data, np.float32).reshape(-1, 3), expected, atol=1e-6)


def test_a_partly_filled_window_has_its_items_first() -> None:
    chunks = device(np.random.default_rng(2), 180)
    made = play(plan(), {"eeg": info()}, chunks)
    spot, data, valid = made["window"][0]
    assert spot[:2] == (2, 1.0)
    assert np.frombuffer(valid, bool).tolist() == [True] * 129 + [False] * 127
    assert not np.frombuffer(data, np.float32).reshape(-1, 3)[129:].any()


def test_the_end_of_a_stream_fires_one_last_tick() -> None:
    chunks = device(np.random.default_rng(2), 180)  # 1.40625 s
    made = play(plan(), {"eeg": info()}, chunks)
    assert [p.tick for p in made["prediction"]] == [1, 2, 3]
    assert made["prediction"][-1].t == pytest.approx(180 / 128)
    assert made["prediction"][-1].label is not None


def test_an_end_on_the_grid_fires_no_extra_tick() -> None:
    made = play(plan(), {"eeg": info()}, device(np.random.default_rng(2), 192))  # 1.5 s
    assert [(p.tick, p.t) for p in made["prediction"]] == [(1, 0.5), (2, 1.0), (3, 1.5)]


def test_a_late_stream_is_missing_after_the_patience_and_not_before() -> None:
    player = Player(plan())
    player.command("connect", stream="eeg", info=info())
    assert player.advance(0.79) == []
    (late,) = [m for m in player.advance(0.81) if m.kind == "prediction"]
    assert late.missing == ["eeg"]
    assert late.label is None


def test_nan_on_all_channels_for_ever_never_gives_a_label() -> None:
    chunks = [
        Chunk("eeg", 0, i, ((i, i / 128),), np.full((64, 3), np.nan, np.float32))
        for i in range(0, 1280, 64)
    ]
    made = play(plan(), {"eeg": info()}, chunks)
    assert all(p.label is None for p in made["prediction"])
    assert {p.modalities["eeg"]["reason"] for p in made["prediction"]} == {"filling", "quality"}
    assert "degraded" in {e.code for e in made["event"]}


def test_a_modality_that_fails_is_told_at_its_tick_however_the_stream_is_cut() -> None:
    x = np.random.default_rng(0).normal(size=(1920, 3)).astype(np.float32)
    x[700:1100] = np.nan
    chunks = [Chunk("eeg", 0, 0, ((0, 0.0),), x)]
    once = play(plan(), {"eeg": info()}, chunks)
    told = [(e.code, e.t) for e in once["event"] if e.code in ("degraded", "recovered")]
    assert [code for code, _ in told] == ["degraded", "recovered"]
    assert {t for _, t in told} <= {p.t for p in once["prediction"]}
    for size in (1, 160):
        assert play(plan(), {"eeg": info()}, recut(chunks, size)) == once


def test_a_muted_stream_is_missing_until_it_is_unmuted() -> None:
    player = Player(plan())
    player.command("connect", stream="eeg", info=info())
    seen = []
    for i, chunk in enumerate(recut(device(np.random.default_rng(0), 1280), 64)):
        if i == 6:
            player.command("mute", stream="eeg")
        if i == 12:
            player.command("unmute", stream="eeg")
        seen += [m.missing for m in player.push(chunk) if m.kind == "prediction"]
    assert seen[4:12] == [[], *[["eeg"]] * 6, []]
