"""A subscriber in a process of its own that notes when each message reached it.

    python -m benchmarks.receiver URL --quiet-s S [--bare]

Says `listening`; when nothing came for S seconds after the first message it prints
{"<number>": {"received_s": ..., and what the message says of its latency in ms}}. Seconds are of
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from engine.types import Prediction
from sinks.subscribe import subscribe

__all__ = ["Receiver", "receiving"]


class Receiver:
    """The other process, as seen from here."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def received(self) -> dict[int, dict[str, float]]:
        """{number: what is known of that message}, once it has fallen silent."""
        line = self.line()
        while not line.startswith("{"):
            if not line:
                raise RuntimeError("the receiver ended without a result")
            line = self.line()
        return {int(number): known for number, known in json.loads(line).items()}


@contextmanager
def receiving(url: str, quiet_s: float, *, bare: bool) -> Iterator[Receiver]:
    """A receiver of `url`; `bare` ones read 8 bytes, the others predictions through the client."""
    command = [sys.executable, "-m", "benchmarks.receiver", url, "--quiet-s", str(quiet_s)]
    command += ["--bare"] if bare else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            receiver = Receiver(process)
            receiver.line()
            yield receiver
        finally:
            process.terminate()


def _predictions(url: str, quiet_s: float) -> dict[int, dict[str, float]]:
    """Through the client that users have: decoded, checked for holes; only those with a window."""
    received: dict[int, dict[str, float]] = {}
    with subscribe(url, kinds=("prediction",)) as messages:
        print("listening", flush=True)
        while (message := messages.read(quiet_s if received else None)) is not None:
            now_s = time.monotonic()
            if isinstance(message, Prediction) and message.probabilities is not None:
                received[message.seq] = {"received_s": now_s} | message.latency_ms
    return received


def _bare(url: str, quiet_s: float) -> dict[int, dict[str, float]]:
    """Without any of ours: the body is the number."""
    received: dict[int, dict[str, float]] = {}
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.connect(url)
        print("listening", flush=True)
        while socket.poll(round(1e3 * quiet_s) if received else None):
            _, body = socket.recv_multipart()
            received[int.from_bytes(body, "big")] = {"received_s": time.monotonic()}
    return received


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--quiet-s", type=float, required=True)
    parser.add_argument("--bare", action="store_true")
    given = parser.parse_args()
    receive = _bare if given.bare else _predictions
    print(json.dumps(receive(given.url, given.quiet_s)), flush=True)


if __name__ == "__main__":
    main()
