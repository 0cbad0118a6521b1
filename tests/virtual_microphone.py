"""A PulseAudio null sink as a microphone, and a file that is read as one, paced in real time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["MISSING", "run_with_microphone", "virtual_microphone"]

_TOOLS = ("pulseaudio", "pactl")
MISSING = ", ".join(tool for tool in _TOOLS if shutil.which(tool) is None)


@contextmanager
def virtual_microphone(folder: Path, raw: bytes) -> Iterator[dict[str, str]]:
    """The environment in which PortAudio sees `vmic` and `filemic` (int16, mono, 16 kHz: `raw`)."""
    run = folder / "run"
    run.mkdir(mode=0o700)
    (folder / "mic.raw").write_bytes(raw)
    (folder / ".asoundrc").write_text(
        'pcm.vmic { type pulse device "vspk.monitor" hint { show on description "mic" } }\n'
        f'pcm.filemic {{ type file slave.pcm "vmic" file "/dev/null" infile "{folder}/mic.raw" '
        'format "raw" hint { show on description "file" } }\n'
        'pcm.!default { type pulse device "vspk.monitor" }\nctl.!default { type pulse }\n'
    )
    where = {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(run),
        "PULSE_SERVER": f"unix:{run}/pulse/native",
    }
    env = {**os.environ, **where}
    server = subprocess.Popen(
        ["pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "-n", "--log-target=null",
         "-L", "module-native-protocol-unix",
         "-L", "module-null-sink sink_name=vspk rate=16000 channels=1"],
        env=env, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end_s = time.monotonic() + 10.0
        while subprocess.run(["pactl", "info"], env=env, capture_output=True).returncode:
            assert time.monotonic() < end_s, "the sound server did not come up"
        yield env
    finally:
        server.terminate()
        server.wait(5.0)


def run_with_microphone(env: dict[str, str], program: str) -> str:
    """Run Python code in a process that sees these devices; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**env, "PYTHONPATH": str(Path.cwd())},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
