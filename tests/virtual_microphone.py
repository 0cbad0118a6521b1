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

__all__ = ["MISSING", "SoundCard", "run_with_microphone", "sound_card", "virtual_microphone"]

_TOOLS = ("pulseaudio", "pactl")
MISSING = ", ".join(tool for tool in _TOOLS if shutil.which(tool) is None)


@contextmanager
def sound_card(folder: Path, raw: bytes) -> Iterator[SoundCard]:
    """A card on which PortAudio sees `vmic` and `filemic` (int16, mono, 16 kHz: `raw`)."""
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
    card = SoundCard(env)
    card.start()
    try:
        yield card
    finally:
        card.stop()


class SoundCard:
    """A PulseAudio server of its own; `env` is what a process needs that is to hear it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Plug it in."""
        self._server = subprocess.Popen(
            ["pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "-n", "--log-target=null",
             "-L", "module-native-protocol-unix",
             "-L", "module-null-sink sink_name=vspk rate=16000 channels=1"],
            env=self.env, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end_s = time.monotonic() + 10.0
        while subprocess.run(["pactl", "info"], env=self.env, capture_output=True).returncode:
            assert time.monotonic() < end_s, "the sound server did not come up"

    def stop(self) -> None:
        """Pull it out."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(5.0)
            self._server = None


@contextmanager
def virtual_microphone(folder: Path, raw: bytes) -> Iterator[dict[str, str]]:
    """The environment of such a card, plugged in."""
    with sound_card(folder, raw) as card:
        yield card.env


def run_with_microphone(env: dict[str, str], program: str) -> str:
    """Run Python code in a process that sees these devices; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**env, "PYTHONPATH": str(Path.cwd())},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
