"""Electrodes that came off: neighbours stand in for them, up to a quarter of the cap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.bundle import Bundle
from engine.errors import EndOfStream
from engine.lane import View
from engine.plan import SessionPlan, StreamPlan
from engine.player import Player
from engine.repair import repaired
from engine.steps import Reference
from engine.types import Prediction, Signal, Step, StreamInfo, Window
from sources.simulate import SimulateSource

CAP = ("Fp1", "Fp2", "F3", "Fz", "F4", "T3", "C3", "Cz", "C4", "T4", "P3", "Pz", "P4")


def cap(names: tuple[str, ...] = CAP, steps: tuple[Step, ...] = (), **more: object) -> View:
    info = StreamInfo("eeg", "eeg", 128.0, names, "uV", (len(names),))
    return View(steps, replace(info, **more), 256, 256)  # type: ignore[arg-type]


def window(data: np.ndarray, **faults: tuple[str, ...]) -> Window:
    n = len(data)
    data.flags.writeable = False
    return Window("eeg", 0, 0, n - 1, data, np.ones(n, bool), n, n, {}, Signal(0.9, faults))


def noise(n_channels: int = len(CAP)) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 20, (256, n_channels)).astype(np.float32)


@pytest.mark.parametrize("fault", ["flat", "railed"])
def test_a_dead_electrode_gets_the_signal_of_its_nearest_neighbour(fault: str) -> None:
    x = noise()
    made = repaired(window(x, T3=(fault,)), cap())
    assert made is not None
    t3, c3 = CAP.index("T3"), CAP.index("C3")
    assert np.array_equal(made.data[:, t3], x[:, c3])
    others = [i for i in range(len(CAP)) if i != t3]
    assert np.array_equal(made.data[:, others], x[:, others])
    assert made.notes == {"repaired": ["T3"]}
    assert not made.data.flags.writeable


def test_a_dead_electrode_is_not_taken_from_another_dead_one() -> None:
    x = noise()
    x[:, [CAP.index("T4"), CAP.index("C4")]] = np.nan
    made = repaired(window(x, T4=("flat",), C4=("railed",)), cap())
    assert made is not None
    assert made.notes["repaired"] == ["C4", "T4"]
    assert np.isfinite(made.data).all()


def test_old_and_new_names_stand_at_the_same_place() -> None:
    x = noise()
    new = tuple({"T3": "T7", "T4": "T8"}.get(name, name) for name in CAP)
    one = repaired(window(x, T3=("flat",)), cap())
    other = repaired(window(x, T7=("flat",)), cap(new))
    spelt = repaired(
        window(x, **{"EEG T3-REF": ("flat",)}), cap(tuple(f"EEG {n}-REF" for n in CAP))
    )
    assert one is not None
    assert other is not None
    assert spelt is not None
    assert np.array_equal(one.data, other.data)
    assert np.array_equal(one.data, spelt.data)


def test_channels_without_known_places_have_neighbours_in_the_list() -> None:
    x = noise(8)
    names = tuple(f"{i}" for i in range(8))
    made = repaired(window(x, **{"4": ("flat",)}), cap(names))
    assert made is not None
    assert np.array_equal(made.data[:, 4], x[:, 3])


def test_a_cap_with_more_than_a_quarter_dead_says_nothing() -> None:
    dead = dict.fromkeys(CAP[:4], ("flat",))
    assert repaired(window(noise(), **dead), cap()) is None
    assert repaired(window(noise(), all=("flat",)), cap()) is None


@pytest.mark.parametrize(
    ("faults", "view"),
    [
        ({}, cap()),
        ({"C3": ("line noise", "amplitude")}, cap()),
        ({"C3": ("flat",)}, cap(kind="physio")),
        ({"C3": ("flat",)}, cap(shape=(5, len(CAP)))),
        ({"ECG": ("flat",)}, cap()),
    ],
)
def test_anything_else_stays_as_it_is(faults: dict[str, tuple[str, ...]], view: View) -> None:
    given = window(noise(), **faults)
    assert repaired(given, view) is given


def test_behind_an_average_reference_a_dead_electrode_is_no_silence() -> None:
    average = Reference(cap().info, method="average")
    given = window(noise(), C3=("flat",))
    assert repaired(given, cap(steps=(average,))) is given
    mastoids = Reference(cap().info, channels=["T3", "T4"])
    assert repaired(given, cap(steps=(mastoids,))) is not given
    most = window(noise(), **dict.fromkeys(CAP[:4], ("flat",)))
    assert repaired(most, cap(steps=(average,))) is None


def right(faults: list[dict[str, object]]) -> tuple[float, Prediction]:
    """How often the simulated person's state is told, and the last prediction."""
    bundle, told = Bundle.load("simulated-eeg"), []
    with SimulateSource(
        8, "eeg", seconds=240.0, speed="max", stream="eeg", faults=faults
    ) as source:
        player = Player(SessionPlan("s", "run", {"eeg": StreamPlan(bundle)}, hop_s=bundle.hop_s))
        list(player.command("connect", stream="eeg", info=source.info))
        while True:
            try:
                chunk = source.read(1.0)
            except EndOfStream:
                break
            if chunk is not None:
                told += [m for m in player.push(chunk) if isinstance(m, Prediction) and m.truth]
    return float(np.mean([m.label == m.truth for m in told])), told[-1]


def test_a_simulated_person_is_read_as_well_with_six_electrodes_off() -> None:
    whole, _ = right([])
    loose = ["Fp1", "P3", "C4", "Oz", "F8", "Cz"]
    off = [{"kind": "flat", "at_s": 0, "for_s": 3600, "channels": loose}]
    mended, last = right(off)
    assert whole > 0.7
    assert mended > whole - 0.05  # without their neighbours: 0.265, chance
    assert set(last.modalities["eeg"]["notes"]["repaired"]) == set(loose)
