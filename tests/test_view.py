"""Where a stream enters a bundle's chain: at its start, or behind the steps it is past already."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from engine import plugins
from engine.bundle import InputSpec
from engine.errors import BundleError
from engine.types import Array, Notes, StreamInfo
from engine.view import fit
from tests.streams import info

CHANNELS = ("C0", "C1", "C2")


class Halve:
    """A toy step: every second item, in the unit "half", channels renamed."""

    ratio = Fraction(1, 2)
    delay_s = 0.0

    def __init__(self, info: StreamInfo) -> None:
        assert info.rate_hz is not None
        names = tuple(f"{name} half" for name in info.channels)
        self.info = replace(info, rate_hz=info.rate_hz / 2, unit="half", channels=names)

    def reset(self) -> None: ...

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        return x[::2], valid[::2], {}


class Crop:
    """A toy step: pictures of any size to 4 by 4 grey ones, in the unit "crop"."""

    ratio = Fraction(1)
    delay_s = 0.0

    def __init__(self, info: StreamInfo) -> None:
        self.info = replace(info, unit="crop", channels=("grey",), shape=(4, 4, 1))

    def reset(self) -> None: ...

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        return x[:, :4, :4, :1], valid, {}


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    toys = {"halve": Halve, "crop": Crop}
    names, load = plugins.names, plugins.load
    monkeypatch.setattr(plugins, "names", lambda group: (*names(group), *toys))
    monkeypatch.setattr(plugins, "load", lambda g, n: toys[n] if n in toys else load(g, n))


def spec(*steps: dict[str, Any], **fields: Any) -> InputSpec:
    given: dict[str, Any] = {
        "kind": "eeg", "rate_hz": 128.0, "channels": CHANNELS, "unit": "uV",
        "window_s": 2.0, "min_filled_s": 1.0,
    }  # fmt: skip
    return InputSpec(**given | fields, steps=steps)


def entered(stream: StreamInfo, wanted: InputSpec, **mapping: str) -> list[str]:
    """The kinds of the steps that lead from `stream` to the input."""
    return [type(step).__name__ for step in fit("s", stream, wanted, "toy", mapping)[0].steps]


CHAIN = spec({"name": "bandpass", "low_hz": 1, "high_hz": 40}, {"name": "notch", "freq_hz": 50},
             {"name": "halve"}, {"name": "clip", "low": -1, "high": 1})  # fmt: skip
HALVES = replace(info(64.0), unit="half", channels=tuple(f"{c} half" for c in CHANNELS))


def test_a_stream_of_the_inputs_own_unit_goes_through_the_whole_chain() -> None:
    assert entered(info(), CHAIN) == ["SosFilter", "Halve", "Clip"]


def test_a_stream_that_is_what_a_step_gives_enters_behind_that_step() -> None:
    assert entered(HALVES, CHAIN) == ["Clip"]
    view, _ = fit("s", HALVES, CHAIN, "toy", {})
    assert (view.info.rate_hz, view.info.channels, view.n_items) == (64.0, HALVES.channels, 128)


def test_channels_in_another_order_are_put_in_the_chains_order() -> None:
    turned = replace(HALVES, channels=HALVES.channels[::-1])
    assert entered(turned, CHAIN) == ["Select", "Clip"]
    view, _ = fit("s", turned, CHAIN, "toy", {})
    assert view.info.channels == HALVES.channels
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert view.steps[0](x, np.ones(2, bool))[0].tolist() == x[:, ::-1].tolist()


@pytest.mark.parametrize(
    "other",
    [{"rate_hz": 32.0}, {"channels": HALVES.channels[:2], "shape": (2,)}, {"channels": CHANNELS},
     {"unit": "third"}],
)  # fmt: skip
def test_what_only_resembles_a_steps_output_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="bundle toy, stream 's': "):
        entered(replace(HALVES, **other), CHAIN)


def test_a_unit_that_converts_skips_no_step() -> None:
    volts = spec({"name": "reference", "method": "average"}, {"name": "scale", "unit": "V"})
    assert entered(replace(info(), unit="V"), volts) == ["Scale", "Reference", "Scale"]


def test_ready_made_crops_of_any_camera_enter_behind_the_cropping() -> None:
    faces = spec({"name": "crop"}, kind="face", rate_hz=15.0, channels=("r", "g", "b"),
                 unit="level")  # fmt: skip
    crops = StreamInfo("s", "face", 15.0, ("grey",), "crop", (4, 4, 1))
    camera = StreamInfo("s", "face", 15.0, ("r", "g", "b"), "level", (48, 64, 3))
    assert entered(camera, faces) == ["Crop"]
    assert entered(crops, faces) == []
    with pytest.raises(BundleError, match=r"unit|needs"):
        entered(replace(crops, shape=(5, 4, 1)), faces)
