"""The capturing process: pictures of one camera as JPEG on standard output, stamped on arrival.

A blocked camera cannot be interrupted, only killed; hence a process of its own. Each picture is
a header (the monotonic clock, the number of bytes) and the JPEG. The process ends with 0 where a
file is over, 3 where nothing can be opened, 4 where the stream broke off.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import time
from typing import Any

__all__ = ["ENDED", "HEADER", "NOT_THERE", "main"]

HEADER = struct.Struct("<dI")  # seconds of the monotonic clock, bytes of the JPEG
ENDED, NOT_THERE, BROKEN = 0, 3, 4
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_MAX_EMPTY = 30  # pictures without content in a row
_EARLY = 0.8  # of a period: a picture that comes sooner is left out


def main() -> None:
    """Capture what the JSON in the first argument asks for, until the reader is gone."""
    _die_with_parent()
    told = json.loads(sys.argv[1])
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the pictures
    try:
        sys.exit(_capture(told, out))
    except BrokenPipeError:
        sys.exit(ENDED)


def _capture(told: dict[str, Any], out: Any) -> int:
    import cv2

    cv2.setNumThreads(1)
    camera = cv2.VideoCapture(told["device"])
    if not camera.isOpened():
        print(f"nothing can be opened at {told['device']!r}", file=sys.stderr)
        return NOT_THERE
    for key, name in (("width", "FRAME_WIDTH"), ("height", "FRAME_HEIGHT"), ("rate_hz", "FPS")):
        if told.get(key) and not told["paced"]:
            camera.set(getattr(cv2, f"CAP_PROP_{name}"), told[key])
    quality = [cv2.IMWRITE_JPEG_QUALITY, told["quality"]]
    start_s, last_s, n_empty = time.monotonic(), -1e9, 0
    while camera.grab():
        now_s = time.monotonic()
        if told["paced"]:
            due_s = start_s + camera.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            time.sleep(max(0.0, due_s - now_s))
            now_s = due_s
        if told.get("rate_hz") and now_s - last_s < _EARLY / told["rate_hz"]:
            continue
        done, picture = camera.retrieve()
        if not done or picture is None or not picture.size:
            n_empty += 1
            if n_empty > _MAX_EMPTY:
                print("the camera gives empty pictures", file=sys.stderr)
                return BROKEN
            continue
        n_empty, last_s = 0, now_s
        jpeg = cv2.imencode(".jpg", picture, quality)[1].tobytes()
        out.write(HEADER.pack(now_s, len(jpeg)))
        out.write(jpeg)
        out.flush()
    return ENDED if told["paced"] else BROKEN


def _die_with_parent() -> None:
    """End when the engine does, even while a camera blocks."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    main()
