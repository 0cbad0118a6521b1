"""The simulated participant: pure, true to its state, and neither too easy nor too hard."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from engine.clock import SettableClock
from engine.errors import ConfigError, EndOfStream
from engine.types import Array, Chunk
from sources.participant import LABELS, LatentState
from sources.simulate import SimulateSource


def simulated(seconds: float = 10.0, **args: Any) -> list[Chunk]:
    chunks = []
    with SimulateSource(seconds=seconds, speed="max", clock=SettableClock(), **args) as source:
        try:
            while True:
                chunk = source.read(0.0)
                assert chunk is not None
                chunks.append(chunk)
        except EndOfStream:
            return chunks


def joined(chunks: list[Chunk]) -> Array:
    return np.concatenate([c.data for c in chunks])


@pytest.mark.parametrize("chunk_s", [1 / 256, 0.037, 1.7, 60.0])
def test_the_signal_does_not_depend_on_how_it_is_read(chunk_s: float) -> None:
    a, b = simulated(person=5), simulated(person=5, chunk_s=chunk_s)
    np.testing.assert_array_equal(joined(a), joined(b))
    assert sum((c.truth for c in a), ()) == sum((c.truth for c in b), ())


def test_a_longer_recording_begins_with_the_shorter_one() -> None:
    np.testing.assert_array_equal(
        joined(simulated(7.3, person=2)), joined(simulated(12.0, person=2))[: round(7.3 * 256)]
    )


def test_persons_and_rates_differ() -> None:
    a, b = joined(simulated(4.0, person=1)), joined(simulated(4.0, person=2))
    assert abs(np.corrcoef(a[:, 18], b[:, 18])[0, 1]) < 0.2
    assert joined(simulated(4.0, person=1, rate_hz=500)).shape == (2000, 32)


def test_the_signal_has_no_seams_between_its_blocks() -> None:
    steps = np.abs(np.diff(joined(simulated(60.0, person=4)), axis=0))
    at_seams = steps[255::256].mean(axis=0)
    assert np.all(at_seams < 1.6 * steps.mean(axis=0))


def test_the_signal_looks_like_eeg_in_microvolts() -> None:
    x = joined(simulated(60.0, person=9)).astype(np.float64)
    assert np.isfinite(x).all()
    assert 3 < x.std(axis=0).min() < x.std(axis=0).max() < 80
    power = np.mean(np.abs(np.fft.rfft(x.reshape(30, 512, 32), axis=1)) ** 2, axis=(0, 2))
    bands = [power[2 * a : 2 * b].mean() for a, b in ((2, 4), (20, 30), (60, 90))]
    assert bands[0] > bands[1] > bands[2]
    assert power[100] > 5 * np.median(power[90:111])


def test_truth_follows_the_latent_state() -> None:
    state = LatentState(11)
    truth = sum((c.truth for c in simulated(100.0, person=11)), ())
    assert truth[0] == (0, state.label(0.0))
    assert 4 <= len(truth) <= 8
    for index, label in truth:
        assert state.label(index / 256) == label
        assert index == 0 or state.label((index - 1) / 256) != label


def test_a_latent_state_is_a_pure_function_of_person_and_time() -> None:
    once, twice = LatentState(3), LatentState(3)
    t = np.random.default_rng(0).uniform(0, 500, 200)
    for value in t:
        once.state(float(value))
    np.testing.assert_array_equal(once.state(t), twice.state(t))
    assert once.changes(0, 500) != LatentState(4).changes(0, 500)


def test_the_label_is_the_quadrant_at_every_moment() -> None:
    quadrants = {(1, 1): "happy", (0, 1): "angry", (0, 0): "sad", (1, 0): "calm"}
    state = LatentState(6)
    t = np.arange(0.01, 400, 0.05)
    valence, arousal = state.state(t)
    for moment, v, a in zip(t.tolist(), valence, arousal, strict=True):
        assert quadrants[int(v > 0.5), int(a > 0.5)] == state.label(moment)


def test_states_last_15_to_30_s_and_come_equally_often() -> None:
    changes = LatentState(8).changes(0.0, 4000.0)
    dwell_s = np.diff([t for t, _ in changes])
    assert 15 <= dwell_s.min() < dwell_s.max() <= 30
    labels = [label for _, label in changes]
    assert all(a != b for a, b in pairwise(labels))
    counts = [labels.count(label) for label in LABELS]
    assert max(counts) - min(counts) <= 1


def test_the_state_moves_smoothly_within_bounds() -> None:
    t = np.arange(0, 300, 0.01)
    for values in LatentState(1).state(t):
        assert 0 <= values.min() < values.max() <= 1
        assert np.abs(np.diff(values)).max() < 0.01
    one, _ = LatentState(1).state(12.0)
    assert one.shape == ()


def test_every_chunk_is_stamped_on_its_first_item() -> None:
    for chunk in simulated(3.0, origin_s=50.0):
        assert chunk.stamps == ((chunk.first_index, 50.0 + chunk.first_index / 256),)


def test_chunks_come_at_the_pace_of_the_clock() -> None:
    clock = SettableClock(20.0)
    with SimulateSource(clock=clock, chunk_s=0.5) as source:
        assert source.read(0.4) is None
        chunk = source.read(0.4)
        assert chunk is not None
        assert clock.now() == pytest.approx(20.0 + 127 / 256)
        assert chunk.stamps == ((0, 20.0),)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"kind": "egg"}, "kind: cannot simulate 'egg'; did you mean 'eeg'?"),
        ({"kind": "lidar"}, "kind: cannot simulate 'lidar'; known: eeg"),
        ({"person": -1}, "person: -1; need a whole number"),
        ({"person": "bob"}, "person: 'bob'"),
        ({"rate_hz": 20}, "rate_hz: 20; simulated eeg needs 64 to 4096 Hz"),
        ({"rate_hz": "fast"}, "rate_hz: 'fast'; need a number above 0"),
        ({"seconds": 0}, "seconds: 0; need a number above 0"),
        ({"chunk_s": -1}, "chunk_s: -1; need"),
    ],
)
def test_wrong_arguments_are_named(args: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimulateSource(**args)
    assert said in str(caught.value)


def features(person: int) -> tuple[Array, Array]:
    """Log band powers (windows, features) of 2 s windows, and the labels at their ends."""
    state = LatentState(person)
    x = joined(simulated(160.0, person=person, chunk_s=1.0)).reshape(80, 512, 32)
    spectrum = np.abs(np.fft.rfft((x - x.mean(axis=1, keepdims=True)), axis=1)) ** 2
    bands = [spectrum[:, 2 * a : 2 * b].mean(axis=1) for a, b in ((4, 8), (8, 13), (13, 30))]
    labels = np.array([LABELS.index(state.label(2.0 * (n + 1) - 1 / 256)) for n in range(80)])
    return np.log(np.concatenate(bands, axis=1)), labels


def recall(train: list[int], test: list[int], order: Array | None = None) -> float:
    """UAR on unseen persons of a ridge classifier; `order` permutes the test persons' channels."""
    x, y = (np.concatenate(part) for part in zip(*map(features, train), strict=True))
    x_test, y_test = (np.concatenate(part) for part in zip(*map(features, test), strict=True))
    if order is not None:
        x_test = x_test.reshape(len(x_test), -1, 32)[:, :, order].reshape(len(x_test), -1)
    mean, spread = x.mean(axis=0), x.std(axis=0)
    z = np.c_[(x - mean) / spread, np.ones(len(x))]
    z_test = np.c_[(x_test - mean) / spread, np.ones(len(x_test))]
    weights = np.linalg.solve(z.T @ z + 300.0 * np.eye(z.shape[1]), z.T @ np.eye(4)[y])
    guess = (z_test @ weights).argmax(axis=1)
    return float(np.mean([np.mean(guess[y_test == k] == k) for k in range(4)]))


@pytest.mark.slow
def test_a_linear_classifier_reads_unseen_persons_well_but_not_perfectly() -> None:
    train, test = list(range(16)), list(range(100, 110))
    uar = recall(train, test)
    print(f"UAR on unseen persons: {uar:.3f}")
    assert 0.6 < uar < 0.9
    mirrored = np.r_[16:32, 0:16]  # about left for right: what tells valence is turned round
    assert recall(train, test, mirrored) < uar - 0.2
