"""The examples of docs/sinks.md and docs/subscribers.md, each run against a real engine."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from engine.daemon import Engine
from engine.types import Prediction
from sinks import subscribe
from tests.bundles import LABELS, write
from tests.chromium import Chromium, needs_chromium
from tests.engines import config, running

DOCS = Path(__file__).parents[1] / "docs"
WAIT_S = 20.0
NODE = shutil.which("node")


def sections(page: str) -> dict[str, str]:
    """The text below each heading."""
    parts = re.split(r"^## (.+)$", (DOCS / page).read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def elsewhere(text: str, ports: dict[str, str], engine: Engine | None = None) -> str:
    """`text` with this test's addresses in place of the page's."""
    for port, free in ports.items():
        text = re.sub(rf"\b{port}\b", free, text)
    if engine is not None:
        text = text.replace("tcp://127.0.0.1:5570", engine.publisher.url)
        text = text.replace("tcp://127.0.0.1:5571", engine.control.url)
    return text


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    """Free ones in place of those that the pages name."""
    return {
        "9000": str(free_port(socket.SOCK_DGRAM)),
        **{port: str(free_port()) for port in ("5575", "5573", "8000")},
    }


@pytest.fixture(scope="module")
def engine(ports: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One that runs with all sinks of the page, in a folder of its own, and has predicted."""
    folder = tmp_path_factory.mktemp("home")
    bundle = write(folder / "test-eeg")
    told = {name: YAML(typ="safe").load(elsewhere(t, ports)) for name, t in sinks().items()}
    assert told.pop("console") == {"sinks": [{"type": "console"}]}  # would print into the others
    every = [sink for one in told.values() for sink in one["sinks"]]
    made = config(bundle, "p01", 600.0, hop_s=0.1, sinks=every)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with running(made) as engine:
            for message in subscribe(engine.publisher.url, timeout_s=WAIT_S):
                if isinstance(message, Prediction) and message.seq >= 30:
                    break
            yield engine


def sinks() -> dict[str, str]:
    """{sink: the lines of a config that the page shows}"""
    found = {name: blocks(text, "yaml") for name, text in sections("sinks.md").items()}
    return {name: code for name, (code, *_) in ((n, c) for n, c in found.items() if c)}


def printed(code: str, names: dict[str, Any] | None = None) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "page", "exec"), names if names is not None else {"__name__": "page"})
    return out.getvalue()


@pytest.mark.parametrize("name", sinks())
def test_the_example_of_a_sink_shows_what_the_engine_says(
    name: str, engine: Engine, ports: dict[str, str]
) -> None:
    (code,) = blocks(sections("sinks.md")[name], "python")
    text = printed(elsewhere(code, ports, engine))
    if name == "metrics":
        assert re.search(r'vagus_predictions_total\{label="\w+",session="p01"\} \d', text)
    else:
        assert any(label in text for label in LABELS), text


def test_the_example_of_emotionml_writes_a_document(engine: Engine) -> None:
    (code,) = blocks(sections("sinks.md")["EmotionML"], "python")
    printed(elsewhere(code, {}, engine))
    assert Path("p01.emotionml").read_text().count("<emotion ") == 5


def test_the_example_of_a_sink_of_ones_own_is_a_sink() -> None:
    from tests.messages import one_of_each, prediction

    (code,) = blocks(sections("sinks.md")["A sink of your own"], "python")
    names: dict[str, Any] = {}
    printed(code, names)
    lamp = names["Lamp"](pin=3)
    for message in (*one_of_each(), prediction(label="angry")):
        lamp.write(message)
    assert lamp.red
    lamp.close()


PROGRAMS = {
    f"{name} {k}": code
    for name, text in sections("subscribers.md").items()
    for k, code in enumerate(blocks(text, "python"), 1)
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_subscriber_in_python_prints_predictions_and_has_no_more_than_ten_lines(
    name: str, engine: Engine
) -> None:
    code = PROGRAMS[name]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
    lines = first_lines([sys.executable, "-u", "-c", elsewhere(code, {}, engine)], 20)
    if name.startswith("Nothing missed"):
        assert {"schema", "prediction", "health"} >= {line[0] for line in lines} >= {"prediction"}
    else:
        assert {line[1] for line in lines} <= set(LABELS)


def first_lines(command: list[str], n: int) -> list[list[str]]:
    """The words of the first lines that a program prints; then it is ended."""
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(n)]
        process.kill()
    return lines


def javascript() -> str:
    (code,) = blocks(sections("subscribers.md")["JavaScript"], "javascript")
    assert len(code.splitlines()) <= 10
    return code


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_subscriber_in_javascript_prints_predictions_in_node(
    engine: Engine, ports: dict[str, str]
) -> None:
    flag = "--experimental-websocket"  # not needed from version 22 on, and taken all the same
    lines = first_lines([str(NODE), flag, "-e", elsewhere(javascript(), ports)], 10)
    assert {line[1] for line in lines} <= set(LABELS)


@contextlib.contextmanager
def served(folder: Path, port: str) -> Iterator[None]:
    """The files of a folder over HTTP, as `python -m http.server` does."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    there = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), there) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@needs_chromium
@pytest.mark.slow
def test_the_subscriber_in_javascript_and_its_page_work_in_a_browser(
    engine: Engine, ports: dict[str, str]
) -> None:
    page = f"http://127.0.0.1:{ports['8000']}/subscriber.html"
    with served(DOCS / "examples", ports["8000"]), Chromium() as tab:
        tab.open(f"{page}#choose-your-own@{ports['5575']}")
        labels = "|".join(LABELS)
        tab.until(f"/^({labels})$/.test(document.getElementById('label')?.textContent)")
        assert 0 < tab.run("document.getElementById('confidence').value") <= 1
        heard = "globalThis.heard = []; console.log = (...words) => heard.push(words);"
        tab.run(f"(() => {{ {heard} {elsewhere(javascript(), ports)} }})()")
        tab.until("heard.length >= 5")
        words = tab.run("heard")
        assert tab.problems == []
        assert tab.abroad == []
    assert {label for _, label, _ in words} <= set(LABELS)
    assert [t for t, _, _ in words] == sorted({t for t, _, _ in words})


@needs_chromium
@pytest.mark.slow
def test_a_page_from_another_origin_hears_nothing(engine: Engine, ports: dict[str, str]) -> None:
    other = str(free_port())
    with served(DOCS / "examples", other), Chromium() as tab:
        tab.open(f"http://127.0.0.1:{other}/subscriber.html#choose-your-own@{ports['5575']}")
        tab.until("document.getElementById('told')?.textContent == 'closed (1006)'")
        assert tab.run("document.getElementById('label').textContent") == "waiting"
