"""BDF, FIF, BrainVision and EEGLAB files, read piece by piece through mne."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DataError, ResourceError
from engine.types import Array, StreamInfo
from sources.recording import RecordedStream, Recording

__all__ = ["MNE", "read_mne"]

MNE = frozenset({".bdf", ".fif", ".set", ".vhdr"})
_VOLTAGE = ("eeg", "eog", "ecg", "emg", "seeg", "ecog")
_TO_UV = 1e6  # mne's voltages are volts


def read_mne(path: Path) -> Recording:
    """Read the EEG as the stream `eeg` and all other voltages as `physio`, both in microvolts.

    Annotations become markers, at their onset. Channels of other kinds (triggers, magnetometers)
    are named in `warnings`. A measurement date gives `start_wall`.
    """
    raw = _open(path)
    kinds = raw.get_channel_types()
    eeg = [i for i, kind in enumerate(kinds) if kind == "eeg"]
    others = [i for i, kind in enumerate(kinds) if kind in _VOLTAGE and kind != "eeg"]
    left_out = [
        f"{name}: a channel of type {kind}"
        for name, kind in zip(raw.ch_names, kinds, strict=True)
        if kind not in _VOLTAGE
    ]
    streams = [
        _stream(raw, path, name, picks)
        for name, picks in (("eeg", eeg), ("physio", others))
        if picks
    ]
    if not streams:
        raise DataError(f"{path}: no voltage in it; {'; '.join(left_out)}")
    # mne counts onsets from the first sample of the recording device, which a file may cut off
    first_s = raw.first_time if raw.info["meas_date"] is not None else 0.0
    markers = sorted((float(a["onset"]) - first_s, str(a["description"])) for a in raw.annotations)
    date = raw.info["meas_date"]
    start = None if date is None else date.timestamp() + raw.first_time
    return Recording(path.stem, path, tuple(streams), tuple(markers), start, tuple(left_out))


def _open(path: Path) -> Any:
    try:
        import mne
    except ImportError as error:
        raise ResourceError(
            f"{path}: {path.suffix} files need mne; install it with: pip install 'vagus[formats]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that break its conventions are fine here
            return mne.io.read_raw(path, preload=False, verbose="ERROR")
    except Exception as error:  # each of its readers raises something else
        raise DataError(f"{path}: cannot be read: {error}") from error


def _stream(raw: Any, path: Path, name: str, picks: list[int]) -> RecordedStream:
    def read(first: int, last: int) -> Array:
        try:
            volts = raw.get_data(picks, first, last, verbose="ERROR")
        except Exception as error:  # a file that ends before its header says
            raise DataError(f"{path}: items {first} to {last} cannot be read: {error}") from error
        return np.ascontiguousarray(volts.T * _TO_UV, np.float32)

    channels = tuple(raw.ch_names[i] for i in picks)
    info = StreamInfo(name, name, float(raw.info["sfreq"]), channels, "uV", (len(channels),))
    return RecordedStream(info, int(raw.n_times), read)
