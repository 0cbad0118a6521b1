"""The microphone source on a real PortAudio over a virtual sound card; its clock on its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError
from sources.microphone import MicrophoneSource, _Lag
from tests.virtual_microphone import (
    MISSING,
    run_with_microphone,
    sound_card,
    virtual_microphone,
)

needs_sound = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")

_CAPTURE = """
import json, numpy as np
from engine.errors import EndOfStream
from sources.microphone import MicrophoneSource
source = MicrophoneSource("filemic", rate_hz=16000, n_channels=1, dtype="int16", stream="voice")
parts, firsts = [], []
with source:
    while sum(map(len, parts)) < 24000:
        chunk = source.read(0.5)
        if chunk is not None:
            firsts.append(chunk.first_index)
            parts.append(chunk.data[:, 0])
source.__exit__()
try:
    source.read(0.1)
    ended = False
except EndOfStream:
    ended = True
x = np.rint(np.concatenate(parts) * 32768).astype(int)
x = x[np.flatnonzero(x)[0] :]  # silent until the file begins
lengths = [len(p) for p in parts]
print(json.dumps({
    "steps": sorted(set(np.diff(x).tolist())), "ended": ended, "lost": source.n_lost,
    "contiguous": firsts == [sum(lengths[:i]) for i in range(len(lengths))],
    "info": [source.info.kind, source.info.rate_hz, source.info.unit, source.info.channels],
}))
"""


@needs_sound
@pytest.mark.slow
def test_every_frame_of_a_paced_file_comes_once_and_in_order(tmp_path: Path) -> None:
    count = (np.arange(160_000) % 20_000 - 10_000).astype("<i2")
    with virtual_microphone(tmp_path, count.tobytes()) as env:
        told = json.loads(run_with_microphone(env, _CAPTURE))
    assert set(told["steps"]) <= {1, -19_999}  # -19,999 where the file begins again
    assert told["contiguous"]
    assert told["lost"] == 0
    assert told["ended"]
    assert told["info"] == ["voice", 16000.0, "fs", ["mono"]]


_VANISHING = """
from engine.errors import SourceLost
from sources.microphone import MicrophoneSource
from tests.test_source_conformance import check
source, found = MicrophoneSource("vmic", rate_hz=16000, n_channels=1, stream="voice"), []
with source:
    while len(found) < 10:
        chunk = source.read(0.5)
        found += [] if chunk is None else [chunk]
    print("heard", flush=True)
    told = False
    while found[-1].segment == 0 or len(found) < 20:
        try:
            chunk = source.read(0.5)
            found += [] if chunk is None else [chunk]
        except SourceLost as error:
            if not told:
                print(f"lost: {error}", flush=True)
                told = True
check(found, source.info)
print("back", {c.segment for c in found}, flush=True)
"""


@needs_sound
@pytest.mark.slow
def test_a_microphone_that_is_pulled_out_is_lost_and_found_again(tmp_path: Path) -> None:
    with (
        sound_card(tmp_path, b"\0" * 3200) as card,
        subprocess.Popen(
            [sys.executable, "-c", _VANISHING],
            env={**card.env, "PYTHONPATH": str(Path.cwd())}, stdout=subprocess.PIPE, text=True,
        ) as listener,
    ):  # fmt: skip
        try:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "heard\n"
            card.stop()
            pulled_s = time.monotonic()
            assert listener.stdout.readline().startswith("lost: ")
            assert time.monotonic() - pulled_s < 3.0
            card.start()
            assert listener.stdout.readline() == "back {0, 1}\n"
            assert listener.wait(10.0) == 0
        finally:
            listener.kill()


@needs_sound
def test_a_microphone_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    program = (
        "from engine.errors import SourceLost\n"
        "from sources.microphone import MicrophoneSource\n"
        "try:\n    MicrophoneSource('snowball').__enter__()\n"
        "except SourceLost as error:\n    print(error)\n"
    )
    with virtual_microphone(tmp_path, b"\0" * 3200) as env:
        assert "no microphone 'snowball'; there are: " in run_with_microphone(env, program)


def test_late_blocks_are_no_loss_and_frames_that_never_come_are() -> None:
    lag, rng, n = _Lag(16000.0), np.random.default_rng(0), 320
    t, found = 0.0, []
    for k in range(1000):
        if k == 600:
            t += 0.2  # 3200 frames are never delivered
        found.append(lag.lost(t + float(rng.choice([0.0, 0.0, 0.09])), n))
        t += n / 16000.0
    (at,) = np.flatnonzero(found)
    assert 600 <= at <= 630
    assert abs(found[at] - 3200) < 100


def test_a_clock_that_drifts_for_an_hour_loses_nothing() -> None:
    lag, n = _Lag(16000.0), 320
    period_s = n / 16000.0 * (1 + 5e-4)
    assert not any(lag.lost(k * period_s, n) for k in range(180_000))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "int24"}, "neither float32 nor int16"),
        ({"rate_hz": 3.0}, "no rate of a microphone"),
        ({"n_channels": 0}, "need 1 to 64"),
    ],
)
def test_a_wrong_argument_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MicrophoneSource(**given)  # type: ignore[arg-type]
