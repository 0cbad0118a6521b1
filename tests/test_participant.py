"""The other signals of the simulated participant: pure, in range, true to the same state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.clock import SettableClock
from engine.errors import ConfigError, EndOfStream, SourceLost
from engine.types import Array, Chunk
from sources.participant import LABELS, LatentState
from sources.simulate import SimulateSource
from sources.synthetic.bayes import RATES, WINDOW_S, bayes_rate
from sources.synthetic.blocks import blocks, person_rng
from sources.synthetic.cue import Cue, CueTracks
from sources.synthetic.drawing import Looks, draw
from sources.synthetic.face import CUES as FACE_CUES

USUAL_HZ = {"skin": 8.0, "pulse": 64.0, "voice": 16000.0, "face": 15.0}
KINDS = tuple(USUAL_HZ)


def simulated(kind: str, seconds: float, **args: Any) -> list[Chunk]:
    clock = SettableClock()
    source = SimulateSource(kind=kind, seconds=seconds, speed="max", clock=clock, **args)
    chunks = []
    with source:
        while True:
            try:
                chunk = source.read(0.0)
            except SourceLost:
                continue
            except EndOfStream:
                return chunks
            assert chunk is not None
            chunks.append(chunk)


def joined(chunks: list[Chunk]) -> Array:
    return np.concatenate([c.data for c in chunks])


def signal(kind: str, person: int, seconds: float, **args: Any) -> Array:
    return joined(simulated(kind, seconds, person=person, chunk_s=1.0, **args))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_s", [1e-9, 0.037, 1.7, 60.0])
def test_a_signal_does_not_depend_on_how_it_is_read(kind: str, chunk_s: float) -> None:
    seconds = 0.2 if kind == "voice" and chunk_s < 1e-3 else 5.0
    a, b = simulated(kind, seconds, person=5), simulated(kind, seconds, person=5, chunk_s=chunk_s)
    np.testing.assert_array_equal(joined(a), joined(b))
    assert sum((c.truth for c in a), ()) == sum((c.truth for c in b), ())


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_signal_begins_with_the_shorter_one(kind: str) -> None:
    short, long = signal(kind, 2, 3.4), signal(kind, 2, 6.0)
    np.testing.assert_array_equal(short, long[: len(short)])


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("skin", ("physio", ("EDA",), "uS", (1,))),
        ("pulse", ("physio", ("BVP",), "au", (1,))),
        ("voice", ("voice", ("mono",), "fs", (1,))),
        ("face", ("face", ("r", "g", "b"), "level", (64, 64, 3))),
    ],
)
def test_a_stream_says_what_it_is(kind: str, about: tuple[Any, ...]) -> None:
    info = SimulateSource(kind=kind).info
    assert (info.name, info.rate_hz) == (kind, USUAL_HZ[kind])
    assert (info.kind, info.channels, info.unit, info.shape) == about
    data = signal(kind, 1, 2.0)
    assert data.shape == (round(2 * USUAL_HZ[kind]), *info.shape)
    assert data.dtype == (np.uint8 if kind == "face" else np.float32)


@pytest.mark.parametrize(("kind", "rate_hz"), [("skin", 4), ("pulse", 100), ("voice", 22050)])
def test_another_rate_gives_as_many_items(kind: str, rate_hz: float) -> None:
    assert len(signal(kind, 1, 3.0, rate_hz=rate_hz)) == 3 * rate_hz


@pytest.mark.parametrize("kind", KINDS)
def test_all_signals_of_a_person_share_one_truth(kind: str) -> None:
    rate_hz = USUAL_HZ[kind]
    truth = sum((c.truth for c in simulated(kind, 70.0, person=11)), ())
    begins = LatentState(11).changes(0.0, 70.0)
    assert truth == tuple((int(np.ceil(t * rate_hz)), label) for t, label in begins)
    assert len(truth) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_persons_differ(kind: str) -> None:
    a, b = (signal(kind, person, 5.0).astype(float) for person in (1, 2))
    assert np.abs(a - b).mean() > 0.1 * a.std()


@pytest.mark.parametrize("kind", ["skin", "pulse", "voice"])
def test_a_signal_has_no_seams_between_its_blocks(kind: str) -> None:
    steps = np.abs(np.diff(signal(kind, 4, 100.0)[:, 0]))
    n = round(USUAL_HZ[kind])
    assert steps[n - 1 :: n].mean() < 1.6 * steps.mean()


def test_skin_conductance_is_positive_and_of_human_size() -> None:
    for person in range(6):
        x = signal("skin", person, 120.0)
        assert 0.5 < x.min() < x.max() < 40.0


def test_the_pulse_beats_once_a_second_or_so() -> None:
    for person in range(6):
        at_s, _ = beats(signal("pulse", person, 60.0)[:, 0], 64.0)
        assert 50 < len(at_s) < 110


def test_the_voice_speaks_and_pauses_and_never_clips() -> None:
    for person in range(4):
        x = signal("voice", person, 40.0)[:, 0]
        loud = np.sqrt(np.mean(x.reshape(-1, 320) ** 2, axis=1))
        assert 0.001 < np.percentile(loud, 90) < 0.3
        assert 0.1 < np.mean(loud < 0.002) < 0.6
        assert np.mean(np.abs(x) == 1.0) < 1e-4


def test_a_smile_lifts_the_corners_of_the_mouth() -> None:
    looks = Looks.of(np.random.default_rng(3))
    lips = []
    for smile in (0.15, -0.15):
        cues = {name: np.zeros(1) for name in FACE_CUES} | {"smile": np.full(1, smile)}
        green = draw(looks, cues, np.zeros((1, 4)))[1, 0, 40:54]
        lips.append(green.argmin(axis=0))  # the row of the lips in each column
    happy, sad = lips
    assert happy[25] < happy[32] - 3
    assert sad[25] > sad[32] + 3


@pytest.mark.parametrize("kind", KINDS)
def test_faults_spoil_any_kind_of_signal(kind: str) -> None:
    clean = signal(kind, 3, 6.0)
    first, end = (round(s * USUAL_HZ[kind]) for s in (2, 4))
    flat = signal(kind, 3, 6.0, faults=[{"kind": "flat", "at_s": 2, "for_s": 2}])
    assert (flat[first:end] == clean[first]).all()
    np.testing.assert_array_equal(flat[end:], clean[end:])
    gap = signal(kind, 3, 6.0, faults=[{"kind": "gap", "at_s": 2, "for_s": 2}])
    np.testing.assert_array_equal(gap, np.concatenate([clean[:first], clean[end:]]))
    lost = simulated(kind, 6.0, person=3, faults=[{"kind": "lost", "at_s": 2, "for_s": 2}])
    np.testing.assert_array_equal(joined(lost), gap)
    assert {c.segment for c in lost} == {0, 1}


def test_a_face_may_freeze_in_one_colour_or_lose_it() -> None:
    clean = signal("face", 3, 4.0)
    flat = signal("face", 3, 4.0, faults=[{"kind": "flat", "at_s": 1, "channels": ["g"]}])
    assert (flat[15:30, :, :, 1] == clean[15, :, :, 1]).all()
    np.testing.assert_array_equal(flat[..., [0, 2]], clean[..., [0, 2]])
    for count in (0, 1, 2, 4):
        fault = {"kind": "channels", "at_s": 1, "count": count}
        parts = simulated("face", 4.0, person=3, faults=[fault])
        assert {c.data.shape[1:] for c in parts} == {(64, 64, 3), (64, 64, count)}
        changed = joined([c for c in parts if c.data.shape[-1] == count])
        np.testing.assert_array_equal(changed, clean[15:30][..., np.arange(count) % 3])


def test_a_face_cannot_be_nan() -> None:
    with pytest.raises(ConfigError, match=r"faults\[1\].kind: pictures .* 'cam', cannot be nan"):
        SimulateSource(kind="face", stream="cam", faults=[{"kind": "gap"}, {"kind": "nan"}])
    assert np.isnan(signal("skin", 0, 2.0, faults=[{"kind": "nan"}])[:8]).all()


@pytest.mark.parametrize(
    ("kind", "rate_hz", "range_hz"),
    [("skin", 1, "2 to 256"), ("pulse", 8, "16 to 1024"), ("voice", 4000, "8000 to 48000"),
     ("face", 500, "4 to 120")],
)  # fmt: skip
def test_a_rate_out_of_reach_is_refused(kind: str, rate_hz: float, range_hz: str) -> None:
    with pytest.raises(ConfigError, match=f"simulated {kind} needs {range_hz} Hz"):
        SimulateSource(kind=kind, rate_hz=rate_hz)


def test_a_cue_follows_the_state_and_wanders_as_it_says() -> None:
    cue = Cue(1.0, 2.0, -3.0, 4.0, wander_sd=0.3, wander_s=2.0)
    assert cue.follows(np.array(0.75), np.array(0.25)) == pytest.approx(1.0 + 0.5 + 0.75 - 0.25)
    state, rng = LatentState(0), np.random.default_rng(1)
    tracks = CueTracks(state, {"a": cue}, rng)
    t = [block + np.arange(4) / 4 for block in range(4000)]
    values = np.concatenate([tracks.next_block(rng, times)["a"] for times in t])
    rest = values - cue.follows(*state.state(np.concatenate(t)))
    assert rest.std() == pytest.approx(0.3, rel=0.1)
    assert np.corrcoef(rest[8:], rest[:-8])[0, 1] == pytest.approx(np.exp(-1.0), abs=0.08)


def test_what_is_a_persons_own_is_not_the_noise_of_a_block() -> None:
    own = person_rng(5, 7).standard_normal(100)
    for (rng, _), _ in zip(blocks(5, 7, 8.0), range(3), strict=False):
        assert abs(np.corrcoef(own, rng.standard_normal(100))[0, 1]) < 0.4


def test_the_bayes_rate_grows_with_the_window_and_is_the_same_at_every_call() -> None:
    rate = bayes_rate("pulse")
    assert bayes_rate("pulse", 20.0) == rate
    assert bayes_rate("pulse", 2.0) < rate - 0.03


@pytest.mark.parametrize("kind", WINDOW_S)
def test_every_kind_can_be_read_well_but_by_nobody_perfectly(kind: str) -> None:
    rate = bayes_rate(kind)
    assert rate == pytest.approx(RATES[kind], abs=0.01)
    print(f"{kind}: Bayes rate {rate:.3f} with windows of {WINDOW_S[kind]:g} s")
    assert 0.8 < rate < 0.98


def test_the_bayes_rate_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'voice'"):
        bayes_rate("voise")


def beats(x: Array, rate_hz: float) -> tuple[Array, Array]:
    """When the pulse's peaks are (s), and how high."""
    taper = np.hanning(13)
    y = np.convolve(x, taper / taper.sum(), "same")
    tops = np.flatnonzero((np.diff(y)[:-1] > 0) & (np.diff(y)[1:] <= 0)) + 1
    kept: list[int] = []
    for top in tops[y[tops] > np.percentile(y, 60)]:
        if not kept or top - kept[-1] > 0.42 * rate_hz:
            kept.append(int(top))
        elif y[top] > y[kept[-1]]:
            kept[-1] = int(top)
    at = np.array([k for k in kept if 0 < k < len(y) - 1])
    bend = y[at - 1] - 2 * y[at] + y[at + 1]
    return (at + 0.5 * (y[at - 1] - y[at + 1]) / bend) / rate_hz, y[at]


def of_skin(x: Array) -> list[float]:
    """Level, and how often, how far and how steeply it rises, lately and in all the window."""
    smooth = np.convolve(x[:, 0].astype(float), np.ones(3) / 3, "valid")
    slope = 8.0 * np.diff(smooth)
    edges = np.diff(np.r_[0, (slope > 0.02).astype(int), 0])
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    rises = smooth[ends] - smooth[begins]
    out = [float(np.log(smooth.mean())), float(smooth[-1] - smooth[0])]
    for n in (48, 80, 160):
        lately = rises[(ends > len(slope) - n) & (rises > 0.02)]
        out += [np.log(len(lately) + 0.5), np.log(lately.mean()) if len(lately) else -2.0]
        out += [np.log(slope[-n:].std() + 1e-3), float(np.mean(slope[-n:] > 0.02))]
    return out


def of_pulse(x: Array) -> list[float]:
    """Rate, its variability, and height, lately and in all the window."""
    out: list[float] = []
    for n in (512, 1280):
        at_s, height = beats(x[-n:, 0].astype(float), 64.0)
        between = np.diff(at_s)
        between = between[np.abs(between / np.median(between) - 1) < 0.4]
        out += [np.log(between.mean()), np.log(between.std() + 0.003), np.log(np.median(height))]
        out += [np.log(np.abs(np.diff(between)).mean() + 0.003), np.log(x[-n:].std())]
    return out


def of_voice(x: Array) -> list[float]:
    """Mean and spread of log energies in 16 bands while it speaks, and of the pitch."""
    frames = np.lib.stride_tricks.sliding_window_view(x[:, 0], 1024)[::320] * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames, 2048)) ** 2
    edges = np.geomspace(8, 1024, 17).astype(int)
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-5)
    energy = np.log(power.sum(axis=1) + 1e-5)
    spoken = energy > np.percentile(energy, 90) - 3.5
    echo = np.fft.irfft(power)[:, 32:267]
    pitch = np.log(32 + echo.argmax(axis=1)[spoken])
    out = [*bands[spoken].mean(axis=0), *bands[spoken].std(axis=0), np.median(pitch), pitch.std()]
    return [*out, float(energy.std()), float(np.abs(np.diff(energy)).mean()), spoken.mean()]


def of_face(x: Array) -> Array:
    """The mean picture in grey, in squares of 2 pixels, without its brightness and contrast."""
    grey = x.mean(axis=(0, -1)).reshape(32, 2, 32, 2).mean(axis=(1, 3))[4:30, 4:28]
    return np.asarray((grey - grey.mean()) / grey.std()).ravel()


READ = {"skin": of_skin, "pulse": of_pulse, "voice": of_voice, "face": of_face}


def windows(kind: str, persons: range, seconds: float, hop_s: float) -> tuple[Array, Array]:
    """Features (windows, features) of full windows, and the labels at their ends."""
    rows, labels, rate_hz = [], [], USUAL_HZ[kind]
    for person in persons:
        x, state = signal(kind, person, seconds), LatentState(person)
        for end_s in np.arange(WINDOW_S[kind], seconds, hop_s):
            end = round(end_s * rate_hz)
            rows.append(READ[kind](x[end - round(WINDOW_S[kind] * rate_hz) : end]))
            labels.append(LABELS.index(state.label((end - 1) / rate_hz)))
    return np.array(rows), np.array(labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "n_people", "seconds", "hop_s", "ridge"),
    [
        ("skin", 30, 80.0, 4.0, 10.0),
        ("pulse", 30, 80.0, 4.0, 10.0),
        ("voice", 18, 40.0, 3.0, 30.0),
        ("face", 24, 28.0, 1.5, 300.0),
    ],
)
def test_each_signal_alone_tells_unseen_persons_states_well_but_not_perfectly(
    kind: str, n_people: int, seconds: float, hop_s: float, ridge: float
) -> None:
    x, y = windows(kind, range(n_people), seconds, hop_s)
    x_test, y_test = windows(kind, range(500, 500 + n_people // 2), seconds, hop_s)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = np.c_[(x - mean) / spread, np.ones(len(x))]
    z_test = np.c_[(x_test - mean) / spread, np.ones(len(x_test))]
    weights = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ np.eye(4)[y])
    guess = (z_test @ weights).argmax(axis=1)
    uar = float(np.mean([np.mean(guess[y_test == k] == k) for k in range(4)]))
    print(f"{kind}: UAR on unseen persons {uar:.3f}")
    assert 0.5 < uar < 0.9
