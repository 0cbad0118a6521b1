"""What a benchmark found: paired figures of ours and the peers, and the machine they are from."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

__all__ = ["Result", "interleave", "machine", "versions", "write"]


@dataclass(frozen=True)
class Result:
    """The figures of one benchmark; smaller is better unless `unit` says otherwise.

    `ours[i]` and `peers[name][i]` were measured side by side, one after the other. `details` are
    further figures of ours, `notes` what a reader must know, such as a peer that was left out.
    """

    name: str
    unit: str
    ours: Sequence[float]
    peers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def ratios(self) -> dict[str, list[float]]:
        """{peer: ours / peer, pair by pair}."""
        return {
            name: [one / other for one, other in zip(self.ours, values, strict=True)]
            for name, values in self.peers.items()
        }

    def summary(self) -> dict[str, Any]:
        """Medians, as `vagus bench --json` prints them; a ratio is that of the pairs."""
        return {
            "name": self.name,
            "ours": median(self.ours),
            "peers": {name: median(values) for name, values in self.peers.items()},
            "unit": self.unit,
            "ratio": {name: median(values) for name, values in self.ratios().items()},
            "versions": dict(self.versions),
        }

    def report(self, command: str) -> dict[str, Any]:
        """The summary with its spread, command, date and machine."""
        return self.summary() | {
            "spread": {
                "ours": _spread(self.ours),
                "peers": {name: _spread(values) for name, values in self.peers.items()},
                "ratio": {name: _spread(values) for name, values in self.ratios().items()},
            },
            "details": dict(self.details),
            "notes": list(self.notes),
            "command": command,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
        }


def interleave(
    runs: Mapping[str, Callable[[], float]], n_repeats: int, *, n_warm: int = 1
) -> dict[str, list[float]]:
    """Measure all `runs` in turn, A B A B, `n_repeats` times, after `n_warm` uncounted rounds.

    What disturbs the machine for a while then disturbs all of them.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(n_warm + n_repeats):
        for name, run in runs.items():
            value = run()
            if i >= n_warm:
                found[name].append(value)
    return found


def versions(*distributions: str) -> dict[str, str]:
    """{name: version} of installed distributions and of Python."""
    return {"python": platform.python_version()} | {name: version(name) for name in distributions}


def machine() -> dict[str, Any]:
    """The processor, its cores that this process may use, memory and system."""
    words = [line.partition(":") for line in _lines("/proc/cpuinfo")]
    models = [value.strip() for key, _, value in words if key.strip() == "model name"]
    return {
        "cpu": models[0] if models else platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_1min": round(os.getloadavg()[0], 2),
    }


def write(result: Result, folder: Path, command: str) -> Path:
    """Write `<folder>/<name>.json`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    path.write_text(json.dumps(_rounded(result.report(command)), indent=1) + "\n", encoding="utf-8")
    return path


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"n": len(values), "min": min(values), "median": median(values), "max": max(values)}


def _rounded(value: Any) -> Any:
    """The same with four significant digits: more would not come out again."""
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.4g}")
    return value


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []
