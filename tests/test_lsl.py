"""LSL sources against real outlets in processes of their own: killed, frozen, changed, doubled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ConfigError, EndOfStream, SourceLost
from engine.types import Chunk
from sources.lsl import LslSource

SCRIPT = Path(__file__).with_name("lsl_outlet.py")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts outlets; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(**about: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(about)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def chunks(source: LslSource, n_items: int, patience_s: float = 8.0) -> list[Chunk]:
    """The next chunks, until they hold `n_items`; losses on the way are waited out."""
    found: list[Chunk] = []
    end_s = time.monotonic() + patience_s
    while sum(map(len, found)) < n_items:
        assert time.monotonic() < end_s, "nothing more came"
        try:
            chunk = source.read(0.2)
        except SourceLost:
            continue
        if chunk is not None:
            found.append(chunk)
    return found


def lost(source: LslSource, patience_s: float = 8.0) -> tuple[str, float]:
    """Why the source was lost, and after how many seconds."""
    start_s = time.monotonic()
    while time.monotonic() - start_s < patience_s:
        try:
            source.read(0.2)
        except SourceLost as error:
            return str(error), time.monotonic() - start_s
    raise AssertionError("the source was never lost")


def test_every_sample_comes_once_and_in_order_with_its_labels_and_unit(start: Start) -> None:
    start(name="order", source_id="order")
    with LslSource(match={"name": "order"}, stream="eeg") as source:
        assert source.info.channels == ("TP9", "AF7", "AF8", "TP10")
        assert (source.info.kind, source.info.unit, source.info.rate_hz) == ("eeg", "uV", 256.0)
        found = chunks(source, 300)
    values = np.concatenate([c.data[:, 0] for c in found])
    assert np.array_equal(np.diff(values), np.ones(len(values) - 1))
    firsts = [c.first_index for c in found]
    assert firsts == [sum(map(len, found[:i])) for i in range(len(found))]
    assert {c.segment for c in found} == {0}


def test_stamps_are_on_the_engines_clock_less_the_stated_delay(start: Start) -> None:
    start(name="stamps", source_id="stamps")
    with LslSource(match={"name": "stamps"}, delay_s=5.0) as source:
        chunk = chunks(source, 1)[0]
        age_s = time.monotonic() - chunk.stamps[0][1]
    assert 5.0 <= age_s < 6.0


def test_a_killed_outlet_is_noticed_within_a_second_and_comes_back_as_a_new_segment(
    start: Start,
) -> None:
    first = start(name="killed", source_id="killed")
    with LslSource(match={"name": "killed"}) as source:
        chunks(source, 30)
        first.kill()
        why, after_s = lost(source)
        assert "went away" in why
        assert after_s <= 1.0
        start(name="killed", source_id="killed")
        back = chunks(source, 30)
    assert {c.segment for c in back} == {1}
    assert back[0].first_index == 0


def test_a_restart_with_another_rate_or_other_channels_is_told_not_swallowed(start: Start) -> None:
    first = start(name="changed", source_id="changed")
    with LslSource(match={"name": "changed"}) as source:
        before = source.info
        chunks(source, 10)
        first.kill()
        first.wait()
        start(name="changed", source_id="changed", rate_hz=128.0, labels=["A", "B", "C"])
        chunk = chunks(source, 10)[0]
        assert chunk.data.shape[1] == 3
        difference = before.difference(source.info)
    assert "rate_hz was 256.0, now 128.0" in difference
    assert "channels was ('TP9', 'AF7', 'AF8', 'TP10'), now ('A', 'B', 'C')" in difference


def test_two_outlets_of_one_identity_are_refused_and_both_named(start: Start) -> None:
    start(name="twin", source_id="twin")
    start(name="twin", source_id="twin")
    source = LslSource(match={"name": "twin"})
    with pytest.raises(SourceLost, match=r"two outlets .* \(uid .*\), .* \(uid .*\)"):
        source.__enter__()
    source.__exit__()


def test_a_frozen_outlet_gives_nothing_and_then_goes_on(start: Start) -> None:
    process = start(name="frozen", source_id="frozen")
    with LslSource(match={"name": "frozen"}) as source:
        chunks(source, 30)
        process.send_signal(signal.SIGSTOP)
        quiet = [source.read(0.2) for _ in range(4)]
        assert quiet[-1] is None
        process.send_signal(signal.SIGCONT)
        assert chunks(source, 30)


def test_markers_come_as_text_with_their_stamps(start: Start) -> None:
    process = start(name="marks", type="Markers", source_id="marks")
    with LslSource(match={"name": "marks"}) as source:
        assert source.info.kind == "marker"
        assert source.info.rate_hz is None
        assert process.stdin is not None
        process.stdin.write("mark clap\n")
        process.stdin.flush()
        (chunk,) = chunks(source, 1)
    assert chunk.data.tolist() == [["clap"]]
    assert abs(time.monotonic() - chunk.stamps[0][1]) < 2.0


def test_what_is_not_there_is_told_with_what_is(start: Start, monkeypatch: Any) -> None:
    start(name="other", type="PPG", source_id="other")
    monkeypatch.setattr("sources.lsl.source._FIND_S", 1.0)
    with pytest.raises(SourceLost, match=r"no LSL stream with type='EEG' .* seen: 'other'"):
        LslSource(match={"type": "EEG"}).__enter__()


def test_closing_twice_is_fine_and_a_closed_source_gives_nothing(start: Start) -> None:
    start(name="closed", source_id="closed")
    source = LslSource(match={"name": "closed"})
    with source:
        chunks(source, 1)
    source.__exit__(None, None, None)
    with pytest.raises(EndOfStream):
        source.read(0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "which stream"),
        ({"match": {"nmae": "x"}}, "did you mean 'name'"),
        ({"match": {"name": "o'x"}}, "without a quote"),
        ({"match": {"name": "x"}, "predicate": "y"}, "either match or predicate"),
        ({"match": {"name": "x"}, "kind": "smell"}, "none of eeg"),
        ({"match": {"name": "x"}, "delay_s": -1.0}, "delay_s"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_is_right(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LslSource(**given)
