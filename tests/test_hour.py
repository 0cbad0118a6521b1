"""An hour of devices that drift and jitter, on a clock that is set: their windows stay aligned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.plan import SessionPlan, StreamPlan, Tick
from engine.player import Player
from engine.types import Array, Chunk
from tests.streams import info
from tests.toys import toy

HOUR_S = 3600.0
SETTLED_S = 60.0  # by then the fit has seen as much as it remembers


class Device:
    """Items at a true rate of `rate_hz` less `ppm`, stamped once per chunk of `n` with jitter."""

    def __init__(self, name: str, rate_hz: float, ppm: float, n: int, start_s: float) -> None:
        self.name, self.rate_hz, self.n, self.start_s = name, rate_hz, n, start_s
        self.period_s = (1 + ppm * 1e-6) / rate_hz

    def true_s(self, index: float) -> float:
        return self.start_s + index * self.period_s

    def chunks(self, jitter: Array) -> list[Chunk]:
        data = np.random.default_rng(0).normal(0, 10, (self.n, 3)).astype(np.float32)
        firsts = range(0, int(HOUR_S * self.rate_hz), self.n)
        return [
            Chunk(self.name, 0, at, ((at, self.true_s(at) + float(jitter[k % len(jitter)])),), data)
            for k, at in enumerate(firsts)
        ]


def hour(devices: list[Device], jitters: list[Array]) -> tuple[dict[str, Array], list[Any]]:
    """By how much the windows of each stream end before or after they should, in seconds, tick by
    tick (0 to one item's length is exact), and the session's events."""
    errors: dict[str, list[float]] = {device.name: [] for device in devices}
    inputs = {"rate_hz": 0.0, "steps": (), "window_s": 1.0}
    plans = {
        d.name: StreamPlan(toy({d.name: {**inputs, "rate_hz": d.rate_hz}}, name=d.name, hop_s=5.0))
        for d in devices
    }
    by_name = {device.name: device for device in devices}

    def look(tick: Tick) -> None:
        for request in tick.requests:
            for window in request.windows.values():
                device = by_name[window.stream]
                if SETTLED_S < tick.t < HOUR_S - 10.0:
                    errors[window.stream].append(tick.t - device.true_s(window.last))

    player = Player(SessionPlan("p1", "run", plans, hop_s=5.0), on_tick=look)
    events: list[Any] = []
    for device in devices:
        events += player.command(
            "connect", stream=device.name, info=info(device.rate_hz, name=device.name)
        )
    pieces = [c for d, j in zip(devices, jitters, strict=True) for c in d.chunks(j)]
    pieces.sort(key=lambda c: by_name[c.stream].true_s(c.first_index))
    events += [m for m in player.play(pieces) if m.kind == "event"]
    return {name: np.array(e) for name, e in errors.items()}, events


def aligned(errors: dict[str, Array], devices: list[Device]) -> float:
    """The largest misalignment of two streams' windows, beyond the item that a tick falls in."""
    ends = [errors[d.name] - 0.5 * d.period_s for d in devices]
    worst = np.abs(ends[0] - ends[1]) - 0.5 * sum(d.period_s for d in devices)
    return float(worst.max())


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [200.0, 500.0])
def test_two_streams_that_drift_apart_for_an_hour_stay_aligned_within_five_ms(ppm: float) -> None:
    rng = np.random.default_rng(int(ppm))
    devices = [Device("eeg", 256.0, ppm, 64, 0.4), Device("pulse", 64.0, -ppm, 16, 0.1)]
    errors, events = hour(devices, [rng.uniform(-0.02, 0.02, 100_003) for _ in devices])
    assert min(map(len, errors.values())) > 700
    worst_s = aligned(errors, devices)
    print(f"{ppm:g} ppm, 20 ms jitter, one hour: within {1e3 * worst_s:.2f} ms")
    assert worst_s < 0.005
    assert {e.code for e in events} == {"source.connected"}


@pytest.mark.slow
def test_bursts_of_half_a_second_lose_no_item_and_open_no_segment() -> None:
    rng = np.random.default_rng(7)
    late = np.where(rng.random(100_003) < 0.05, rng.uniform(0.0, 0.5, 100_003), 0.0)
    devices = [Device("eeg", 256.0, 500.0, 64, 0.4), Device("pulse", 64.0, -500.0, 16, 0.1)]
    errors, events = hour(devices, [late, np.zeros(1)])
    worst_s = aligned(errors, devices)
    print(f"one stamp in twenty late by up to 500 ms: within {1e3 * worst_s:.2f} ms")
    assert worst_s < 0.05
    assert {e.code for e in events} == {"source.connected"}
