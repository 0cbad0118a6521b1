"""The wire: golden bytes that hold the contract, a round trip, and bytes that are no message."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import wire
from engine.errors import DataError
from engine.types import Event, Health, Marker, Message, Prediction, Schema
from tests.messages import RUN, event, health, marker, one_of_each, prediction, schema

GOLDEN = {
    "event": b"\x89\xa1v\x01\xa3run\xac0123456789ab\xa7session\xa3p01\xa3seq\x07"
    b"\xa1t\xcb\x3f\xf8\0\0\0\0\0\0\xa6t_wall\xcb\x41\xda\x13\xb8\x60\0\0\0"
    b"\xa4code\xabsource.lost\xa6stream\xa3eeg\xa6detail\x81\xa3why\xa4gone",
    "marker": b"\x88\xa1v\x01\xa3run\xac0123456789ab\xa7session\xa3p01\xa3seq\x03"
    b"\xa1t\xcb\x40\x04\0\0\0\0\0\0\xa6t_wall\xc0\xa6stream\xa7control\xa5value\xa5start",
}

each_message = pytest.mark.parametrize("message", one_of_each(), ids=lambda m: m.kind)


def body_of(message: Message, **changes: Any) -> bytes:
    """The bytes of `message` with some keys changed, written by the plain msgpack package."""
    return msgpack.packb({**msgpack.unpackb(wire.encode(message)), **changes})


@pytest.mark.parametrize("message", [event(7), marker(3)], ids=lambda m: m.kind)
def test_the_golden_bytes_hold_the_message_and_nothing_else_does(message: Message) -> None:
    golden = GOLDEN[message.kind]
    assert wire.encode(message) == golden
    assert wire.decode(message.kind, golden) == message
    assert msgpack.unpackb(golden)["seq"] == message.seq


def test_a_prediction_has_the_keys_of_the_contract_in_its_order() -> None:
    probabilities = {"calm": 0.25, "happy": 0.75}
    eeg = {"used": True, "bundle": "sim", "segment": 0, "first": 0, "last": 127, "filled": 1.0}
    expected = {
        "v": 1,
        "run": RUN,
        "session": "p01",
        "seq": 4,
        "tick": 4,
        "t": 2.0,
        "t_wall": None,
        "label": "happy",
        "probabilities": probabilities,
        "confidence": 0.75,
        "dimensions": None,
        "modalities": {
            "eeg": {**eeg, "quality": 0.5, "probabilities": probabilities},
            "voice": {"used": False, "reason": "muted"},
        },
        "missing": ["voice"],
        "latency_ms": {"wait": 0.5, "steps": 0.25, "infer": 1.25, "total": 2.0},
        "truth": "calm",
    }
    body = wire.encode(prediction(4))
    assert msgpack.unpackb(body) == expected
    assert body == msgpack.packb(expected)
    assert body[:1] == b"\x8f"
    assert struct.pack(">sBd", b"t", 0xCB, 2.0) in body  # a float64


@each_message
def test_the_plain_msgpack_package_writes_the_same_bytes(message: Message) -> None:
    body = wire.encode(message)
    assert msgpack.packb(msgpack.unpackb(body)) == body


def test_schema_and_health_have_the_keys_of_the_contract() -> None:
    names = "v run engine session streams bundles fusion smoothing hop_s started_wall"
    assert list(msgpack.unpackb(wire.encode(schema()))) == names.split()
    names = "v run session seq t t_wall ready degraded counters lag_s latency_ms"
    assert list(msgpack.unpackb(wire.encode(health()))) == names.split()


def test_an_unknown_truth_is_absent_and_not_null() -> None:
    body = wire.encode(prediction(truth=None))
    assert "truth" not in msgpack.unpackb(body)
    assert wire.decode("prediction", body) == prediction(truth=None)


def test_topics_name_version_session_and_kind() -> None:
    assert wire.topic("p01", "prediction") == b"vagus/1/p01/prediction"


def test_the_prefix_of_a_session_does_not_select_one_that_begins_alike() -> None:
    assert wire.topic("p1", "event").startswith(wire.prefix("p1"))
    assert not wire.topic("p10", "event").startswith(wire.prefix("p1"))
    assert wire.topic("p10", "event").startswith(wire.prefix())


def test_the_list_of_event_codes_is_that_of_the_contract() -> None:
    codes = (
        "source.connected source.lost source.back source.stalled source.refused source.frozen "
        "stream.segment stream.gap stream.rate stream.quality stream.overrun window.invalid "
        "bundle.swapped bundle.refused session.joined session.left recording.started "
        "recording.stopped recording.full subscriber.rejected input.drift degraded recovered "
        "shutdown"
    )
    assert frozenset(codes.split()) == wire.EVENT_CODES


numbers = st.floats(allow_nan=False)
names = st.text(max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
notes = st.dictionaries(names, plain, max_size=3)
shares = st.dictionaries(names, numbers, max_size=3)
seqs = st.integers(0, 2**63)
walls = st.none() | numbers
nested = st.dictionaries(names, notes, max_size=2)
messages = st.one_of(
    st.builds(
        Prediction,
        run=names,
        session=names,
        seq=seqs,
        tick=seqs,
        t=numbers,
        t_wall=walls,
        label=st.none() | names,
        probabilities=st.none() | shares,
        confidence=walls,
        dimensions=st.none() | shares,
        modalities=nested,
        missing=st.lists(names, max_size=3),
        latency_ms=shares,
        truth=st.none() | names,
    ),
    st.builds(Event, names, names, seqs, numbers, walls, names, st.none() | names, notes),
    st.builds(Marker, names, names, seqs, numbers, walls, names, names),
    st.builds(
        Health,
        run=names,
        session=names,
        seq=seqs,
        t=numbers,
        t_wall=walls,
        ready=st.booleans(),
        degraded=st.lists(names, max_size=3),
        counters=st.dictionaries(names, nested, max_size=2),
        lag_s=shares,
        latency_ms=st.dictionaries(names, shares, max_size=2),
    ),
    st.builds(Schema, names, names, names, nested, nested, names, names, numbers, walls),
)


@given(messages)
def test_what_is_encoded_is_decoded_as_it_was(message: Message) -> None:
    body = wire.encode(message)
    assert wire.decode(message.kind, body) == message
    assert wire.encode(wire.decode(message.kind, body)) == body


@given(messages)
def test_json_has_the_same_keys_and_values(message: Message) -> None:
    body = wire.to_json(message)
    assert list(body) == list(msgpack.unpackb(wire.encode(message)))
    json.loads(json.dumps(body), parse_constant=pytest.fail)


@each_message
def test_json_is_the_map_of_the_wire(message: Message) -> None:
    assert wire.to_json(message) == msgpack.unpackb(wire.encode(message))


def test_json_never_holds_nan_or_infinity() -> None:
    odd = replace(
        prediction(),
        confidence=float("nan"),
        modalities={"eeg": {"values": [1.0, float("inf"), {"deep": float("-inf")}]}},
    )
    body = wire.to_json(odd)
    assert body["confidence"] is None
    assert body["modalities"] == {"eeg": {"values": [1.0, None, {"deep": None}]}}


@each_message
def test_unknown_keys_are_ignored(message: Message) -> None:
    assert wire.decode(message.kind, body_of(message, brand_new={"x": [1, 2]})) == message


@each_message
def test_a_missing_key_is_named(message: Message) -> None:
    full = msgpack.unpackb(wire.encode(message))
    for key in full.keys() - {"truth", "latency_ms"}:
        less = msgpack.packb({name: value for name, value in full.items() if name != key})
        with pytest.raises(wire.WireError, match=rf"no {message.kind}: .*`{key}`"):
            wire.decode(message.kind, less)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seq": "4"}, r"Expected `int`, got `str`.*seq"),
        ({"seq": 4.5}, r"seq"),
        ({"label": 3}, r"label"),
        ({"missing": ["a", 1]}, r"missing\[1\]"),
        ({"probabilities": {"calm": "much"}}, r"probabilities"),
        ({"modalities": {"eeg": {"face": b"jpeg"}}}, r"prediction.modalities holds a bytes"),
        ({"modalities": {"eeg": {"at": msgpack.ExtType(5, b"x")}}}, "holds a Ext"),
        ({"modalities": {"eeg": {"at": msgpack.Timestamp(1)}}}, "holds a datetime"),
        ({"modalities": {"eeg": {"at": {1: 2}}}}, "has the key 1; wanted text"),
        ({"v": 2}, "version 2; this reader knows version 1"),
        ({"v": True}, "Expected `int`, got `bool`"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(wire.WireError, match=said):
        wire.decode("prediction", body_of(prediction(), **changes))


def test_a_message_of_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(wire.WireError, match=r"kind 'preview'; known: schema, prediction, event"):
        wire.decode("preview", wire.encode(prediction()))


def test_a_message_that_is_too_large_is_refused_before_it_is_read() -> None:
    body = body_of(prediction())
    with pytest.raises(wire.WireError, match=rf"of {len(body)} bytes is too large; at most 100"):
        wire.decode("prediction", body, max_bytes=100)
    with pytest.raises(wire.WireError, match="at most 16777216"):
        wire.decode("prediction", bytes((16 << 20) + 1))


@pytest.mark.parametrize("depth", [40, 900, 200_000])
def test_a_message_that_is_nested_deeply_is_refused(depth: int) -> None:
    deep = b"\x81\xa1x" * depth + b"\xc0"
    whole = wire.encode(event(detail={}))
    assert whole[-1:] == b"\x80"  # the empty detail
    with pytest.raises(wire.WireError, match=r"nested deeper than 32|recursion"):
        wire.decode("event", whole[:-1] + deep)


def test_a_message_nested_as_deeply_as_allowed_is_read() -> None:
    detail: dict[str, Any] = {}
    for _ in range(wire.MAX_DEPTH):
        detail = {"x": detail}
    assert wire.decode("event", wire.encode(event(detail=detail))) == event(detail=detail)
    with pytest.raises(wire.WireError, match="nested deeper"):
        wire.decode("event", wire.encode(event(detail={"x": detail})))


def test_wire_errors_are_errors_in_data() -> None:
    assert issubclass(wire.WireError, DataError)


def test_random_bytes_raise_wire_errors_and_nothing_else() -> None:
    rng = random.Random(5)
    whole = {message.kind: wire.encode(message) for message in one_of_each()}
    n_refused = 0
    for _ in range(20_000):
        kind = rng.choice(wire.KINDS)
        body = bytearray(whole[kind])
        if rng.random() < 0.5:
            body = bytearray(rng.randbytes(rng.randrange(64)))
        else:
            for _ in range(rng.randrange(1, 4)):
                body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            wire.decode(kind, bytes(body))
        except wire.WireError:
            n_refused += 1
    assert n_refused > 10_000


@pytest.mark.parametrize("value", [np.float64(0.5), np.float32(0.5), np.int64(3), object()])
def test_a_value_that_is_not_plain_is_never_sent(value: object) -> None:
    with pytest.raises(TypeError):
        wire.encode(event(detail={"value": value}))
