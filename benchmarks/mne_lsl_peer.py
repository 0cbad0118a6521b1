"""mne-lsl's StreamLSL reads an LSL stream; runs in an environment of its own.

    python mne_lsl_peer.py NAME

Reads one line per run from stdin, seconds; answers with one line of JSON: CPU seconds of the whole
process over that time, and how many samples per second its buffer holds.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time

from mne_lsl import set_log_level  # type: ignore[import-not-found]
from mne_lsl.lsl import library_version  # type: ignore[import-not-found]
from mne_lsl.stream import StreamLSL  # type: ignore[import-not-found]

BUFFER_S = 2.0
SETTLE_S = 2.0


def main() -> None:
    set_log_level("ERROR")
    names = ("mne-lsl", "mne", "numpy")
    known = {name: importlib.metadata.version(name) for name in names}
    print(json.dumps({**known, "liblsl": str(library_version())}), flush=True)
    for line in sys.stdin:
        stream = StreamLSL(BUFFER_S, name=sys.argv[1])
        stream.connect(timeout=10.0)
        time.sleep(SETTLE_S)
        before_s = time.process_time()  # of all its threads
        time.sleep(float(line))
        cpu_s = time.process_time() - before_s
        _, stamps = stream.get_data()
        rate_hz = (len(stamps) - 1) / (stamps[-1] - stamps[0])
        stream.disconnect()
        print(json.dumps({"cpu_s": cpu_s, "rate_hz": float(rate_hz)}), flush=True)


if __name__ == "__main__":
    main()
