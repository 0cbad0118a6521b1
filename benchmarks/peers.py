"""The environment of the peers: found, or made once from peers.txt beside our own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

__all__ = ["PeersMissing", "peers_python"]

_LIST = Path(__file__).with_name("peers.txt")
_FOLDER = Path(__file__).parents[1] / ".venv" / "peers"  # goes with .venv, and git ignores it
_TIMEOUT_S = 900


class PeersMissing(Exception):
    """The peers cannot be installed here; the benchmark runs without them and says why."""


def peers_python(given: str | None) -> str:
    """The Python that has the peers: the one `given`, or that of an environment made here.

    Raises PeersMissing.
    """
    if given is not None:
        return given
    python = _FOLDER / "bin" / "python"
    wanted = hashlib.sha256(_LIST.read_bytes()).hexdigest()
    mark = _FOLDER / "made-from"
    if not (mark.is_file() and mark.read_text(encoding="utf-8") == wanted):
        print(f"installing the peers into {_FOLDER}; once, it takes a minute", file=sys.stderr)
        _call(sys.executable, "-m", "venv", "--clear", str(_FOLDER))
        _call(str(python), "-m", "pip", "install", "--quiet", "--requirement", str(_LIST))
        mark.write_text(wanted, encoding="utf-8")
    return str(python)


def _call(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeersMissing(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PeersMissing(f"the peers could not be installed: {last}")
