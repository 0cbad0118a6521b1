"""The browser's own microphone and camera, offered on the page, become predictions."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile

from engine.config import config_from
from engine.daemon import Engine
from sources.participant import LatentState
from sources.synthetic.portrait import Expression, Sitter, portrait
from sources.synthetic.voice import SyntheticVoice
from tests.chromium import FAKE_DEVICES, Chromium, needs_chromium
from tests.pages import shown
from tests.test_live import running

pytestmark = [needs_chromium, pytest.mark.slow]

SHARE = "document.querySelector('#offers button[data-stream={name}]')"
SAID = (
    "window.vagus.predictions > 0 && [...document.querySelectorAll('#parts li')]"
    ".find((row) => row.dataset.name === '{name}').textContent.includes('quality')"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def config(port: int, streams: dict[str, str]) -> Any:
    origins = [f"http://127.0.0.1:{port}"]
    made: dict[str, Any] = {}
    for kind, bundle in streams.items():
        source = {"type": "browser", "kind": kind, "port": 0, "origins": origins}
        made[kind] = {"source": source, "bundle": bundle}
    return config_from(
        {
            "session": "me",
            "purpose": "development",
            "publish": "tcp://127.0.0.1:*",
            "control": "tcp://127.0.0.1:*",
            "dashboard": {},
            "streams": made,
        }
    )


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who talks, as a file for the browser's fake microphone."""
    voice = SyntheticVoice(LatentState(7), 16000.0)
    path = tmp_path_factory.mktemp("speech") / "voice.wav"
    soundfile.write(path, np.concatenate([voice.next_block() for _ in range(12)])[:, 0], 16000)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who smiles and stops, as a file for the browser's fake camera."""
    rng = np.random.default_rng(5)
    sitter = Sitter.of(rng)
    path = tmp_path_factory.mktemp("film") / "face.y4m"
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W320 H240 F15:1 Ip A1:1 C420mpeg2\n")
        for smile in np.sin(np.linspace(0, 2 * np.pi, 30)):
            picture = portrait(sitter, Expression(smile=float(smile)), (320, 240), rng)
            planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
            file.write(b"FRAME\n" + planes.tobytes())
    return path


@pytest.fixture(scope="module")
def browser(speech: Path, film: Path) -> Iterator[Chromium]:
    files = (
        f"--use-file-for-fake-audio-capture={speech}",
        f"--use-file-for-fake-video-capture={film}",
    )
    with Chromium(*FAKE_DEVICES, *files) as browser:
        yield browser


def state(engine: Engine, stream: str) -> str:
    return engine.seats["me"].session.streams[stream]


def until(browser: Chromium, engine: Engine, stream: str, wanted: str) -> None:
    for _ in range(600):
        if state(engine, stream) == wanted:
            return
        browser.run("new Promise((done) => setTimeout(done, 50))")
    raise AssertionError(f"{stream} never became {wanted}")


@pytest.mark.parametrize("bundle", ["simulated-voice", "speech-4"])
def test_the_microphone_of_a_visitor_becomes_predictions_after_consent(
    browser: Chromium, bundle: str
) -> None:
    port = free_port()
    with running(config(port, {"voice": bundle})) as engine, shown(engine, port) as page:
        browser.open(page.address)
        share = SHARE.format(name="voice")
        browser.until(f"{share} !== null")
        assert browser.run(f"{share}.disabled")  # nothing before the text was agreed to
        assert "can be wrong" in browser.run("document.getElementById('share').textContent")
        assert state(engine, "voice") != "live"
        browser.run("document.getElementById('agree').click()")
        browser.run(f"{share}.click()")
        until(browser, engine, "voice", "live")
        browser.until(SAID.format(name="voice"))
        assert browser.run(f"{share}.getAttribute('aria-pressed')") == "true"
        browser.run(f"{share}.click()")  # and it is over at once
        until(browser, engine, "voice", "lost")
        browser.run(f"{share}.click()")
        until(browser, engine, "voice", "live")
        browser.run("document.getElementById('agree').click()")  # consent is taken back
        until(browser, engine, "voice", "lost")
        browser.open("about:blank")
    assert browser.problems == []
    assert browser.abroad == []


def test_the_camera_of_a_visitor_becomes_predictions_and_a_picture(browser: Chromium) -> None:
    port = free_port()
    with (
        running(config(port, {"face": "face-6"})) as engine,
        shown(engine, port) as page,
    ):
        browser.open(page.address)
        share = SHARE.format(name="face")
        browser.until(f"{share} !== null")
        browser.run("document.getElementById('agree').click()")
        browser.run(f"{share}.click()")
        until(browser, engine, "face", "live")
        browser.until(SAID.format(name="face"))
        browser.until("window.vagus.box")  # the preview is cut out around the face that was found
        assert not browser.run("document.getElementById('mirror').hidden")
        browser.open("about:blank")  # a page that is closed shares nothing
        until(browser, engine, "face", "lost")
    assert browser.problems == []
    assert browser.abroad == []
