"""A clap before three devices: `python clap_devices.py`, in reach of a PulseAudio server.

Prints the port of an MJPEG camera once all devices run. Pushes an EEG of one channel and a
stream of markers over LSL, and plays silence into the sink whose monitor is the microphone. Each
line on standard input is one event: a burst of sound, a bright picture, a marker and a step of the
signal, all at the same moment.
"""

from __future__ import annotations

import fcntl
import struct
import subprocess
import sys
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pylsl

EEG_HZ, SOUND_HZ = 256.0, 16000
LASTS_S = 0.1  # how long it is bright, loud and high
BLOCK = 80  # frames of sound, 5 ms


class Scene:
    """When the last clap was; devices look at it, or wait for the next."""

    def __init__(self) -> None:
        self.at_s = -1e9
        self.changed = threading.Condition()

    def clap(self) -> float:
        with self.changed:
            self.at_s = pylsl.local_clock()
            self.changed.notify_all()
        return self.at_s

    def is_on(self, at_s: float) -> bool:
        return 0 <= at_s - self.at_s < LASTS_S

    def wait(self, seconds: float) -> None:
        with self.changed:
            self.changed.wait(seconds)


SCENE, PLAYING = Scene(), threading.Event()
RATE_HZ = 25.0
_FIELD = np.random.default_rng(0).integers(20, 60, (120, 160, 3), np.uint8)


class Camera(BaseHTTPRequestHandler):
    """A shutter that is open at the moment of a clap: its picture shows it at once."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        n = 0
        try:
            while True:
                field = _FIELD + 180 if SCENE.is_on(pylsl.local_clock()) else _FIELD.copy()
                field[: 1 + n % 100, :5] = 0  # never the same picture twice
                jpeg = cv2.imencode(".jpg", field)[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                n += 1
                SCENE.wait(1.0 / RATE_HZ)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, *about: object) -> None:
        pass


def play() -> None:
    """Silence, and a burst of 1 kHz at each clap, in blocks of 5 ms."""
    player = subprocess.Popen(
        ["pacat", "--playback", "--raw", "--format=s16le", f"--rate={SOUND_HZ}", "--channels=1",
         "--latency-msec=10", "--process-time-msec=5", "--device=vspk"],
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert player.stdin is not None
    burst = (20000 * np.sin(np.arange(BLOCK) * 2 * np.pi * 1000 / SOUND_HZ)).astype("<i2").tobytes()
    start_s, n, waited = time.monotonic(), 0, False
    while True:
        # The server begins to play after two seconds: what had piled up would make all sound late.
        if _piled_up(player.stdin.fileno()) >= 4 * BLOCK:
            waited = True
        else:
            if waited:
                PLAYING.set()
            burst_now = SCENE.is_on(pylsl.local_clock())
            player.stdin.write(burst if burst_now else bytes(2 * BLOCK))
            player.stdin.flush()
        n += BLOCK
        time.sleep(max(0.0, start_s + n / SOUND_HZ - time.monotonic()))


def _piled_up(pipe: int) -> int:
    """Bytes in a pipe that nobody took yet."""
    (n,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(n)


def push() -> None:
    """One channel that is 1 during a clap, stamped sample by sample."""
    info = pylsl.StreamInfo("clap-eeg", "EEG", 1, EEG_HZ, "float32", "clap-eeg")
    channel = info.desc().append_child("channels").append_child("channel")
    channel.append_child_value("label", "Cz")
    channel.append_child_value("unit", "microvolts")
    outlet = pylsl.StreamOutlet(info)
    start_s, n = pylsl.local_clock(), 0
    while True:
        time.sleep(0.01)
        due = int((pylsl.local_clock() - start_s) * EEG_HZ)
        for k in range(n, due):
            at_s = start_s + k / EEG_HZ
            outlet.push_sample([float(SCENE.is_on(at_s))], at_s)
        n = due


def main() -> None:
    marks = pylsl.StreamOutlet(pylsl.StreamInfo("clap-marks", "Markers", 1, 0.0, "string", "cm"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    for work in (server.serve_forever, play, push):
        threading.Thread(target=work, daemon=True).start()
    PLAYING.wait()
    print(server.server_port, flush=True)
    for _ in sys.stdin:
        marks.push_sample(["clap"], SCENE.clap())


if __name__ == "__main__":
    main()
