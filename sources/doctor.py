"""What is wrong with this machine, and the one thing that mends it."""

from __future__ import annotations

import ctypes
import platform
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.endpoint import holder
from engine.errors import VagusError

__all__ = ["Finding", "as_plain", "examine"]

_PORTS = {
    "publish": 5570, "control": 5571, "dashboard": 5572, "metrics": 5573, "browser voice": 5574,
    "browser face": 5576,
}  # fmt: skip
_GLIBC = (2, 28)  # what the wheels of the device libraries are built for
_CLOCK_S = 1e-3
_DISCOVERY_S = 3.0
_OURS = "vagus-doctor"


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: what was looked at, whether it is well, what was seen, and the fix if not.

    `needed` is False for what an engine can do without.
    """

    what: str
    ok: bool
    seen: str
    fix: str = ""
    needed: bool = True


def examine() -> list[Finding]:
    """Look at everything; no look stops another."""
    looks: list[Callable[[], Finding]] = [
        _glibc, _clock, _onnxruntime, _liblsl, _discovery, _portaudio, _opencv, _cuda, _formats,
        *(lambda name=name, port=port: _port(name, port) for name, port in _PORTS.items()),
    ]  # fmt: skip
    return [look() for look in looks]


def _glibc() -> Finding:
    name, version = platform.libc_ver()
    if sys.platform != "linux" or name != "glibc":
        seen = f"{platform.system()} {name} {version}".strip()
        return Finding("C library", sys.platform != "linux", seen, _glibc_fix())
    found = tuple(int(part) for part in version.split(".")[:2])
    return Finding("C library", found >= _GLIBC, f"glibc {version}", _glibc_fix())


def _glibc_fix() -> str:
    return f"use a system with glibc {_GLIBC[0]}.{_GLIBC[1]} or newer, such as Debian 11"


def _clock() -> Finding:
    about = time.get_clock_info("monotonic")
    steps = []
    for _ in range(100):
        before_s = time.monotonic()
        while (now_s := time.monotonic()) == before_s:
            pass
        steps.append(now_s - before_s)
    ok = about.monotonic and max(steps[10:]) < 1.0 and min(steps) < _CLOCK_S
    seen = f"monotonic, steps of {1e9 * min(steps):.0f} ns"
    return Finding("clock", ok, seen, "this machine's clock is too coarse: check its time source")


def _onnxruntime() -> Finding:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        return Finding(
            "onnxruntime", False, str(error), "pip install --force-reinstall onnxruntime"
        )
    return Finding("onnxruntime", True, str(onnxruntime.__version__))


def _liblsl() -> Finding:
    from sources.lsl.source import liblsl

    try:
        lsl = liblsl()
    except VagusError as error:
        return Finding("liblsl", False, str(error), "pip install pylsl", needed=False)
    version = lsl.library_version()
    return Finding("liblsl", True, f"{version // 100}.{version % 100}", needed=False)


def _discovery() -> Finding:
    """Whether a stream of this machine is found on this machine."""
    from sources.lsl.source import liblsl

    fix = (
        "let UDP multicast and port 16571 pass the firewall, or name the peers in an lsl_api.cfg: "
        "[lab] KnownPeers={127.0.0.1}"
    )
    try:
        lsl = liblsl()
    except VagusError as error:
        return Finding("LSL discovery", False, str(error), "pip install pylsl", needed=False)
    name = f"{_OURS}-{time.monotonic_ns()}"
    outlet = lsl.StreamOutlet(lsl.StreamInfo(name, "Test", 1, 0.0, "float32", name))
    start_s = time.monotonic()
    found = lsl.resolve_byprop("name", name, timeout=_DISCOVERY_S)
    took_s = time.monotonic() - start_s
    del outlet
    seen = f"an own stream is found in {took_s:.1f} s" if found else "an own stream is not found"
    return Finding("LSL discovery", bool(found), seen, fix, needed=False)


def _portaudio() -> Finding:
    from sources.microphone import input_devices, portaudio

    try:
        version = portaudio().get_portaudio_version()[1]
        n = len(input_devices())
    except (VagusError, RuntimeError, OSError) as error:
        fix = "on Debian: apt install libportaudio2"
        return Finding("PortAudio", False, str(error), fix, needed=False)
    return Finding("PortAudio", True, f"{version}; {n} microphones", needed=False)


def _opencv() -> Finding:
    fix = "pip install 'opencv-python-headless>=4.10,<5'"
    try:
        import cv2

        ok = hasattr(cv2, "CascadeClassifier") and hasattr(cv2, "FaceDetectorYN")
        return Finding("OpenCV", ok, str(cv2.__version__), fix, needed=False)
    except (ImportError, OSError) as error:
        return Finding("OpenCV", False, str(error), fix, needed=False)


def _cuda() -> Finding:
    try:
        ctypes.CDLL("libcuda.so.1" if sys.platform == "linux" else "nvcuda.dll")
    except OSError:
        return Finding("CUDA", True, "no driver: bundles run on the CPU", needed=False)
    from importlib.util import find_spec

    fix = "pip install 'vagus[gpu]', to run bundles on the GPU"
    return Finding("CUDA", find_spec("torch") is not None, "a driver is there", fix, needed=False)


def _formats() -> Finding:
    from importlib.util import find_spec

    missing = [name for name in ("mne", "pyxdf") if find_spec(name) is None]
    seen = f"{', '.join(missing)} missing" if missing else "mne and pyxdf are there"
    return Finding("file formats", not missing, seen, "pip install 'vagus[formats]'", needed=False)


def _port(name: str, port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            by = holder(f"tcp://127.0.0.1:{port}") or error.strerror
            fix = f"stop it, or set another address for `{name}` in the config"
            return Finding(f"port {port}", False, f"taken by {by}", fix, needed=False)
    return Finding(f"port {port}", True, f"free for {name}")


def as_plain(findings: list[Finding]) -> list[dict[str, Any]]:
    """The findings as plain values."""
    return [
        {"what": f.what, "ok": f.ok, "seen": f.seen, "needed": f.needed}
        | ({} if f.ok else {"fix": f.fix})
        for f in findings
    ]
