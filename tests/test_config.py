"""The config file: what is accepted, and how every mistake is told with its place and remedy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.arguments import misfits
from engine.config import (
    Config,
    agree,
    config_from,
    load_config,
    repeat,
    shipped,
    shipped_names,
)
from engine.config.purpose import PURPOSES
from engine.config.yaml import parse
from engine.errors import ConfigError

EXAMPLE = """\
session: p01
purpose: research
hop_s: 0.5
patience_s: 0.3
publish: tcp://127.0.0.1:5570
control: tcp://127.0.0.1:5571
streams:
  eeg:
    source: {type: lsl, match: {type: EEG, name: Muse}}
    bundle: workload-eegmat
    channels: {FP1: AF7}
    gaps: {policy: mask, max_gap_s: 0.1}
    overload: {policy: latest, stale_s: 0.5}
    min_quality: 0.3
  voice: {source: {type: microphone, device: default}, bundle: speech-4}
  face:  {source: {type: camera, device: 0, rate_hz: 15}, bundle: face-6}
fusion: {method: mean}
smoothing: {method: none}
recording: {path: "rec/sub-%p_%t.mcap", raw: false}
sinks: [{type: console}, {type: jsonl, path: out/p01.jsonl}, {type: lsl}, {type: metrics, port: 1}]
dashboard: {port: 5572}
security: {curve: {secret: keys/engine.key_secret, clients: keys/clients}}
"""
SMALL = "session: a\nstreams:\n  eeg:\n    source: {type: simulate, person: 7}\n"

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes `live.yaml` into the current folder, so that messages name it shortly."""
    monkeypatch.chdir(tmp_path)

    def put(text: str | bytes) -> Path:
        path = Path("live.yaml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def complaint(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def test_the_documented_example_is_read_as_it_stands(write: Write) -> None:
    config = load_config(write(EXAMPLE))
    assert (config.session, config.hop_s, config.patience_s) == ("p01", 0.5, 0.3)
    eeg = config.streams["eeg"]
    assert eeg.source.type == "lsl"
    assert eeg.source.args == {"match": {"type": "EEG", "name": "Muse"}}
    assert eeg.channels == {"FP1": "AF7"}
    assert [sink.type for sink in config.sinks] == ["console", "jsonl", "lsl", "metrics"]
    assert config.sinks[1].args == {"path": "out/p01.jsonl"}
    assert config.security is not None
    assert config.security.curve is not None
    assert config.recording is not None
    assert config.recording.raw is False


def test_what_is_left_out_gets_the_documented_defaults(write: Write) -> None:
    config = load_config(write(SMALL))
    assert config.hop_s is None
    assert config.publish == "tcp://127.0.0.1:5570"
    assert config.control == "tcp://127.0.0.1:5571"
    assert (config.fusion.method, config.smoothing.method) == ("mean", "none")
    assert (config.recording, config.dashboard, config.security) == (None, None, None)
    assert config.streams["eeg"].gaps.policy == "mask"


@pytest.mark.parametrize(
    ("source", "declared", "policy"),
    [
        ("simulate", "", "latest"),
        ("replay", "", "block"),
        ("replay", ", overload: {policy: latest}", "latest"),
        ("simulate", ", overload: {policy: block}", "block"),
    ],
)
def test_files_wait_and_live_streams_shed_unless_told_otherwise(
    write: Write, source: str, declared: str, policy: str
) -> None:
    text = f"session: a\nstreams: {{x: {{source: {{type: {source}}}{declared}}}}}\n"
    assert load_config(write(text)).streams["x"].policy == policy


def test_an_unknown_key_is_told_with_its_place_and_the_nearest_one(write: Write) -> None:
    text = SMALL + "    bundel: x\n"
    assert complaint(write(text)) == (
        "live.yaml:5:5: streams.eeg.bundel: unknown key; did you mean 'bundle'?"
    )


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("hop_s: fast", "5:1: hop_s: expected a number, found the text 'fast'"),
        ("hop_s: true", "5:1: hop_s: expected a number, found true"),
        ("hop_s: 0", "5:1: hop_s: expected more than 0, found the number 0"),
        ("hop_s: .nan", "5:1: hop_s: expected a finite number, found the number nan"),
        ("patience_s: .inf", "5:1: patience_s: expected a finite number"),
        ("patience_s: -1", "5:1: patience_s: expected at least 0, found the number -1"),
        ("hop_s: 0.5\nhop_s: 0.6", "6:1: hop_s: the key is there already, at 5:1"),
        ("sinks: {type: console}", "5:1: sinks: expected a list, found a map"),
        ("sinks: [{typ: console}]", "5:9: sinks.0: needs the key 'type'"),
        ("dashboard: {port: 80.5}", "5:13: dashboard.port: expected a whole number, found"),
        ("dashboard: {port: 70000}", "5:13: dashboard.port: expected at most 65535"),
        ("recording: {raw: yes}", "5:13: recording.raw: expected true or false, found the text"),
        ("recording: {raw: true}", "5:1: recording: needs the key 'path'"),
        ("fusion: {method: men}", "5:10: fusion.method: expected mean, found the text 'men'"),
        ("smoothing: {method: mea}", "none, mean, hysteresis; found the text 'mea'; did you mean"),
        ("publish: localhost:1", "5:1: publish: expected tcp://host:port or ipc://path, found"),
        ("publish: tcp://127.0.0.1:99999", "5:1: publish: expected tcp://host:port"),
        ("publish: tcp://0.0.0.0:1", "5:1: publish: an address beyond loopback needs keys"),
        ("control: tcp://*:1", "5:1: control: an address beyond loopback needs keys"),
        ("publish: tcp://eth0:1", "5:1: publish: an address beyond loopback needs keys"),
        ("dashboard: &x {port: 1}", "5:12: dashboard: &x is an anchor: remove it"),
        ("session2: *x", "*x is an alias: write the value out"),
        ("hop_s: !!float 1", "5:8: hop_s: tag:yaml.org,2002:float is a tag: remove it"),
        ("1: x", "5:1: the key '1' is no text: write it in quotes"),
        ("<<: {hop_s: 1}", "5:1: <<: unknown key"),
        ("basis: fun", "5:1: basis: expected one of medical, safety; found the text 'fun'"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(
    write: Write, lines: str, told: str
) -> None:
    assert told in complaint(write(SMALL + lines + "\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "live.yaml:1:1: the file is empty"),
        ("# nothing\n", "live.yaml:1:1: the file is empty"),
        ("- 1\n", "live.yaml:1:1: expected keys such as session:"),
        ("session: a\n---\nsession: b\n", "live.yaml:2:1: a second document starts here"),
        ("session: [a\n", "live.yaml:2:1: not valid YAML: while parsing a flow sequence"),
        ("session:\n\t- a\n", "live.yaml:2:1: not valid YAML: while scanning"),
        ("session: a\x00b\n", "live.yaml:1:11: not text"),
        ("%YAML 1.1\n---\nsession: a\nstreams: {}\n", "this is YAML 1.2"),
        ("session: a\nstreams: {}\n", "live.yaml:2:1: streams: is empty"),
        ("session: a\nstreams:\n", "live.yaml:2:1: streams: expected a map of keys, found nothing"),
        ("session: a\n", "live.yaml:1:1: needs the key 'streams'"),
        ("session: a\nstreams: {e: {}}\n", "live.yaml:2:11: streams.e: needs the key 'source'"),
        (SMALL.replace("session: a", "session: a b"), "1 to 64 letters, digits, '-' or '_', found"),
        (SMALL.replace("session: a", "session: 007"), "expected text, found the number 7"),
        (SMALL.replace("eeg:", "e.g:"), "streams.e.g: expected 1 to 64 letters"),
        (SMALL.replace("session: a", "session: " + "a" * 65), "expected 1 to 64 letters"),
        ("[" * 60, "nested deeper than 32 levels"),
        (b"\xff\xfe\x00", "live.yaml:1:1: not text in UTF-8"),
        (b"#" * 1_000_001, "live.yaml: 1000001 bytes are too many for a config"),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_the_reason(
    write: Write, text: str | bytes, told: str
) -> None:
    assert told in complaint(write(text))


def test_all_problems_of_a_file_are_told_at_once_in_its_order(write: Write) -> None:
    text = "session: a\nhop_s: x\nfusoin: {}\nstreams:\n  eeg: {source: {}}\nsession: b\n"
    assert [line.split(": ")[0] for line in complaint(write(text)).splitlines()] == [
        "live.yaml:2:1",
        "live.yaml:3:1",
        "live.yaml:5:9",
        "live.yaml:6:1",
    ]


def test_a_file_full_of_mistakes_fits_one_screen(write: Write) -> None:
    text = SMALL + "".join(f"wrong{i}: 1\n" for i in range(100))
    lines = complaint(write(text)).splitlines()
    assert len(lines) == 15
    assert lines[-1] == "... and 86 more problems"


def test_yaml_1_2_keeps_words_that_older_yaml_turns_into_booleans() -> None:
    body = b"a: on\nb: no\nc: 2020-01-02\nd: 1_0\ne: 0x1f\nf: 0o17\ng: 1e3\nh: ~\ni: '1'\nj: 0777\n"
    assert parse(body, "x").value == {
        "a": "on",
        "b": "no",
        "c": "2020-01-02",
        "d": "1_0",
        "e": 31,
        "f": 15,
        "g": 1000.0,
        "h": None,
        "i": "1",
        "j": 777,
    }


def outcome(body: bytes) -> str:
    """`x: read`, or the message of the error; any other exception passes through."""
    try:
        parse(body, "x")
    except ConfigError as error:
        return str(error)
    return "x: read"


@given(st.binary(max_size=80))
def test_any_bytes_give_a_document_or_a_config_error(body: bytes) -> None:
    assert outcome(body).startswith("x:")


@given(st.text("abs:-[]{}&*!|>'\"%#?,\\ \n\t0.U~=", max_size=60))
def test_any_yaml_like_text_gives_a_document_or_a_config_error(text: str) -> None:
    assert outcome(text.encode()).startswith("x:")


def test_a_missing_file_is_told_with_the_shipped_names(tmp_path: Path) -> None:
    told = complaint(str(tmp_path / "nope.yaml"))
    assert "no such file; shipped configs: " in told
    assert "demo" in told
    assert "did you mean 'demo'?" in complaint("dmo")
    assert complaint(str(tmp_path)).endswith("is a folder; expected a config file")


@pytest.mark.parametrize("source", ["lsl", "microphone", "camera", "browser"])
def test_sources_that_observe_people_need_a_purpose(write: Write, source: str) -> None:
    text = f"session: a\nstreams: {{x: {{source: {{type: {source}}}}}}}\n"
    told = complaint(write(text))
    assert told.startswith("live.yaml:1:1: ")
    assert f"the source '{source}' observes people" in told
    assert load_config(write("purpose: art\n" + text)).purpose == "art"


@pytest.mark.parametrize("purpose", ["workplace", "education"])
def test_workplace_and_education_are_refused_without_a_basis(write: Write, purpose: str) -> None:
    told = complaint(write(SMALL + f"purpose: {purpose}\n"))
    assert told.startswith("live.yaml:5:1: purpose: ")
    assert "EU AI Act, Article 5(1)(f)" in told
    for basis in ("medical", "safety"):
        text = SMALL + f"purpose: {purpose}\nbasis: {basis}\n"
        assert load_config(write(text)).basis == basis


def test_the_purposes_of_the_schema_are_those_of_the_rule() -> None:
    choices = Config.model_json_schema()["properties"]["purpose"]["anyOf"][0]["enum"]
    assert tuple(choices) == PURPOSES


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:0",
        "tcp://localhost:*",
        "tcp://[::1]:5570",
        "ipc:///tmp/x",
        "tcp://127.1.2.3:1",
    ],
)
def test_loopback_and_ipc_need_no_keys(write: Write, address: str) -> None:
    assert load_config(write(SMALL + f"publish: '{address}'\n")).publish == address


def test_where_finds_every_key_and_else_the_map_around_it(write: Write) -> None:
    config = load_config(write(EXAMPLE))
    assert config.where("streams.eeg.source.match") == "live.yaml:9:25"
    assert config.where("streams.eeg.source.match.type") == "live.yaml:9:33"
    assert config.where(("streams", "eeg", "bundle")) == "live.yaml:10:5"
    assert config.where("sinks.1.path") == "live.yaml:20:40"
    assert config.where("streams.eeg.nothing.here") == "live.yaml:8:3"
    assert config.where("nothing") == "live.yaml:1:1"


def test_a_config_from_a_map_names_no_positions() -> None:
    value = {"session": "a", "streams": {"x": {"source": {"type": "replay"}}}}
    assert config_from(value).where("session") == "config"
    with pytest.raises(ConfigError, match=r"join: streams.x.sorce: unknown key; did you mean"):
        config_from({"session": "a", "streams": {"x": {"sorce": {}}}}, name="join")


class Device:
    """A source with arguments of every sort."""

    def __init__(
        self,
        path: str | Path,
        *,
        person: int = 0,
        rate_hz: float | None = None,
        loop: bool = False,
        faults: Sequence[dict[str, Any]] = (),
        clock: object = None,
        stream: str = "",
    ) -> None: ...


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"path": "x", "person": 3, "rate_hz": 100, "loop": True, "faults": [{}]}, []),
        ({"path": "x", "rate_hz": None}, []),
        ({"path": "x", "persn": 3}, [("persn", "unknown key; did you mean 'person'?")]),
        ({}, [("", "needs the key 'path'")]),
        ({"path": 3}, [("path", "expected text, found the number 3")]),
        (
            {"path": "x", "person": 0.5},
            [("person", "expected a whole number, found the number 0.5")],
        ),
        (
            {"path": "x", "rate_hz": True},
            [("rate_hz", "expected a number or nothing, found true")],
        ),
    ],
)
def test_arguments_are_compared_with_what_a_factory_takes(
    args: dict[str, Any], told: list[tuple[str, str]]
) -> None:
    assert list(misfits(args, Device, ("clock", "stream"))) == told


def test_what_the_engine_hands_to_a_source_cannot_be_set_by_a_file() -> None:
    ((key, text),) = misfits({"path": "x", "clock": 1}, Device, ("clock", "stream"))
    assert (key, text.split(";")[0]) == ("clock", "unknown key")


def test_a_factory_that_takes_anything_gets_anything() -> None:
    def factory(**anything: object) -> None: ...

    assert list(misfits({"x": 1}, factory)) == []


def test_mistakes_in_the_free_part_of_a_source_are_told_with_their_place(write: Write) -> None:
    def load(group: str, name: str) -> Any:
        if name == "device":
            return Device
        raise ConfigError(f"no {group} {name}")

    config = load_config(
        write(
            "session: a\nstreams:\n  x:\n    source:\n      type: device\n      persn: 3\n"
            "  y: {source: {type: devic}}\n"
        )
    )
    with pytest.raises(ConfigError) as caught:
        config.check_plugins(load)
    assert str(caught.value).splitlines() == [
        "live.yaml:4:5: streams.x.source: needs the key 'path'",
        "live.yaml:6:7: streams.x.source.persn: unknown key; did you mean 'person'?",
        "live.yaml:7:16: streams.y.source.type: no vagus.sources devic",
    ]


def test_repeated_sessions_have_their_own_names_and_persons(write: Write) -> None:
    config = load_config(write(SMALL))
    sessions = repeat(config, 3)
    assert [one.session for one in sessions] == ["a-1", "a-2", "a-3"]
    assert [one.streams["eeg"].source.args["person"] for one in sessions] == [8, 9, 10]
    assert sessions[2].where("session") == "live.yaml:1:1"
    assert config.streams["eeg"].source.args == {"person": 7}
    agree(sessions)


@pytest.mark.parametrize(
    ("text", "n", "told"),
    [
        (SMALL, 0, "expected 1 or more"),
        (SMALL.replace("simulate", "serial"), 2, "live.yaml:4:14: --sessions repeats replayed"),
        (SMALL + "recording: {path: x.mcap}\n", 2, "live.yaml:5:13: 2 sessions would write one"),
        (SMALL.replace(": a", ": " + "a" * 63), 2, "is longer than 64 characters"),
    ],
)
def test_what_cannot_be_repeated_is_refused(write: Write, text: str, n: int, told: str) -> None:
    config = load_config(write(text))
    with pytest.raises(ConfigError) as caught:
        repeat(config, n)
    assert told in str(caught.value)


def test_configs_that_share_an_engine_must_agree_on_its_sockets(tmp_path: Path) -> None:
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    paths[0].write_text(SMALL)
    paths[1].write_text(SMALL.replace("session: a", "session: b") + "publish: tcp://127.0.0.1:9\n")
    configs = [load_config(path) for path in paths]
    with pytest.raises(ConfigError, match=r"b.yaml:5:1: publish differs from .*a.yaml:1:1"):
        agree(configs)
    with pytest.raises(ConfigError, match="the session 'a' is there already"):
        agree([configs[0], configs[0]])


def test_every_shipped_config_that_runs_a_session_is_valid() -> None:
    assert {"demo", "simulate-faults"} <= set(shipped_names())
    for name in ("demo", "simulate-faults"):
        assert load_config(name).session == name
    with pytest.raises(ConfigError, match="did you mean 'demo'"):
        shipped("demmo")


def test_the_fault_config_has_every_kind_once_within_a_minute() -> None:
    faults = load_config("simulate-faults").streams["eeg"].source.args["faults"]
    kinds = "channels drift duplicate flat gap jitter jump lost nan rate reorder stall"
    assert " ".join(sorted(fault["kind"] for fault in faults)) == kinds
    assert all(fault["at_s"] + fault["for_s"] < 60 for fault in faults)
    ends = [0.0, *(fault["at_s"] + fault["for_s"] for fault in faults)]
    assert all(fault["at_s"] > end for fault, end in zip(faults, ends, strict=False))


def test_the_schema_for_editors_is_json_and_describes_the_keys() -> None:
    schema = json.loads(json.dumps(Config.model_json_schema()))
    assert schema["required"] == ["session", "streams"]
    assert schema["additionalProperties"] is False
    assert "description" in schema["properties"]["patience_s"]


def test_a_config_cannot_be_changed_after_it_was_read(write: Write) -> None:
    config = load_config(write(SMALL))
    with pytest.raises(ValueError, match="frozen"):
        config.session = "b"
