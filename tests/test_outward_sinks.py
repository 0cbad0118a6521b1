"""Sinks that speak other protocols, each read back by a real client of that protocol."""

from __future__ import annotations

import csv
import json
import math
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from engine.errors import ConfigError, ResourceError
from sinks.emotionml import emotionml
from sinks.jsonl import JsonlSink
from sinks.lsl import LslSink
from sinks.metrics import MetricsSink
from sinks.osc import OscSink
from sinks.table import TableSink
from sinks.websocket import WebSocketSink
from tests.messages import event, health, marker, one_of_each, prediction, schema

WAIT_S = 10.0


# -- files ------------------------------------------------------------------------------------


def test_a_full_json_file_moves_up_and_the_oldest_goes(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "p.jsonl", max_mb=0.002, keep=2)
    for seq in range(40):
        sink.write(prediction(seq))
    sink.close()
    names = sorted(os.listdir(tmp_path))
    assert names == ["p.jsonl", "p.jsonl.1", "p.jsonl.2"]
    seqs = [
        json.loads(line)["seq"]
        for name in reversed(names)
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert seqs == list(range(seqs[0], 40))
    assert all((tmp_path / name).stat().st_size <= 2000 for name in names)


@pytest.mark.parametrize("given", [{"max_mb": 0.0}, {"max_mb": -1.0}, {"keep": 0}])
def test_a_rotation_that_keeps_nothing_is_refused(tmp_path: Path, given: Any) -> None:
    with pytest.raises(ConfigError, match="need above 0"):
        JsonlSink(tmp_path / "p.jsonl", **given)


def test_a_csv_table_has_a_row_per_prediction_and_a_column_per_label(tmp_path: Path) -> None:
    sink = TableSink(tmp_path / "t.csv")
    sink.write(prediction(0, label=None, probabilities=None, confidence=None))
    sink.write(prediction(1))
    sink.write(event())
    with (tmp_path / "t.csv").open() as file:  # not closed yet: every line is there at once
        rows = list(csv.DictReader(file))
    assert [row["seq"] for row in rows] == ["0", "1"]
    assert [row["p_happy"] for row in rows] == ["", "0.75"]
    assert rows[1]["missing"] == "voice"
    sink.close()


def test_other_labels_begin_another_table(tmp_path: Path) -> None:
    sink = TableSink(tmp_path / "t.csv")
    sink.write(prediction(0))
    sink.write(prediction(1, probabilities={"rest": 0.5, "task": 0.5}, label="rest"))
    sink.close()
    assert "p_happy" in (tmp_path / "t.csv").read_text()
    assert "p_rest" in (tmp_path / "t-2.csv").read_text()


def test_a_parquet_table_reads_back_with_its_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    sink = TableSink(tmp_path / "t.parquet")
    for seq in range(600):
        sink.write(prediction(seq))
    sink.close()
    table = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert table["seq"] == list(range(600))
    assert set(table["p_calm"]) == {0.25}
    assert set(table["valence"]) == {None}


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.csv or \.parquet"):
        TableSink(tmp_path / "t.xlsx")


# -- EmotionML --------------------------------------------------------------------------------


def test_an_emotionml_document_is_well_formed_and_names_its_vocabulary() -> None:
    given = prediction(0, t_wall=1.5, dimensions={"valence": 0.25, "arousal": 0.5})
    root = ElementTree.fromstring("\n".join(emotionml([given], ("calm", "happy"))))
    space = {"e": "http://www.w3.org/2009/10/emotionml"}
    assert root.get("category-set") == "#vagus"
    names = [item.get("name") for item in root.findall("e:vocabulary/e:item", space)]
    assert names == ["calm", "happy"]
    (emotion,) = root.findall("e:emotion", space)
    assert emotion.get("start") == "1500"
    values = {c.get("name"): float(c.get("value") or "nan") for c in emotion}
    assert values == {"calm": 0.25, "happy": 0.75, "pleasure": 0.25, "arousal": 0.5}


def test_the_six_basic_emotions_go_by_their_standard_names() -> None:
    given = prediction(0, probabilities={"happy": 0.5, "sad": 0.5})
    root = ElementTree.fromstring("\n".join(emotionml([given], ("happy", "sad"))))
    assert str(root.get("category-set")).endswith("#big6")
    names = [c.get("name") for c in root.iter() if c.tag.endswith("category")]
    assert names == ["happiness", "sadness"]


# -- LSL --------------------------------------------------------------------------------------


def test_lsl_inlets_see_probabilities_at_the_windows_end_and_markers() -> None:
    pylsl = pytest.importorskip("pylsl")
    sink = LslSink()
    sink.write(schema(session="lsl1"))
    found = pylsl.resolve_byprop("name", "vagus.lsl1", timeout=WAIT_S)
    marks = pylsl.resolve_byprop("name", "vagus.lsl1.markers", timeout=WAIT_S)
    inlet, marker_inlet = pylsl.StreamInlet(found[0]), pylsl.StreamInlet(marks[0])
    inlet.open_stream(WAIT_S)
    marker_inlet.open_stream(WAIT_S)
    t = time.monotonic()
    sink.write(prediction(0, session="lsl1", t=t))
    sink.write(replace(marker(0, session="lsl1", value="clap"), t=t))
    values, stamp_s = inlet.pull_sample(WAIT_S)
    assert values[:2] == [0.25, 0.75]
    assert all(math.isnan(v) for v in values[2:5])
    assert values[5:] == [0.75, 2.0]
    assert abs(stamp_s - (pylsl.local_clock() - (time.monotonic() - t))) < 0.01
    assert marker_inlet.pull_sample(WAIT_S)[0] == ["label:happy"]
    assert marker_inlet.pull_sample(WAIT_S)[0] == ["marker:clap"]
    info = inlet.info(WAIT_S)
    assert info.get_channel_labels()[:2] == ["calm", "happy"]
    assert (info.type(), info.nominal_srate()) == ("Emotion", 0.0)
    del inlet, marker_inlet
    sink.close()


# -- OSC --------------------------------------------------------------------------------------


def test_osc_messages_reach_a_real_server_with_clean_addresses() -> None:
    from pythonosc.osc_message import OscMessage

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(WAIT_S)
        sink = OscSink(server.getsockname()[1])
        sink.write(prediction(0, session="p01", probabilities={"a b/c": 1.0}, label="a b/c"))
        got = {}
        for _ in range(3):
            message = OscMessage(server.recv(4096))
            got[message.address] = message.params
        sink.close()
    assert got["/vagus/p01/label"] == ["a b/c"]
    assert got["/vagus/p01/probability/a_b_c"] == [1.0]


@pytest.mark.parametrize("given", [{"port": 0}, {"port": 70000}, {"port": 1, "prefix": "x"}])
def test_an_osc_address_that_cannot_be_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="osc: "):
        OscSink(**given)


# -- Prometheus -------------------------------------------------------------------------------


@pytest.fixture
def metrics() -> Iterator[MetricsSink]:
    sink = MetricsSink(port=0)
    yield sink
    sink.close()


def test_metrics_are_scraped_with_the_accounts_numbers(metrics: MetricsSink) -> None:
    for message in one_of_each():
        metrics.write(message)
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=WAIT_S) as page:
        text = page.read().decode()
    assert 'vagus_predictions_total{label="happy",session="p01"} 1.0' in text
    assert "vagus_lag_seconds{" in text
    assert 'vagus_probability{label="calm",session="p01"} 0.25' in text


def test_a_scrape_under_a_foreign_name_is_refused(metrics: MetricsSink) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{metrics.port}/metrics", headers={"Host": "evil.example"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=WAIT_S)
    assert caught.value.code == 403
    caught.value.close()


def test_a_port_that_is_taken_is_named(metrics: MetricsSink) -> None:
    with pytest.raises(ResourceError, match=f"port {metrics.port} cannot be bound"):
        MetricsSink(port=metrics.port)


# -- WebSocket --------------------------------------------------------------------------------


@pytest.fixture
def web() -> Iterator[WebSocketSink]:
    sink = WebSocketSink(port=0, token="t0", origins=("http://localhost:3000",))
    yield sink
    sink.close()


def connect(sink: WebSocketSink, token: str = "t0", **about: Any) -> Any:
    from websockets.sync.client import connect as open_client

    return open_client(f"ws://127.0.0.1:{sink.port}/?token={token}", **about)


def test_a_client_hears_created_result_error_and_closed(web: WebSocketSink) -> None:
    web.write(schema())
    with connect(web, origin="http://localhost:3000") as client:
        assert json.loads(client.recv(WAIT_S))["type"] == "session_created"
        web.write(prediction(0))
        web.write(event(0, code="source.lost"))
        web.write(event(1, code="source.back"))
        web.write(health())
        web.write(event(2, code="session.left"))
        got = [json.loads(client.recv(WAIT_S)) for _ in range(4)]
    assert [g["type"] for g in got] == ["result", "error", "event", "closed"]
    assert got[0]["label"] == "happy"
    assert got[1]["code"] == "source.lost"


def test_a_client_that_leaves_without_a_farewell_is_no_failure(
    web: WebSocketSink, caplog: pytest.LogCaptureFixture
) -> None:
    end_s = time.monotonic() + WAIT_S
    with connect(web) as client:
        while not web._clients and time.monotonic() < end_s:
            web.write(health())  # nothing for clients
        client.socket.shutdown(socket.SHUT_RDWR)
        while web._clients and time.monotonic() < end_s:
            web.write(health())
        web.close()
    assert web._clients == set()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_who_comes_late_has_the_session_and_its_last_result_at_once(web: WebSocketSink) -> None:
    web.write(schema())
    for seq in range(3):
        web.write(prediction(seq))
    with connect(web) as client:
        got = [json.loads(client.recv(WAIT_S)) for _ in range(2)]
    assert [g["type"] for g in got] == ["session_created", "result"]
    assert got[1]["seq"] == 2


@pytest.mark.parametrize(
    ("token", "about", "status"),
    [
        ("wrong", {}, 401),
        ("t0", {"origin": "http://evil.example"}, 403),
        ("t0", {"additional_headers": {"Host": "evil.example"}}, 403),
    ],
)
def test_a_client_without_the_right_words_stays_outside(
    web: WebSocketSink, token: str, about: Any, status: int
) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as caught, connect(web, token, **about):
        pass
    assert caught.value.response.status_code == status
    assert web.n_refused == 1


def test_random_bytes_do_not_disturb_the_others(web: WebSocketSink) -> None:
    with connect(web) as client:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", web.port), WAIT_S) as raw:
                raw.sendall(os.urandom(200))
        web.write(schema())
        assert json.loads(client.recv(WAIT_S))["type"] == "session_created"
