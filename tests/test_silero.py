"""The gate by Silero's network against the recurrence that its authors publish, on their recording.

The network is no part of vagus; without its file only the refusals are tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import soundfile

from engine import plugins
from engine.errors import BundleError, ConfigError, ResourceError
from engine.lane import View
from engine.manifest import InputSpec
from engine.steps.melspectrum import LogMel
from engine.steps.silero import SileroGate
from engine.types import Array, StreamInfo
from engine.view import fit

VOICE = StreamInfo("Mic", "voice", 16000.0, ("mono",), "fs", (1,))
MODELS = Path(__file__).parents[2] / "shared" / "data" / "models"
MODEL = MODELS / "silero_vad.onnx"
real = pytest.mark.skipif(not MODEL.is_file(), reason="Silero's network is not there")


@cache
def speech(seconds: float = 20.0) -> Array:
    """The beginning of the recording that comes with the network, (time, 1)."""
    path = MODELS / "silero_test.wav"
    if not path.is_file():
        pytest.skip("Silero's test recording is not there")
    x, rate_hz = soundfile.read(path, round(16000 * seconds), dtype="float32", always_2d=True)
    assert rate_hz == 16000
    return np.asarray(x, np.float32)


def gate(**args: Any) -> SileroGate:
    return SileroGate(VOICE, model=str(MODEL), **args)


def marks(step: SileroGate, x: Array, valid: Array, edges: Sequence[int] = ()) -> Array:
    """What a fresh start of `step` marks valid in `x` cut at `edges`."""
    step.reset()
    parts = []
    for a, b in pairwise([0, *edges, len(x)]):
        data, found, _ = step(x[a:b], valid[a:b])
        assert np.array_equal(data, x[a:b], equal_nan=True)
        parts.append(found)
    made: Array = np.concatenate(parts)
    return made


def probabilities(x: Array) -> list[float]:
    """The published recurrence: 64 samples of context, 512 of a block, the state handed on."""
    graph = ort.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    padded = np.concatenate((np.zeros(64, np.float32), x[:, 0]))
    state = np.zeros((2, 1, 128), np.float32)
    found = []
    for block in range(len(x) // 512):
        feed = {
            "input": padded[None, 512 * block : 512 * block + 576],
            "state": state,
            "sr": np.array(16000),
        }
        out, state = graph.run(["output", "stateN"], feed)
        found.append(out.item())
    return found


@real
def test_the_marks_follow_the_published_recurrence_sample_by_sample() -> None:
    x = speech()
    expected = np.zeros(len(x), bool)
    voice, open_until = False, -1
    verdicts = iter(probabilities(x))
    for at in range(len(x)):
        if (at + 1) % 512 == 0:
            voice = next(verdicts) >= (0.35 if voice else 0.5)
            open_until = at + 511 + 3200 if voice else open_until
        expected[at] = at <= open_until
    found = marks(gate(), x, np.ones(len(x), bool))
    assert np.array_equal(found, expected)
    assert 0.4 < found.mean() < 0.95  # somebody talks, with pauses


@real
def test_the_same_bits_however_the_stream_is_cut() -> None:
    x = speech(6)
    rng = np.random.default_rng(0)
    valid = np.repeat(rng.random(len(x) // 700 + 1) > 0.1, 700)[: len(x)]
    step = gate()
    whole = marks(step, x, valid)
    assert whole.any()
    assert not whole[~valid].any()
    for size in (1, 7, 160, 511, 512, 513, 4096):
        n = min(len(x), 4000) if size == 1 else len(x)
        found = marks(step, x[:n], valid[:n], range(size, n, size))
        assert found.tobytes() == whole[:n].tobytes()
    for _ in range(5):
        edges = sorted(rng.integers(0, len(x), 12).tolist())  # equal ones: no items
        assert marks(step, x, valid, edges).tobytes() == whole.tobytes()


@real
def test_a_sample_depends_on_nothing_behind_it() -> None:
    x = speech(4)
    valid = np.ones(len(x), bool)
    whole = marks(gate(), x, valid)
    for n in (511, 512, 20000, 33333):
        other = x.copy()
        other[n:] = np.random.default_rng(n).normal(0, 0.1, other[n:].shape)
        assert np.array_equal(marks(gate(), other, valid)[:n], whole[:n])


@real
def test_silence_and_noise_are_no_voice() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.0, 1e-4, 0.03):
        x = (scale * rng.standard_normal((48000, 1))).astype(np.float32)
        assert not marks(gate(), x, np.ones(len(x), bool)).any()


@real
def test_a_block_with_an_invalid_sample_opens_nothing_and_hides_what_was_there() -> None:
    x = speech(6)
    valid = np.ones(len(x), bool)
    valid[::500] = False
    assert not marks(gate(), x, valid).any()
    one = np.ones(len(x), bool)
    one[20000:21000] = False
    other = x.copy()
    other[~one] = np.nan
    assert np.array_equal(marks(gate(), other, one), marks(gate(), x, one))


@real
def test_it_forgets_at_a_reset_and_gives_one_item_for_each() -> None:
    x, step = speech(4), gate()
    valid = np.ones(len(x), bool)
    first = marks(step, x, valid)
    assert np.array_equal(marks(step, x, valid), first)
    assert (step.ratio, step.delay_s, step.info) == (Fraction(1), 0.0, VOICE)
    nothing, none, _ = step(x[:0], valid[:0])
    assert nothing.shape == (0, 1)
    assert none.shape == (0,)


@real
def test_frames_that_touch_an_invalid_sample_are_invalid_behind_the_gate() -> None:
    x = speech()
    found = marks(gate(hangover_s=0), x, np.ones(len(x), bool))
    _, frames, _ = LogMel(VOICE)(x, found)
    expected = np.array(
        [found[max(0, 160 * m - 399) : 160 * m + 1].all() for m in range(len(frames))]
    )
    expected[:3] = False  # they reach before the first sample
    assert np.array_equal(frames, expected)
    assert 0.2 < frames.mean() < 0.9


@real
def test_a_bundle_names_the_gate_and_its_file_and_no_other_file_will_do() -> None:
    digest = sha256(MODEL.read_bytes()).hexdigest()

    def view(digest: str) -> View:
        steps = (
            {"name": "silero_gate", "model": str(MODEL), "sha256": digest},
            {"name": "log_mel"},
        )
        spec = InputSpec("voice", 16000.0, ("mono",), "fs", 1.0, 1.0, steps)
        return fit("mic", VOICE, spec, "speech", {})[0]

    assert [type(step).__name__ for step in view(digest).steps] == ["SileroGate", "LogMel"]
    with pytest.raises(ResourceError, match=r"its SHA-256 is [0-9a-f]{64}; the bundle was made"):
        view("0" * 64)


def test_without_the_file_it_says_what_it_is_and_what_to_do_instead(tmp_path: Path) -> None:
    assert plugins.load("vagus.steps", "silero_gate") is SileroGate
    with pytest.raises(ResourceError, match=r"no/where\.onnx: No such file.*voice_gate"):
        SileroGate(VOICE, model="no/where.onnx")
    (tmp_path / "other.onnx").write_bytes(b"no graph")
    with pytest.raises(ResourceError, match=r"other\.onnx: .*onnxruntime cannot load it"):
        SileroGate(VOICE, model=str(tmp_path / "other.onnx"))


def test_a_graph_that_is_another_one_is_refused() -> None:
    shipped = Path(__file__).parents[1] / "configs" / "bundles" / "speech-4" / "model.onnx"
    with pytest.raises(ResourceError, match=r"Silero VAD from version 5 on reads input, sr, state"):
        SileroGate(VOICE, model=str(shipped))


@pytest.mark.parametrize(
    ("info", "args", "message"),
    [
        (replace(VOICE, rate_hz=48000.0), {}, "needs samples of one channel at 16000 Hz"),
        (LogMel(VOICE).info, {}, "put it before log_mel"),
        (VOICE, {"threshold": 1.0}, "threshold must be above 0, below 1, not 1"),
        (VOICE, {"hangover_s": -0.1}, "hangover_s must be 0 or more, not -0.1"),
    ],
)
def test_what_does_not_fit_is_refused(info: StreamInfo, args: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, BundleError), match=message):
        SileroGate(info, model="any.onnx", **args)
