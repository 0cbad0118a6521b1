"""A browser as a source: who may send, what is taken, and what a page that leaves means."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from engine.clock import SettableClock
from engine.config import config_from
from engine.errors import ConfigError, DataError, EndOfStream, ResourceError, SourceLost
from engine.types import Array, Chunk
from sources.browser import BrowserSource
from sources.browser.parcel import LIMITS, MAX_PIXELS, greeted, picture, sound
from tests.messages import TIMEOUT_S

TOKEN = "let-me-in"
PAGE = "http://127.0.0.1:5572"
VOICE = '{"kind": "voice", "rate_hz": 16000}'
FACE = '{"kind": "face"}'


def samples(first: int, n: int) -> bytes:
    """A parcel whose samples count up."""
    return struct.pack("<Q", first) + np.arange(first, first + n).astype("<i2").tobytes()


def jpeg(width: int = 64, height: int = 48, **more: Any) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), **more)[1].tobytes()


def photo(index: int) -> bytes:
    return struct.pack("<Q", index) + jpeg()


def source(kind: str = "voice", **more: Any) -> BrowserSource:
    return BrowserSource(kind, 0, TOKEN, **more)


@contextmanager
def open_port(source: BrowserSource) -> Iterator[int]:
    """The port of a source to which nobody came yet."""
    with pytest.raises(SourceLost, match="no page shares its"):
        source.__enter__()
    try:
        assert source.offer is not None
        yield source.offer["port"]
    finally:
        source.__exit__(None, None, None)


@contextmanager
def visiting(
    port: int, greeting: str = VOICE, token: str = TOKEN, origin: str | None = PAGE
) -> Iterator[ClientConnection]:
    headers = {} if origin is None else {"Origin": origin}
    url = f"ws://127.0.0.1:{port}/?token={token}"
    with connect(url, additional_headers=headers) as page:
        page.send(greeting)
        yield page


def chunks(source: BrowserSource, until: Callable[[list[Chunk]], bool]) -> list[Chunk]:
    """What is read until that is enough."""
    found: list[Chunk] = []
    for _ in range(200):
        chunk = source.read(TIMEOUT_S / 10)
        if chunk is not None:
            found.append(chunk)
        if until(found):
            return found
    raise AssertionError("it never came")


def n_items(found: list[Chunk]) -> int:
    return sum(len(chunk) for chunk in found)


def joined(found: list[Chunk]) -> Array:
    return np.concatenate([chunk.data for chunk in found])


def test_every_sample_that_a_page_sends_arrives_once_and_in_order() -> None:
    mic = source()
    with open_port(mic) as port, visiting(port) as page:
        for first in range(0, 6400, 640):
            page.send(samples(first, 640))
        mic.__enter__()
        assert (mic.info.kind, mic.info.rate_hz, mic.info.channels) == ("voice", 16000, ("mono",))
        found = chunks(mic, lambda found: n_items(found) >= 6400)
    assert found[0].first_index == 0
    np.testing.assert_array_equal(joined(found)[:, 0] * 32768, np.arange(6400))
    stamps = [stamp for chunk in found for stamp in chunk.stamps]
    assert [index for index, _ in stamps] == list(range(0, 6400, 640))


def test_what_a_page_left_out_is_a_gap_of_known_length() -> None:
    mic = source()
    with open_port(mic) as port, visiting(port) as page:
        page.send(samples(0, 100))
        page.send(samples(100, 100))
        page.send(samples(500, 100))
        page.send(samples(500, 100))  # told twice
        mic.__enter__()
        found = chunks(mic, lambda found: n_items(found) >= 300)
    starts = [(c.first_index, c.first_index + len(c)) for c in found]
    assert starts[-1] == (500, 600)
    assert starts[-2][1] == 200


def test_pictures_arrive_as_the_bytes_that_were_sent() -> None:
    camera = source("face", stream="me")
    with open_port(camera) as port, visiting(port, FACE) as page:
        for index in range(5):
            page.send(photo(index))
        camera.__enter__()
        assert (camera.info.name, camera.info.kind, camera.info.unit) == ("me", "face", "jpeg")
        assert camera.info.rate_hz is None
        found = chunks(camera, lambda found: n_items(found) >= 5)
    assert list(joined(found)) == [jpeg()] * 5
    assert [i for c in found for i, _ in c.stamps] == list(range(5))


def test_a_page_that_leaves_is_a_lost_device_and_the_next_one_a_new_segment() -> None:
    mic = source()
    with open_port(mic) as port:
        with visiting(port) as page:
            page.send(samples(0, 100))
            mic.__enter__()
            first = chunks(mic, lambda found: n_items(found) == 100)
        with pytest.raises(SourceLost, match="left"):
            chunks(mic, lambda _: False)
        assert mic.read(0.0) is None
        with visiting(port, '{"kind": "voice", "rate_hz": 48000}') as page:
            page.send(samples(0, 70))
            second = chunks(mic, lambda found: n_items(found) == 70)
    assert (first[0].segment, second[0].segment) == (0, 1)
    assert second[0].first_index == 0
    assert mic.info.rate_hz == 48000


def test_a_page_that_falls_silent_is_a_lost_device() -> None:
    clock = SettableClock(10.0)
    mic = source(clock=clock)
    with open_port(mic) as port, visiting(port) as page:
        page.send(samples(0, 100))
        mic.__enter__()
        chunks(mic, lambda found: n_items(found) == 100)
        assert mic.read(0.0) is None
        clock.set(12.5)
        with pytest.raises(SourceLost, match="fell silent"):
            mic.read(0.0)


def test_items_are_stamped_on_their_arrival() -> None:
    clock = SettableClock(50.0)
    mic = source(clock=clock)
    with open_port(mic) as port, visiting(port) as page:
        page.send(samples(0, 1600))
        mic.__enter__()
        (chunk,) = chunks(mic, lambda found: bool(found))
    assert chunk.stamps == ((0, pytest.approx(49.9)),)


def test_a_second_page_is_sent_away_while_one_is_there() -> None:
    mic = source()
    with open_port(mic) as port, visiting(port) as page:
        page.send(samples(0, 100))
        mic.__enter__()
        with visiting(port) as other, pytest.raises(ConnectionClosed, match="4003"):
            other.recv(TIMEOUT_S)
        page.send(samples(100, 100))
        chunks(mic, lambda found: n_items(found) == 200)


def test_nothing_comes_from_a_closed_source() -> None:
    mic = source()
    with open_port(mic) as port, visiting(port) as page:
        page.send(samples(0, 100))
        mic.__enter__()
        mic.__exit__(None, None, None)
        mic.__exit__(None, None, None)  # twice is once
        with pytest.raises(EndOfStream):
            mic.read(0.0)
        assert mic.offer is None


@pytest.mark.parametrize(
    ("token", "origin", "status"),
    [
        ("", PAGE, 401),
        ("let-me-ix", PAGE, 401),
        (TOKEN, None, 403),
        (TOKEN, "null", 403),
        (TOKEN, "http://127.0.0.1:5573", 403),
        (TOKEN, "https://127.0.0.1:5572", 403),
        (TOKEN, "http://evil.example", 403),
    ],
)
def test_only_the_dashboard_with_the_token_may_send(
    token: str, origin: str | None, status: int
) -> None:
    mic = source()
    with (
        open_port(mic) as port,
        pytest.raises(InvalidStatus, match=str(status)),
        visiting(port, VOICE, token, origin),
    ):
        pass


def huge() -> bytes:
    """A JPEG file that says it has 65 500 x 65 500 pixels."""
    body = bytearray(jpeg())
    at = body.index(b"\xff\xc0")
    body[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    return struct.pack("<Q", 0) + bytes(body)


@pytest.mark.parametrize(
    ("kind", "greeting", "then"),
    [
        ("voice", "", None),
        ("voice", "{", None),
        ("voice", "[" * 3000, None),
        ("voice", FACE, None),
        ("voice", '{"kind": "voice"}', None),
        ("voice", '{"kind": "voice", "rate_hz": 1e9}', None),
        ("voice", '{"kind": "voice", "rate_hz": true}', None),
        ("voice", VOICE, "samples"),
        ("voice", VOICE, b""),
        ("voice", VOICE, b"1234567"),
        ("voice", VOICE, samples(0, 1)[:-1]),
        ("voice", VOICE, struct.pack("<Q", 0)),
        ("voice", VOICE, struct.pack("<Q", 2**63) + b"12"),
        ("voice", VOICE, samples(0, LIMITS["voice"])),
        ("face", FACE, struct.pack("<Q", 0) + b"no picture"),
        ("face", FACE, photo(0)[:20]),
        ("face", FACE, huge()),
        ("face", FACE, bytes(LIMITS["face"] + 1)),
    ],
)
def test_what_does_not_fit_ends_the_visit_before_anything_is_decoded(
    kind: str, greeting: str, then: str | bytes | None
) -> None:
    device = source(kind)
    with open_port(device) as port, visiting(port, greeting) as page:
        if then is not None:
            page.send(then)
        with pytest.raises(ConnectionClosed, match=r"4004|1009"):
            page.recv(TIMEOUT_S)
        assert device.read(0.0) is None


def test_random_bytes_never_raise_anything_but_a_refusal() -> None:
    rng = np.random.default_rng(11)
    whole = photo(3)
    for _ in range(2000):
        junk = bytearray(whole[: int(rng.integers(0, len(whole)))])
        for at in rng.integers(0, max(1, len(junk)), 4):
            if len(junk):
                junk[at] = int(rng.integers(256))
        for read in (picture, sound):
            try:
                parcel = read(bytes(junk), 0.0)
            except DataError:
                continue
            assert len(parcel.items) >= 1
        with pytest.raises(DataError):
            greeted("voice", bytes(junk))


def test_a_picture_as_large_as_allowed_is_taken() -> None:
    width, height = 1920, MAX_PIXELS // 1920
    assert len(picture(struct.pack("<Q", 0) + jpeg(width, height), 0.0).items) == 1
    with pytest.raises(DataError, match="pixels"):
        picture(struct.pack("<Q", 0) + jpeg(width, height + 1), 0.0)


def test_what_nobody_reads_is_bounded_and_its_loss_shows_in_the_indices() -> None:
    mic = source()
    n, size = 400, 60_000
    with open_port(mic) as port, visiting(port) as page:
        for i in range(n):
            page.send(samples(i * size, size))
        mic.__enter__()
        found = chunks(mic, lambda found: found[-1].first_index + len(found[-1]) == n * size)
    assert found[0].first_index > 0
    assert n_items(found) < n * size
    assert max(len(chunk) for chunk in found) * 2 <= 16 << 20


def test_a_taken_port_is_told() -> None:
    mic = source()
    with open_port(mic) as port, pytest.raises(ResourceError, match=f"port {port} cannot be bound"):
        BrowserSource("voice", port, TOKEN).__enter__()


@pytest.mark.parametrize(
    "args", [{"kind": "nose"}, {"port": -1}, {"port": 70000}, {"origins": ["evil.example"]}]
)
def test_a_wrong_argument_is_told(args: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        BrowserSource(**args)


def test_a_browser_observes_people_so_the_config_must_say_what_for() -> None:
    streams = {"voice": {"source": {"type": "browser"}, "bundle": "speech-4"}}
    with pytest.raises(ConfigError, match="purpose"):
        config_from({"session": "p1", "streams": streams})
    config = config_from({"session": "p1", "purpose": "personal", "streams": streams})
    config.check_plugins()
    assert json.loads(config.model_dump_json())["streams"]["voice"]["source"]["type"] == "browser"
