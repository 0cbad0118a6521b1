"""What is plugged in: microphones, cameras and LSL streams, each found without opening it long."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine.errors import VagusError

__all__ = ["cameras", "devices", "lsl_streams"]

_LSL_WAIT_S = 1.0
_PROBED = 4  # camera indices that are tried where the system lists none


def devices() -> dict[str, Any]:
    """{microphones, cameras, lsl: [...], problems: {kind: why it could not be looked for}}."""
    from sources.microphone import input_devices

    def microphones() -> list[dict[str, Any]]:
        return [
            {
                "device": d["index"],
                "name": d["name"],
                "channels": d["max_input_channels"],
                "rate_hz": d["default_samplerate"],
            }
            for d in input_devices()
        ]

    looks: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "microphones": microphones,
        "cameras": cameras,
        "lsl": lsl_streams,
    }
    told: dict[str, Any] = {"problems": {}}
    with ThreadPoolExecutor(len(looks)) as pool:
        running = {kind: pool.submit(look) for kind, look in looks.items()}
        for kind, future in running.items():
            try:
                told[kind] = future.result()
            except (VagusError, OSError, RuntimeError, ImportError) as error:
                told[kind] = []
                told["problems"][kind] = str(error)
    return {key: told[key] for key in (*looks, "problems")}


def cameras() -> list[dict[str, Any]]:
    """{device, name} of every camera; on Linux what video4linux lists, elsewhere what opens."""
    if sys.platform == "linux":
        found = []
        for node in sorted(Path("/sys/class/video4linux").glob("video*")):
            index = node / "index"
            if index.is_file() and index.read_text().strip() != "0":
                continue  # the same camera's metadata
            name = (node / "name").read_text().strip() if (node / "name").is_file() else node.name
            found.append({"device": int(node.name.removeprefix("video")), "name": name})
        return found
    return _probed()


def lsl_streams() -> list[dict[str, Any]]:
    """{name, type, source_id, host, channels, rate_hz} of every stream that answers."""
    from sources.lsl.source import liblsl
    from sources.lsl.streams import found

    streams = [found(info) for info in liblsl().resolve_streams(_LSL_WAIT_S)]
    return [
        {
            "name": s.name,
            "type": s.type,
            "source_id": s.source_id,
            "host": s.host,
            "channels": s.n_channels,
            "rate_hz": s.rate_hz,
        }
        for s in sorted(streams, key=str)
    ]


def _probed() -> list[dict[str, Any]]:
    import cv2

    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    found = []
    for index in range(_PROBED):
        camera = cv2.VideoCapture(index)
        if camera.isOpened():
            found.append({"device": index, "name": f"camera {index}"})
        camera.release()
    return found
