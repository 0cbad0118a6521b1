"""Adaptation to a person: the arithmetic against numpy, and the laws of the cut and of replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import logm, sqrtm

from engine.adapt import adapter, needs_calibration
from engine.errors import BundleError, ConfigError
from engine.features.covariance import Covariance
from engine.plan import Tick
from engine.player import Player
from engine.types import Array
from tests.streams import device, info, recut
from tests.toys import plan, toy

WINDOW_S, HOP_S = 2.0, 0.5
POWER = {"name": "statistics"}
REST = {"method": "rest"}


def ignore(t: float, detail: dict[str, Any]) -> None:
    """For adapters whose calibrations are not looked at."""


def made(spec: Mapping[str, Any], n: int, n_channels: int = 3) -> Any:
    return adapter(spec, info(n_channels=n_channels), n, WINDOW_S, HOP_S, ignore)


def vectors(n: int = 40, n_features: int = 5) -> Array:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(n, n_features)) * 3 + 100).astype(np.float32)


def covariances(n: int, n_channels: int = 3, n_bands: int = 1) -> Array:
    """(n, bands, channels, channels), positive."""
    x = np.random.default_rng(4).normal(size=(n, n_bands, n_channels, 40))
    return x @ x.swapaxes(2, 3) / 40


def triangles(matrices: Array) -> Array:
    upper = np.triu_indices(matrices.shape[-1])
    return matrices[..., upper[0], upper[1]].reshape(len(matrices), -1).astype(np.float32)


def fed(adapt: Any, x: Array) -> list[Array | None]:
    """What comes out for vectors at each hop, calibrated on the whole windows in 1 s .. 9 s."""
    adapt.calibrate(1.0, 8.0)
    return [adapt((k + 1) * HOP_S, row) for k, row in enumerate(x)]


INSIDE = slice(5, 18)  # ticks at 3.0 s .. 9.0 s: their windows begin at 1.0 s or later


@pytest.mark.parametrize("spread", [False, True])
def test_rest_takes_away_the_mean_of_the_windows_wholly_inside(spread: bool) -> None:
    x = vectors()
    out = fed(made({**REST, "spread": spread}, 5), x)
    wide = x.astype(np.float64)
    expected = wide - wide[INSIDE].mean(0)
    if spread:
        expected /= wide[INSIDE].std(0)
    assert all(row is None for row in out[:18])
    np.testing.assert_allclose(np.array(out[18:]), expected[18:], atol=1e-5)
    assert out[18] is not None
    assert out[18].dtype == np.float32


@pytest.mark.parametrize("n_bands", [1, 2])
def test_whitening_is_the_logarithm_at_the_calibrations_mean(n_bands: int) -> None:
    matrices = covariances(30, n_bands=n_bands)
    out = fed(made({"method": "whiten", "bands": n_bands}, 6 * n_bands), triangles(matrices))
    for k in (18, 29):
        parts = []
        for band in range(n_bands):
            root = np.linalg.inv(sqrtm(matrices[INSIDE, band].mean(0)))
            log = logm(root @ matrices[k, band] @ root)
            parts += [log[i, j] * (1 if i == j else 2**0.5) for i in range(3) for j in range(i, 3)]
        np.testing.assert_allclose(out[k], parts, atol=1e-5)


def test_a_person_at_the_level_of_the_calibration_is_at_the_origin() -> None:
    same = np.repeat(triangles(covariances(1)), 30, 0)
    out = fed(made({"method": "whiten"}, 6), same)
    np.testing.assert_allclose(np.array(out[18:]), 0, atol=1e-6)


def test_cumulative_standardises_by_all_that_came_the_present_one_included() -> None:
    x = vectors()
    adapt = made({"method": "cumulative", "min_s": 6.0}, 5)
    out = [adapt(k * HOP_S, row) for k, row in enumerate(x)]
    assert [k for k, row in enumerate(out) if row is None] == list(range(11))
    for k in (11, 25, 39):
        past = x[: k + 1].astype(np.float64)
        np.testing.assert_allclose(out[k], (x[k] - past.mean(0)) / past.std(0), atol=1e-4)


def test_a_feature_that_never_moves_stays_finite() -> None:
    x = np.full((40, 5), 7.0, np.float32)
    for spec in ({**REST, "spread": True}, {"method": "cumulative", "min_s": 1.0}):
        adapt = made(spec, 5)
        out = fed(adapt, x) if spec["method"] == "rest" else [adapt(0.0, row) for row in x]
        assert np.array_equal(out[-1], np.zeros(5))


def test_a_state_that_was_handed_on_gives_the_same_bits() -> None:
    for spec, x in ((REST, vectors()), ({"method": "whiten"}, triangles(covariances(40)))):
        one, other = made(spec, x.shape[1]), made(spec, x.shape[1])
        assert other.state is None
        last = fed(one, x)[-1]
        other.restore(one.state)
        assert other.state == one.state
        assert other(0.5, x[-1]).tobytes() == last.tobytes()  # type: ignore[union-attr]


def test_a_second_calibration_replaces_the_first_once_it_is_over() -> None:
    x = vectors()
    adapt = made(REST, 5)
    fed(adapt, x)
    first = adapt(30.0, x[0])
    adapt.calibrate(30.0, 4.0)
    assert adapt(32.0, x[0]).tobytes() == first.tobytes()
    assert adapt(34.0, x[1]) is not None
    np.testing.assert_allclose(adapt(34.5, x[2]), x[2] - x[:2].mean(0), atol=1e-4)


def test_a_calibration_without_windows_is_told_and_changes_nothing() -> None:
    told: list[dict[str, Any]] = []
    adapt = adapter(REST, info(), 5, WINDOW_S, HOP_S, lambda t, detail: told.append(detail))
    adapt.calibrate(0.0, 3.0)
    assert adapt(9.0, vectors()[0]) is None
    assert told == [{"calibration": "failed", "windows": 0,
                     "why": "0 whole windows were usable; need 2 or more"}]  # fmt: skip
    assert adapt.state is None


@pytest.mark.parametrize(
    ("spec", "n", "said"),
    [
        ({"method": "wihten"}, 6, "no method is called 'wihten'; did you mean 'whiten'"),
        ({"method": "rest", "spraed": True}, 6, "argument 'spraed': unknown key"),
        ({"method": "whiten"}, 7, "7 features are not the upper triangles"),
        ({"method": "whiten", "bands": 3}, 12, "upper triangles of 3 covariances"),
        ({"method": "rest"}, 0, "the input names no features"),
    ],
)
def test_an_adaptation_that_does_not_fit_says_why(spec: dict[str, Any], n: int, said: str) -> None:
    with pytest.raises((BundleError, ConfigError), match=said):
        made(spec, n)


def test_a_state_of_another_shape_or_method_is_refused() -> None:
    adapt, state = made(REST, 5), {"method": "rest", "n": 3, "mean": [0.0] * 4, "m2": [0.0] * 4}
    for wrong in (state, {**state, "method": "whiten"}, {"method": "rest"}):
        with pytest.raises(ConfigError, match="adapt: "):
            adapt.restore(wrong)


def test_which_methods_wait_for_a_calibration() -> None:
    assert needs_calibration({"method": "rest"})
    assert not needs_calibration({"method": "cumulative"})
    assert not needs_calibration(None)


def test_the_covariance_equals_numpys() -> None:
    x = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)
    valid = np.ones(256, bool)
    valid[40:60] = False
    plain = Covariance(info(), 256, shrinkage=0.1)
    c = np.cov(x[valid].T.astype(np.float64), bias=True)
    c = 0.9 * c + 0.1 * np.trace(c) / 3 * np.eye(3)
    np.testing.assert_allclose(plain(x, valid), c[np.triu_indices(3)], rtol=1e-5, atol=1e-7)
    assert plain.names[:3] == ("C0*C0", "C0*C1", "C0*C2")


def test_a_bands_covariance_is_that_of_the_window_with_only_the_band_left() -> None:
    x = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)
    bands = {"slow": [0, 8], "alpha": [8, 13], "rest": [13, 64]}
    found = Covariance(info(), 256, shrinkage=1e-9, bands=bands)(x, np.ones(256, bool))
    f = np.fft.rfftfreq(256, 1 / 128)
    spectrum = np.fft.rfft(x - x.mean(0).astype(float), axis=0)
    for k, (low, high) in enumerate(bands.values()):
        part = np.fft.irfft(spectrum * ((f >= low) & (f < high))[:, None], 256, axis=0)
        expected = (part.T @ part / 256)[np.triu_indices(3)]
        np.testing.assert_allclose(found[6 * k : 6 * k + 6], expected, atol=1e-6)


# -- in a session -----------------------------------------------------------------------------


def bundle(adapt: Mapping[str, Any], feature: Mapping[str, Any] = POWER) -> Any:
    class Runtime:
        """p(loud) from the sum of the features, whatever its sign."""

        def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
            p = 1 / (1 + np.exp(-inputs["eeg"].sum(1, dtype=np.float64)))
            return np.stack([p, 1 - p], 1).astype(np.float32)

    return toy({"eeg": {"features": (feature,), "adapt": adapt}}, runtime=Runtime())


def play(
    made: Any, pieces: list[Any], commands: Mapping[int, tuple[str, dict[str, Any]]]
) -> tuple[dict[str, Any], Any]:
    """All messages and adapted arrays; `commands` come before the item index that they name."""
    arrays: list[Any] = []

    def look(tick: Tick) -> None:
        for request in tick.requests:
            arrays.append((tick.number, request.arrays()[0]["eeg"].tobytes()))

    player = Player(plan(made), on_tick=look)
    out: dict[str, Any] = {"prediction": [], "event": [], "arrays": arrays}
    messages = [*player.command("connect", stream="eeg", info=info())]
    waiting = dict(commands)
    for chunk in pieces:
        for at in [at for at in waiting if at <= chunk.first_index]:
            verb, args = waiting.pop(at)
            messages += player.command(verb, stream="eeg", **args)
        messages += player.push(chunk)
    messages += player.play(())
    for message in messages:
        out[message.kind].append(message)
    return out, player.session


def split(chunks: list[Any], at: int) -> tuple[list[Any], list[Any]]:
    """The chunks before item `at`, and from it on."""
    before, after = [], []
    for chunk in chunks:
        end = chunk.first_index + len(chunk)
        if chunk.first_index < at < end:
            head, tail = chunk.cut(at - chunk.first_index)
            before.append(head)
            after.append(tail)
        else:
            (before if end <= at else after).append(chunk)
    return before, after


SPECS = [
    (REST, POWER),
    ({"method": "whiten"}, {"name": "covariance"}),
    ({"method": "cumulative", "min_s": 4.0}, POWER),
]


@pytest.mark.parametrize(("adapt", "feature"), SPECS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), faults=st.sets(st.sampled_from(["gap", "nan", "drift"])))
def test_a_session_that_is_calibrated_midway_gives_the_same_bits_for_any_cut(
    adapt: dict[str, Any], feature: dict[str, Any], seed: int, faults: set[str]
) -> None:
    chunks = device(np.random.default_rng(seed), 2500, faults=sorted(faults))
    before, after = split(chunks, 400)
    calibrate = {} if adapt["method"] == "cumulative" else {400: ("calibrate", {"seconds": 6.0})}
    once, _ = play(bundle(adapt, feature), [*before, *after], calibrate)
    assert any(p.label is not None for p in once["prediction"])
    for size in (1, 7, 160, 4096):
        pieces = [*recut(before, size), *recut(after, size)]
        assert play(bundle(adapt, feature), pieces, calibrate)[0] == once


def test_a_modality_is_uncalibrated_and_not_degraded_until_its_calibration_is_over() -> None:
    chunks = device(np.random.default_rng(0), 1920)  # 15 s
    out, session = play(bundle(REST), chunks, {0: ("calibrate", {"seconds": 4.0, "t": 1.0})})
    reasons = [p.modalities["eeg"].get("reason") for p in out["prediction"]]
    assert reasons == ["filling", *["uncalibrated"] * 9, *[None] * 20]  # 0.5 s; 1 s to 5 s
    assert {e.code for e in out["event"]} == {"source.connected", "stream.quality"}
    (told,) = [e for e in out["event"] if e.code == "stream.quality"]
    assert (told.t, told.detail) == (5.0, {"calibration": "done", "windows": 5})
    state = session.adaptation("eeg")
    assert (state["method"], state["n"]) == ("rest", 5)


def test_one_sessions_calibration_serves_another() -> None:
    chunks = device(np.random.default_rng(0), 1920)
    first, session = play(bundle(REST), chunks, {0: ("calibrate", {"seconds": 4.0})})
    state = session.adaptation("eeg")
    second, _ = play(bundle(REST), chunks, {0: ("adapt", {"state": state})})
    assert second["arrays"][-20:] == first["arrays"][-20:]
    assert [p.label is None for p in second["prediction"]] == [True] + [False] * 29


def test_a_shed_tick_teaches_all_the_same() -> None:
    chunks = device(np.random.default_rng(0), 1920)
    states = []
    for shed in ((), (4, 5, 6, 20)):
        player = Player(plan(bundle({"method": "cumulative", "min_s": 2.0})), shed=shed)
        player.command("connect", stream="eeg", info=info())
        list(player.play(chunks))
        states.append(player.session.adaptation("eeg"))
    assert states[0] == states[1]


def test_a_bundle_without_adaptation_refuses_a_calibration() -> None:
    player = Player(plan())
    player.command("connect", stream="eeg", info=info())
    with pytest.raises(ConfigError, match="toy takes no calibration of 'eeg'"):
        player.command("calibrate", stream="eeg", seconds=10.0)
    short = Player(plan(bundle(REST)))
    short.command("connect", stream="eeg", info=info())
    with pytest.raises(ConfigError, match="1 s hold no window of 2 s"):
        short.command("calibrate", stream="eeg", seconds=1.0)
