"""An MJPEG camera on loopback: `python mjpeg_server.py PORT [RATE_HZ]`; prints its port.

A line `freeze` on standard input makes it send the same picture again and again, `hang` makes it
send nothing; `go` ends both.
"""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

STATE = {"mode": "go"}
RATE_HZ = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0


def picture(n: int) -> bytes:
    """A grey field with a bright bar that moves by a column each time."""
    field = np.full((120, 160, 3), 90, np.uint8)
    field[:, (2 * n) % 150 : (2 * n) % 150 + 10] = 220
    return cv2.imencode(".jpg", field)[1].tobytes()


class Camera(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        n = 0
        try:
            while True:
                if STATE["mode"] != "hang":
                    jpeg = picture(n)
                    self.wfile.write(
                        b"--frame\r\nContent-Type: image/jpeg\r\n"
                        + f"Content-Length: {len(jpeg)}\r\n\r\n".encode()
                        + jpeg
                        + b"\r\n"
                    )
                if STATE["mode"] == "go":
                    n += 1
                time.sleep(1.0 / RATE_HZ)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, *about: object) -> None:
        pass


def listen() -> None:
    for line in sys.stdin:
        STATE["mode"] = line.strip()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera)
    threading.Thread(target=listen, daemon=True).start()
    print(server.server_port, flush=True)
    server.serve_forever()
