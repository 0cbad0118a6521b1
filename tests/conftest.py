"""What all tests share: calm threads, seeded properties, and how far the long counts go."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import settings

# Before anything heavy is imported: one thread per runtime, none of them spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The same examples in every run: a failure can be run again, and timing decides nothing.
settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.load_profile("seeded")


@pytest.fixture(scope="session")
def count() -> Callable[[int], int]:
    """How many repetitions a long test runs: a tenth, and all of them under `make soak`."""
    share = 1 if os.environ.get("VAGUS_SOAK") else 10
    return lambda full: max(1, full // share)
