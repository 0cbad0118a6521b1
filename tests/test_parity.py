"""The law of parity on real files: replay = evaluation = an oracle that shares no code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, firwin, periodogram, sosfilt, sosfilt_zi, upfirdn

from engine.bundle import Bundle
from engine.cli import main
from offline.datasets.eegmat import recordings
from offline.evaluate import predict
from offline.windows import cut

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "eeg"
EDF = DATA / "eegmat_edf" / "Subject01_2.edf"

needs_data = pytest.mark.skipif(not EDF.exists(), reason=f"{EDF} is not here")


def replay(path: Path, out: Path, *options: str) -> bytes:
    """What `vagus replay PATH --out` writes."""
    line = ["replay", str(path), "--bundle", "workload-eegmat", "--out", str(out), *options]
    assert main(line) == 0
    return out.read_bytes()


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """A recording made here: ten seconds of noise on the bundle's channels, with a gap of NaN."""
    spec = Bundle.load("workload-eegmat").inputs["eeg"]
    x = np.random.default_rng(0).normal(0, 20, (1280, len(spec.channels))).astype(np.float32)
    x[700:705] = np.nan
    path = tmp_path / "noise.npz"
    np.savez(path, x=x, rate_hz=128.0, channels=np.array(spec.channels), kind="eeg", unit="uV")
    return path


@pytest.mark.parametrize("size", ["1", "7", "5000"])
def test_replay_writes_the_same_bytes_for_any_chunk_size(
    npz: Path, tmp_path: Path, size: str
) -> None:
    whole = replay(npz, tmp_path / "whole.jsonl")
    assert whole.count(b"\n") == 20
    assert replay(npz, tmp_path / "cut.jsonl", "--chunk", size) == whole


@needs_data
@pytest.mark.parametrize("size", ["1", "5000"])
def test_a_real_edf_gives_the_same_bytes_for_any_chunk_size(tmp_path: Path, size: str) -> None:
    whole = replay(EDF, tmp_path / "whole.jsonl")
    assert whole.count(b"\n") == 124
    assert replay(EDF, tmp_path / "cut.jsonl", "--chunk", size) == whole


@needs_data
def test_evaluation_gives_the_probabilities_of_the_replay(tmp_path: Path) -> None:
    bundle = Bundle.load("workload-eegmat")
    found = [r for r in recordings(DATA / "eegmat_edf") if r.path.name == EDF.name]
    rows = predict(bundle, found)
    lines = [json.loads(line) for line in replay(EDF, tmp_path / "a.jsonl").splitlines()]
    told = [line for line in lines if line["probabilities"] is not None]
    assert [row.t for row in rows] == [line["t"] for line in told]
    assert [row.probabilities for row in rows] == [line["probabilities"] for line in told]


@needs_data
def test_training_windows_are_what_the_graph_is_fed_with(tmp_path: Path) -> None:
    bundle = Bundle.load("workload-eegmat")
    found = [r for r in recordings(DATA / "eegmat_edf") if r.path.name == EDF.name]
    windows = cut(found, bundle.inputs, bundle.hop_s)
    p = bundle.runtime.run(windows.inputs, windows.valid)
    rows = predict(bundle, found)
    alone = [list(row.probabilities.values()) for row in rows]
    assert np.allclose(p, alone, atol=1e-7)
    assert (p.argmax(1) == np.argmax(alone, 1)).all()


@needs_data
def test_windows_of_a_raw_edf_equal_an_oracle_of_scipy_and_mne() -> None:
    import mne

    bundle = Bundle.load("workload-eegmat")
    spec = bundle.inputs["eeg"]
    raw = mne.io.read_raw_edf(EDF, preload=True, verbose="error")
    names = {c.removeprefix("EEG ").strip(): c for c in raw.ch_names}
    x = 1e6 * raw.get_data([names[c] for c in spec.channels]).T  # (time, channels) in uV
    x = x.astype(np.float32).astype(np.float64)
    up, down = 32, 125  # 500 Hz to 128 Hz
    half = 10 * down
    taps = firwin(2 * half + 1, 1 / down, window=("kaiser", 5.0)) * up
    n_before = 8 * down  # the resampler settles on the first sample
    settled = np.concatenate([np.repeat(x[:1], n_before, axis=0), x])
    y = upfirdn(taps, settled, up, down, axis=0)[n_before * up // down :]
    y = y[: (len(x) - 1) * up // down + 1].astype(np.float32).astype(np.float64)
    y = (y - y.mean(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    sos = butter(4, (1, 45), "bandpass", fs=128, output="sos")
    state = sosfilt_zi(sos)[:, :, None] * y[0]
    y = sosfilt(sos, y, axis=0, zi=state)[0].astype(np.float32)
    bands = spec.features[0]["bands"].values()
    windows = cut(
        [r for r in recordings(DATA / "eegmat_edf") if r.path.name == EDF.name],
        bundle.inputs,
        bundle.hop_s,
    )
    assert len(windows) == 113  # the file ends in a second of zeros, of which nothing is said
    for t, found in zip(windows.t, windows.inputs["eeg"], strict=True):
        n = (min(len(x) - 1, int(t * 500)) * up) // down + 1  # outputs up to that sample
        f, density = periodogram(
            y[n - 512 : n].astype(np.float64), 128, "hann", detrend="constant", axis=0
        )
        power = [[density[(f >= lo) & (f < hi), c].mean() for lo, hi in bands] for c in range(19)]
        assert np.allclose(found, np.log(power).reshape(-1), atol=2e-3)
