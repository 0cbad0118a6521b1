"""`vagus play` stands for a device: EDF and XDF over LSL give the predictions of their replay."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import edfio
import numpy as np
import pytest

from engine.bundle import Bundle
from engine.clock import SettableClock
from engine.errors import EndOfStream
from engine.log import LogHeader, LogWriter
from engine.types import Array
from sinks.export import Recorded, export
from sources.files import open_recording
from sources.simulate import SimulateSource
from tests.bundles import write
from tests.impersonation import impersonate

pytest.importorskip("pylsl")
pytestmark = pytest.mark.slow
REAL = Path(__file__).parents[2] / "shared" / "data" / "eeg" / "eegmat_edf" / "Subject01_2.edf"
SECONDS = 8


def brain(channels: tuple[str, ...], rate_hz: int) -> Array:
    """The first seconds of a real recording where there is one, else noise; uV."""
    n = SECONDS * rate_hz
    if not REAL.exists():
        return np.random.default_rng(0).normal(0, 20, (n, len(channels)))
    (stream,) = open_recording(REAL).streams
    return stream.read(0, n)[:, [stream.info.channels.index(c) for c in channels]]


def test_an_edf_file_played_over_lsl_gives_the_predictions_of_its_replay(tmp_path: Path) -> None:
    (spec,) = Bundle.load("workload-eegmat").inputs.values()
    x = brain(spec.channels, 500)
    signals = [
        edfio.EdfSignal(
            x[:, k], 500, label=name, physical_dimension="uV", physical_range=(-500, 500)
        )
        for k, name in enumerate(spec.channels)
    ]
    edfio.Edf(signals, data_record_duration=1).write(tmp_path / "rest.edf")
    impersonate(tmp_path / "rest.edf", Path("workload-eegmat"), tmp_path).check(5)


def test_an_xdf_file_played_over_lsl_gives_the_predictions_of_its_replay(tmp_path: Path) -> None:
    pytest.importorskip("pyxdf")
    config = {
        "session": "p1",
        "streams": {"eeg": {"source": {"type": "simulate", "person": 1}, "bundle": "test-eeg"}},
    }
    header = LogHeader("0" * 12, "p1", json.dumps(config), 0.0, 1.7e9, {})
    log = LogWriter(tmp_path / "p1.mcap", header, clock=SettableClock(0.0), raw=True)
    with SimulateSource(person=1, seconds=float(SECONDS), speed="max", stream="eeg") as device:
        log.command("connect", {"stream": "eeg", "info": device.info})
        with suppress(EndOfStream):
            while (chunk := device.read(1.0)) is not None:
                log.chunk(chunk)
    log.close({})
    (path,) = export(Recorded.open(tmp_path / "p1.mcap"), "xdf", tmp_path)
    impersonate(path, write(tmp_path / "test-eeg"), tmp_path).check(5)
