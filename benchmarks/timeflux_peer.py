"""The streaming benchmark's chain in timeflux's own nodes; runs in an environment of its own.

    python timeflux_peer.py SIGNAL.npz

Reads one line per run from stdin, the name of a window node; answers with one line of JSON: CPU
seconds, the number of windows, the last one's sum, sum of squares and place.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np
from timeflux.nodes.window import Slide, Window  # type: ignore[import-not-found]
from timeflux_dsp.nodes.filters import IIRFilter  # type: ignore[import-not-found]


class Chain:
    """Band-pass, notch and window as a timeflux graph connects them.

    Ports are cleared and handed on as its scheduler does, without the scheduler's own cost.
    """

    def __init__(self, signal: dict[str, Any], window: str) -> None:
        rate = float(signal["rate_hz"])
        length_s, hop_s = float(signal["window_s"]), float(signal["hop_s"])
        make = {
            "Window": lambda: Window(length_s, hop_s),
            "Window, index=sample": lambda: Window(
                round(length_s * rate), int(hop_s * rate), index="sample"
            ),
            "Slide": lambda: Slide(length_s, hop_s, rate),
        }
        self.nodes = [
            IIRFilter(sos=signal["bandpass"], rate=rate),
            IIRFilter(sos=signal["notch"], rate=rate),
            make[window](),
        ]
        self.meta = {"rate": rate}
        self.names = [f"C{i}" for i in range(signal["x"].shape[1])]

    def push(self, rows: Any, stamps: Any) -> Any:
        """One chunk in, rows (time, channels); the window that it completes out, or None."""
        for node in self.nodes:
            node.clear()
        self.nodes[0].i.set(rows, stamps, self.names, self.meta)
        for node, following in pairwise(self.nodes):
            node.update()
            following.i.data, following.i.meta = node.o.data, node.o.meta
        last = self.nodes[-1]
        last.update()
        return last.o.data if last.o.ready() else None


def measure(signal: dict[str, Any], window: str) -> dict[str, Any]:
    """Run the whole signal through a fresh chain."""
    x, edges = signal["x"], signal["edges"].tolist()
    stamps = (np.arange(len(x)) / float(signal["rate_hz"]) * 1e6).astype("datetime64[us]")
    chain = Chain(signal, window)
    n_windows, last = 0, None
    begin_s = time.process_time()
    for start, stop in pairwise(edges):
        made = chain.push(x[start:stop], stamps[start:stop])
        if made is not None:
            n_windows, last = n_windows + 1, made
    cpu_s = time.process_time() - begin_s
    assert last is not None, f"{window} gave no window"
    end = int(np.searchsorted(stamps, last.index.values[-1].astype("datetime64[us]")))
    values = last.values
    return {
        "cpu_s": cpu_s,
        "n_windows": n_windows,
        "end": end + 1,
        "sums": [float(values.sum()), float(np.square(values).sum())],
    }


def main() -> None:
    logging.disable(logging.CRITICAL)
    with np.load(sys.argv[1]) as file:
        signal = {name: file[name] for name in file.files}
    names = ("timeflux", "timeflux_dsp", "pandas", "numpy", "scipy")
    print(json.dumps({name: importlib.metadata.version(name) for name in names}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(signal, line.strip())), flush=True)


if __name__ == "__main__":
    main()
