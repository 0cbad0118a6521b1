"""A real browser for tests: headless Chromium, driven through the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")
FAKE_DEVICES = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
_ALWAYS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)  # fmt: skip
_TIMEOUT_S = 30.0


class Chromium:
    """One tab. `problems` collects errors of the console and of the network, `abroad` every
    address that is not this machine's."""

    def __init__(self, *flags: str, size: tuple[int, int] = (1280, 900)) -> None:
        from websockets.sync.client import connect

        self._folder = tempfile.mkdtemp(prefix="vagus-chromium-")
        width, height = size
        self._process = subprocess.Popen(
            [
                str(PROGRAM), *_ALWAYS, *flags, f"--window-size={width},{height}",
                f"--user-data-dir={self._folder}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.problems: list[str] = []
        self.abroad: list[str] = []
        self.counts: Counter[str] = Counter()
        self._replies: dict[int, dict[str, Any]] = {}
        self._there = threading.Condition()
        self._n = 0
        self._link = connect(self._tab(), max_size=None)
        self._socket = self._link.__enter__()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        for domain in ("Network", "Runtime", "Page", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *exc: object) -> None:
        self._link.__exit__(None, None, None)
        self._reader.join()
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True,
            userGesture=True,
        )  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str, timeout_s: float = _TIMEOUT_S) -> Any:
        """The value of an expression once it is true."""
        end_s = time.monotonic() + timeout_s
        while not (found := self.run(script)):
            assert time.monotonic() < end_s, f"never true: {script}"
            self.run("new Promise((done) => setTimeout(done, 30))")
        return found

    def press(self, *keys: str) -> None:
        """Keys by name, such as Tab or Enter."""
        for key in keys:
            text = {"Enter": "\r", "Space": " "}.get(key, "")
            name = " " if key == "Space" else key
            code = {"Enter": 13, "Tab": 9, "Space": 32}.get(key, 0)
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent", type=kind, key=name, code=key, text=text,
                    windowsVirtualKeyCode=code,
                )  # fmt: skip

    def write(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def look(self, scheme: str = "light", width: int = 1280, height: int = 900) -> None:
        """The colour scheme and the screen's size."""
        told = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=told)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def screenshot(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        with self._there:
            self._n += 1
            number = self._n
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        with self._there:
            assert self._there.wait_for(lambda: number in self._replies, _TIMEOUT_S), method
            reply = self._replies.pop(number)
        assert "error" not in reply, (method, reply["error"])
        found: dict[str, Any] = reply["result"]
        return found

    def _tab(self) -> str:
        """The address of the first tab's DevTools."""
        told = Path(self._folder) / "DevToolsActivePort"
        end_s = time.monotonic() + _TIMEOUT_S
        while not (told.is_file() and told.read_text().count("\n")):
            assert time.monotonic() < end_s, "chromium does not start"
            time.sleep(0.05)
        port = told.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            tabs = json.load(answer)
        return str(next(t for t in tabs if t["type"] == "page")["webSocketDebuggerUrl"])

    def _read(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            for text in self._socket:
                told = json.loads(text)
                if "id" in told:
                    with self._there:
                        self._replies[told["id"]] = told
                        self._there.notify_all()
                else:
                    self._note(told["method"], told["params"])
        except ConnectionClosed:
            pass

    def _note(self, method: str, params: dict[str, Any]) -> None:
        self.counts[method] += 1
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            local = ("http://127.0.0.1:", "http://localhost:", "data:", "blob:", "about:")
            if not url.startswith(local):
                self.abroad.append(url)
        elif method == "Network.webSocketCreated":
            if not params["url"].startswith("ws://127.0.0.1:"):
                self.abroad.append(params["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"])[:400])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(str(params["entry"])[:400])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.problems.append(str(params["args"])[:400])
