"""Runs the benchmarks: python -m benchmarks [NAME ...] [--out DIR] [--json]."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu import there_is_one
from benchmarks.result import Result, write

__all__ = ["NAMES", "main", "run_all"]

NAMES = {
    "streaming": "benchmarks.streaming",
    "latency": "benchmarks.latency",
    "sessions": "benchmarks.sessions",
    "start": "benchmarks.daemon",
    "idle": "benchmarks.daemon",
    "mel": "benchmarks.mel",
    "training_small": "benchmarks.training",
    "training_large": "benchmarks.training",
    "training_open": "benchmarks.training",
    "encode": "benchmarks.encode",
    "lsl": "benchmarks.lsl",
    "publishing": "benchmarks.publishing",
    "stalled": "benchmarks.publishing",
    "gpu": "benchmarks.gpu",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; or all")
    parser.add_argument("--out", type=Path, help="write a JSON file per benchmark into this folder")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON list")
    parser.add_argument("--peers-python", help="a Python that has what peers.txt lists")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in NAMES]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    run_all(given.names, command, given.out, given.json, given.peers_python)


def run_all(
    names: list[str], command: str, out: Path | None, as_json: bool, peers_python: str | None = None
) -> None:
    """Run the named benchmarks, or all; print them, and write a file each into `out`."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that are started
    results = []
    for name in names or NAMES:
        if name == "gpu" and not names and not there_is_one():
            print("gpu: left out, torch can use none here", file=sys.stderr, flush=True)
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        run: Callable[..., Result] = getattr(importlib.import_module(NAMES[name]), name)
        result = run(peers=peers_python) if name == "streaming" else run()
        results.append(result)
        if out is not None:
            write(result, out, command)
        if not as_json:
            _print(result)
    if as_json:
        print(json.dumps([result.summary() for result in results]))


def _print(result: Result) -> None:
    made = result.summary()
    print(f"{result.name}: {made['ours']:.4g} {result.unit}")
    for name, value in made["peers"].items():
        print(f"  {name}: {value:.4g}; ours / this = {made['ratio'][name]:.3g}")
    for name, value in result.details.items():
        print(f"  {name}: {value}")
    for note in result.notes:
        print(f"  note: {note}")


if __name__ == "__main__":
    main()
