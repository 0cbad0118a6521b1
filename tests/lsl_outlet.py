"""An LSL outlet in a process of its own: `python lsl_outlet.py '{"name": ..., "rate_hz": ...}'`.

Prints `ready`, then pushes a counter on every channel, in real time, until it is killed or its
standard input closes. A line `mark TEXT` on standard input pushes a marker.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import pylsl


def make(about: dict[str, object]) -> pylsl.StreamOutlet:
    labels = list(about.get("labels", ["TP9", "AF7", "AF8", "TP10"]))
    rate_hz = float(about.get("rate_hz", 256.0))
    markers = about.get("type") == "Markers"
    info = pylsl.StreamInfo(
        str(about.get("name", "Muse-3A")), str(about.get("type", "EEG")),
        1 if markers else len(labels), 0.0 if markers else rate_hz,
        "string" if markers else "float32", str(about.get("source_id", "muse-1")),
    )  # fmt: skip
    if not markers:
        channels = info.desc().append_child("channels")
        for label in labels:
            channel = channels.append_child("channel")
            channel.append_child_value("label", label)
            channel.append_child_value("unit", str(about.get("unit", "microvolts")))
    return pylsl.StreamOutlet(info)


def main() -> None:
    about = json.loads(sys.argv[1])
    outlet = make(about)
    rate_hz = float(about.get("rate_hz", 256.0))
    n_channels = len(about.get("labels", "abcd"))
    closed = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            if line.startswith("mark "):
                outlet.push_sample([line[5:].strip()])
        closed.set()

    threading.Thread(target=listen, daemon=True).start()
    print("ready", flush=True)
    start_s, n = time.monotonic(), 0
    while not closed.wait(0.01):
        if about.get("type") == "Markers":
            continue
        due = int((time.monotonic() - start_s) * rate_hz)
        if due > n:
            rows = np.repeat(np.arange(n, due, dtype=np.float32)[:, None], n_channels, axis=1)
            outlet.push_chunk(np.ascontiguousarray(rows))
            n = due


if __name__ == "__main__":
    main()
