"""The three laws for five modalities of one person at once, live and fed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.bundle import Bundle
from engine.config import load_config
from engine.errors import EndOfStream
from engine.log import LogReader
from engine.plan import SessionPlan, StreamPlan
from engine.player import Player
from engine.rerun import rerun, verify
from engine.types import Chunk, Event, Prediction, StreamInfo
from engine.wire import decode
from sources.simulate import SimulateSource
from tests.streams import recut
from tests.test_live import running, wait_until_done

KINDS = ("eeg", "skin", "pulse", "voice", "face")
SECONDS = 14.0
PERSON = 3


def device(kind: str, **more: Any) -> tuple[StreamInfo, list[Chunk]]:
    """Everything that a simulated device sends in fourteen seconds."""
    chunks = []
    with SimulateSource(person=PERSON, kind=kind, seconds=SECONDS, speed="max", **more) as source:
        while True:
            try:
                chunk = source.read(1.0)
            except EndOfStream:
                return source.info, chunks
            if chunk is not None:
                chunks.append(chunk)


@pytest.fixture(scope="module")
def streams() -> dict[str, tuple[StreamInfo, list[Chunk]]]:
    return {kind: device(kind) for kind in KINDS}


def play(infos: dict[str, StreamInfo], chunks: Iterator[Chunk]) -> list[Prediction]:
    """The predictions of a session over all five, the account checked."""
    plans = {kind: StreamPlan(Bundle.load(f"simulated-{kind}")) for kind in KINDS}
    player = Player(SessionPlan("p", "run", plans))
    for kind, info in infos.items():
        player.command("connect", stream=kind, info=info)
    return [m for m in player.play(chunks) if isinstance(m, Prediction)]


def test_five_interleaved_streams_give_the_same_bits_however_they_are_cut(
    streams: dict[str, tuple[StreamInfo, list[Chunk]]],
) -> None:
    infos = {kind: info for kind, (info, _) in streams.items()}
    rates = {kind: info.rate_hz or 1.0 for kind, info in infos.items()}

    def interleaved(sizes: dict[str, int]) -> Iterator[Chunk]:
        parts = [recut(chunks, sizes[kind]) for kind, (_, chunks) in streams.items()]
        return heapq.merge(*parts, key=lambda c: c.first_index / rates[c.stream])

    once = play(infos, interleaved(dict.fromkeys(KINDS, 10**6)))
    assert len(once) == 28
    assert once[-1].missing == []
    rng = np.random.default_rng(0)
    for _ in range(2):
        sizes = {kind: int(rng.integers(1, 2 + rates[kind])) for kind in KINDS}
        assert play(infos, interleaved(sizes)) == once


def test_the_equal_weight_mean_is_that_of_the_logarithms(
    streams: dict[str, tuple[StreamInfo, list[Chunk]]],
) -> None:
    infos = {kind: info for kind, (info, _) in streams.items()}
    last = play(infos, (c for _, chunks in streams.values() for c in chunks))[-1]
    assert last.probabilities is not None
    alone = np.array([list(m["probabilities"].values()) for m in last.modalities.values()])
    mean = np.exp(np.log(np.maximum(alone, 1e-12)).mean(0))
    assert np.allclose(list(last.probabilities.values()), mean / mean.sum(), atol=1e-9)


@pytest.mark.slow
def test_a_live_run_of_five_streams_replays_bit_for_bit_and_a_pulled_plug_shows(
    tmp_path: Path,
) -> None:
    demo = load_config("demo").model_dump(exclude_none=True)
    for kind, stream in demo["streams"].items():
        stream["source"] |= {"person": PERSON, "seconds": SECONDS, "speed": "max"}
        stream["overload"] = {"policy": "block"}
        if kind == "face":
            stream["source"]["faults"] = [{"kind": "lost", "at_s": 8, "for_s": 2}]
    path = tmp_path / "demo.mcap"
    demo |= {"publish": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*"}
    demo["recording"] = {"path": str(path), "raw": True}
    from engine.config import config_from

    with running(config_from(demo)) as engine:
        wait_until_done(engine)
    assert verify(path).n_compared == 28
    logged = [decode("prediction", r.payload) for r in LogReader(path) if r.kind == "prediction"]
    messages = list(rerun(path))
    again = [m for m in messages if isinstance(m, Prediction)]
    assert again == [replace(p, latency_ms={}) for p in logged if isinstance(p, Prediction)]
    face = [p.modalities["face"]["used"] for p in again]
    assert face[14]
    assert not face[17]
    told = [m.code for m in messages if isinstance(m, Event) and m.stream == "face"]
    assert told.index("source.lost") < told.index("source.back")


def test_the_shipped_bundles_stay_small() -> None:
    folder = Path(__file__).resolve().parents[1] / "configs" / "bundles"
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 10e6


@pytest.mark.parametrize("kind", KINDS)
def test_each_modality_alone_beats_chance_on_people_never_seen(kind: str) -> None:
    from offline.datasets.simulate import people
    from offline.evaluate import predict, summarise

    bundle = Bundle.load(f"simulated-{kind}")
    rows = predict(bundle, people(700, 3))
    told = summarise(rows, bundle.labels, dataset="simulate", protocol="unseen", unit="window")
    assert 0.4 < told["uar"] < 0.95
