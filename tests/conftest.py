"""What all tests share: calm threads, seeded properties, and how far the long counts go."""

from __future__ import annotations

import atexit
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything heavy is imported: one thread per runtime, none of them spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Ctrl-C reaches the processes of the tests, also where a script began all this in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An LSL network of our own, on this machine alone; liblsl reads this once, when it is loaded.
_LSL = Path(tempfile.gettempdir()) / f"vagus-lsl-{os.getpid()}.cfg"
_LSL.write_text(
    "[ports]\nIPv6 = disable\n[multicast]\nResolveScope = machine\n"
    f"[lab]\nKnownPeers = {{127.0.0.1}}\nSessionID = vagus-{os.getpid()}\n[log]\nlevel = -3\n"
)
atexit.register(_LSL.unlink, missing_ok=True)
os.environ["LSLAPICFG"] = str(_LSL)

# The same examples in every run: a failure can be run again, and timing decides nothing.
settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.load_profile("seeded")


@pytest.fixture(scope="session")
def count() -> Callable[[int], int]:
    """How many repetitions a long test runs: a tenth, and all of them under `make soak`."""
    share = 1 if os.environ.get("VAGUS_SOAK") else 10
    return lambda full: max(1, full // share)
