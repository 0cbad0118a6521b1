"""The dashboard's server: who may come in, what a page is told, and what it may ask for."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from engine.config import config_from
from engine.daemon import Engine
from sinks.dashboard import Dashboard
from sinks.dashboard.server import VERBS
from tests.messages import TIMEOUT_S
from tests.pages import shown
from tests.test_live import running

VAGUS = Path(sys.executable).parent / "vagus"


def session(name: str = "p1", **more: Any) -> Any:
    kinds = {"eeg": "simulated-eeg", "voice": "simulated-voice"}
    streams = {
        kind: {"source": {"type": "simulate", "kind": kind, "person": 7}, "bundle": bundle}
        for kind, bundle in kinds.items()
    }
    sockets = {"publish": "tcp://127.0.0.1:*", "control": "tcp://127.0.0.1:*"}
    return config_from({"session": name, "streams": streams} | sockets | more)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running(session("p1"), session("p2")) as engine:
        yield engine


@pytest.fixture(scope="module")
def page(engine: Engine) -> Iterator[Dashboard]:
    with shown(engine) as page:
        yield page


def enter(page: Dashboard) -> Any:
    url = f"ws://127.0.0.1:{page.port}/live?token={page.token}"
    return connect(url, additional_headers={"Origin": f"http://127.0.0.1:{page.port}"})


def hear(live: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    (told,) = hear_all(live, kind)
    return told


def hear_all(live: ClientConnection, *kinds: str) -> list[dict[str, Any]]:
    """The next message of each of these kinds, in whatever order they come."""
    found: dict[str, dict[str, Any]] = {}
    end_s = time.monotonic() + TIMEOUT_S
    while len(found) < len(kinds):
        told: dict[str, Any] = json.loads(live.recv(TIMEOUT_S))
        found |= {told["type"]: told} if told["type"] in kinds else {}
        assert time.monotonic() < end_s, f"no {kinds}"
    return [found[kind] for kind in kinds]


def ask(live: ClientConnection, verb: Any, args: Any, number: int = 1) -> dict[str, Any]:
    live.send(json.dumps({"type": "ask", "id": number, "verb": verb, "args": args}))
    return hear(live, "reply")


def watch(live: ClientConnection, name: str = "p1", look: bool = True) -> None:
    while name not in hear(live, "sessions")["sessions"]:
        pass
    live.send(json.dumps({"type": "watch", "session": name, "look": look}))


def got(page: Dashboard, path: str, host: str | None = None, **headers: str) -> Any:
    link = http.client.HTTPConnection("127.0.0.1", page.port, timeout=TIMEOUT_S)
    link.putrequest("GET", path, skip_host=True)
    for name, value in {"Host": host or f"127.0.0.1:{page.port}", **headers}.items():
        link.putheader(name, value)
    link.endheaders()
    answer = link.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    link.close()
    return answer


HOSTS = {
    "127.0.0.1:{port}": True, "localhost:{port}": True, "[::1]:{port}": True,
    "127.0.0.1": False, "127.0.0.1:1": False, "evil.example:{port}": False,
    "localhost.evil.example:{port}": False, "127.0.0.1:{port}.evil.example": False,
}  # fmt: skip
ORIGINS = {
    "http://127.0.0.1:{port}": True, "http://localhost:{port}": True,
    "https://127.0.0.1:{port}": False, "http://127.0.0.1:1": False, "http://evil.example": False,
    "null": False, "": False, "http://127.0.0.1:{port}.evil.example": False,
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/", "/page.js"])
def test_only_an_exact_host_gets_the_page(page: Dashboard, path: str, host: str) -> None:
    answer = got(page, f"{path}?token={page.token}", host=host.format(port=page.port))
    assert answer.status == (200 if HOSTS[host] else 403)


@pytest.mark.parametrize("origin", ORIGINS)
def test_only_an_exact_origin_may_steer(page: Dashboard, origin: str) -> None:
    url = f"ws://127.0.0.1:{page.port}/live?token={page.token}"
    headers = {"Origin": origin.format(port=page.port)}
    if ORIGINS[origin]:
        with connect(url, additional_headers=headers):
            return
    with pytest.raises(InvalidStatus, match="403"), connect(url, additional_headers=headers):
        pass


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?Token={token}", "?token={token}x"])
@pytest.mark.parametrize("path", ["/", "/live", "/nothing"])
def test_nothing_is_told_without_the_token(page: Dashboard, path: str, query: str) -> None:
    answer = got(page, path + query.format(token=page.token))
    assert answer.status == 401
    assert b"vagus dashboard" in answer.body


def test_a_page_that_is_not_there_is_not_found(page: Dashboard) -> None:
    for path in ("/nothing", "/../server.py", "/%2e%2e/server.py", "/index.html/"):
        assert got(page, f"{path}?token={page.token}").status == 404


def test_the_page_loads_nothing_from_elsewhere(page: Dashboard) -> None:
    answer = got(page, f"/?token={page.token}")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    folder = Path(sys.modules["sinks.dashboard"].__file__ or "").parent / "page"
    for file in folder.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text
        assert "http://" not in text


def test_a_page_that_opens_late_is_told_everything_at_once(page: Dashboard) -> None:
    with enter(page) as live:
        watch(live)
        schema = hear(live, "schema")
        assert schema["session"] == "p1"
        assert list(schema["bundles"]) == ["eeg", "voice"]
        first = hear(live, "prediction")
    with enter(page) as live:
        watch(live)
        history = hear(live, "history")["predictions"]
        assert history[-1]["t"] >= first["t"]
        late = hear(live, "prediction")
        assert late["late"]
        assert late["t"] == history[-1]["t"]


def test_a_dashboard_that_starts_late_asks_for_what_was_said_before(engine: Engine) -> None:
    seat = engine.seats["p1"]
    with shown(engine) as late, enter(late) as live:
        watch(live)
        end_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end_s:
            told = hear(live, "history")["predictions"]
            if told and told[0]["t"] < seat.session.grid.time(8):
                break
    assert told[0]["t"] < seat.session.grid.time(8)
    times = [p["t"] for p in told]
    assert times == sorted(set(times))


def test_previews_come_while_a_page_looks_and_end_when_it_looks_away(
    engine: Engine, page: Dashboard
) -> None:
    with enter(page) as live:
        watch(live, "p2")
        told = hear(live, "preview")
        assert told["session"] == "p2"
        assert set(told["streams"]) <= {"eeg", "voice"}
        assert engine.previews.due_s < float("inf")
    with enter(page) as live:
        watch(live, "p2", look=False)
        for _ in range(20):
            assert json.loads(live.recv(TIMEOUT_S))["type"] != "preview"


def test_a_page_sees_one_session_at_a_time(page: Dashboard) -> None:
    with enter(page) as live:
        watch(live, "p2")
        for _ in range(30):
            told = json.loads(live.recv(TIMEOUT_S))
            assert told.get("session", "p2") == "p2"


def test_a_button_s_verb_reaches_its_session_and_its_answer_the_page(page: Dashboard) -> None:
    with enter(page) as live:
        watch(live, "p2")
        asked = {"type": "ask", "id": 1, "verb": "mark", "args": {"value": "hello"}}
        live.send(json.dumps(asked))
        reply, marker = hear_all(live, "reply", "marker")
        assert reply == {"type": "reply", "id": 1, "ok": True, "result": {"session": "p2"}}
        assert marker["value"] == "hello"
        refused = ask(live, "mute", {"stream": "nose"}, number=2)
        assert (refused["id"], refused["ok"], refused["code"]) == (2, False, "not_found")


@pytest.mark.parametrize(
    "verb", ["shutdown", "leave", "join", "status", "preview", "fetch", "nothing", None, 7]
)
def test_a_page_cannot_ask_for_more_than_its_buttons(page: Dashboard, verb: Any) -> None:
    assert verb not in VERBS
    with enter(page) as live:
        watch(live)
        told = ask(live, verb, {})
        assert not told["ok"]
        assert "a page cannot ask" in told["message"]


def test_a_page_does_not_choose_where_a_recording_goes(
    page: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with enter(page) as live:
        watch(live)
        assert ask(live, "record", {"path": str(tmp_path / "mine.mcap"), "raw": False})["ok"]
        assert ask(live, "stop_record", {})["ok"]
    assert [path.parent.name for path in tmp_path.rglob("*.mcap")] == ["rec"]


@pytest.mark.parametrize(
    "told", ["", "{", "[]", "7", '"x"', "{}", b"\xff\x00", "[" * 4000, '{"type":"watch"}']
)
def test_garbage_gets_a_reply_and_nothing_else_happens(page: Dashboard, told: str | bytes) -> None:
    with enter(page) as live:
        live.send(told)
        assert hear(live, "reply")["ok"] is False


def test_a_page_that_says_too_much_is_cut_off(page: Dashboard) -> None:
    with enter(page) as live:
        live.send("x" * 5000)
        with pytest.raises(ConnectionClosed, match="1009"):
            hear(live, "never")


def test_a_port_in_use_is_told_with_the_way_out(page: Dashboard) -> None:
    done = subprocess.run(
        [VAGUS, "dashboard", "--port", str(page.port)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert f"port {page.port} cannot be bound" in done.stderr


def test_a_dashboard_needs_the_control_socket_that_belongs_to_its_engine() -> None:
    told = [VAGUS, "dashboard", "tcp://127.0.0.1:9", "--port", "0"]
    done = subprocess.run(told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--control" in done.stderr


def test_a_dashboard_beside_an_engine_ends_with_it(engine: Engine) -> None:
    told = [VAGUS, "dashboard", engine.publisher.url, "--control", engine.control.url]
    process = subprocess.Popen(
        [*told, "--port", "0", "--attached"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.communicate(timeout=60)  # closes its standard input
    assert process.returncode == 0


def test_an_engine_whose_config_asks_for_a_dashboard_serves_one(tmp_path: Path) -> None:
    config = session("p1", dashboard={"port": 0}).model_dump_json(exclude_none=True)
    (tmp_path / "live.yaml").write_text(config)
    process = subprocess.Popen(
        [VAGUS, "run", "live.yaml"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    address = process.stderr.readline().removeprefix("dashboard: ").strip()
    port, _, token = address.removeprefix("http://127.0.0.1:").partition("/?token=")
    link = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
    link.request("GET", f"/?token={token}")
    assert b"<title>vagus</title>" in link.getresponse().read()
    link.close()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.1", int(port)).connect()
