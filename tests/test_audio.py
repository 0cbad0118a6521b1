"""Audio files: what a good one gives in pieces of any size, and what is said about a bad one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.errors import DataError
from engine.types import Array
from sources.files import inspect, open_recording, recordings_below
from sources.replay import ReplaySource

SUFFIXES = (".wav", ".flac", ".ogg")
RATE_HZ = 22050
each_format = pytest.mark.parametrize("suffix", SUFFIXES)


def sound(n: int = 33000, n_channels: int = 1) -> Array:
    return np.random.default_rng(3).uniform(-0.5, 0.5, (n, n_channels))


def save(path: Path, x: Array | None = None, subtype: str | None = None) -> Path:
    soundfile.write(path, sound() if x is None else x, RATE_HZ, subtype)
    return path


def change(path: Path, how: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(how(path.read_bytes()))
    return path


@each_format
@pytest.mark.parametrize(
    ("n_channels", "names"),
    [(1, ("mono",)), (2, ("left", "right")), (4, ("1", "2", "3", "4"))],
)
def test_a_file_is_one_stream_of_voice_in_full_scale(
    tmp_path: Path, suffix: str, n_channels: int, names: tuple[str, ...]
) -> None:
    x = sound(5000, n_channels)
    recording = open_recording(save(tmp_path / f"clip{suffix}", x))
    (stream,) = recording.streams
    info = stream.info
    assert (recording.name, info.name, info.kind, info.unit) == ("clip", "voice", "voice", "fs")
    assert (info.rate_hz, info.channels, info.shape) == (22050.0, names, (n_channels,))
    assert (stream.n_items, stream.stamps, stream.truth) == (5000, None, None)
    data = stream.read(0, 5000)
    assert data.dtype == np.float32
    assert data.shape == (5000, n_channels)
    if suffix != ".ogg":
        np.testing.assert_allclose(data, x, atol=1.01 / 32768)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_full_scale_does_not_depend_on_how_numbers_are_written(
    tmp_path: Path, subtype: str
) -> None:
    (stream,) = open_recording(save(tmp_path / "p.wav", subtype=subtype)).streams
    tolerance = {"PCM_U8": 1 / 100, "ULAW": 1 / 30}.get(subtype, 1e-6)
    np.testing.assert_allclose(stream.read(0, 33000), sound(), atol=tolerance)


@pytest.mark.parametrize(
    ("suffix", "subtype"), [(".wav", None), (".flac", None), (".ogg", None), (".ogg", "OPUS")]
)
def test_a_file_gives_the_same_bits_in_any_pieces_and_any_order(
    tmp_path: Path, suffix: str, subtype: str | None
) -> None:
    path = tmp_path / f"p{suffix}"
    soundfile.write(path, sound(200_000), 48000, subtype)
    (stream,) = open_recording(path).streams
    whole = stream.read(0, 200_000)
    edges = [0, 1, 700, 701, 66_000, 150_000, 200_000]
    pieces = [(a, b) for a, b in pairwise(edges)]
    for order in (pieces, pieces[::-1], pieces[::2] + pieces[1::2]):
        for first, last in order:
            assert stream.read(first, last).tobytes() == whole[first:last].tobytes()


@each_format
def test_replaying_a_file_gives_all_its_samples_at_their_time(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"p{suffix}")
    whole = open_recording(path).streams[0].read(0, 33000)
    with ReplaySource(path, speed="max", chunk=7000) as source:
        chunks = [source.read(1.0) for _ in range(5)]
    assert [chunk and chunk.first_index for chunk in chunks] == [0, 7000, 14000, 21000, 28000]
    assert np.concatenate([c.data for c in chunks if c]).tobytes() == whole.tobytes()


@each_format
def test_inspect_tells_its_length(tmp_path: Path, suffix: str) -> None:
    described = inspect(save(tmp_path / f"p{suffix}"))
    assert described["duration_s"] == pytest.approx(33000 / 22050, abs=1e-6)
    assert described["streams"][0]["measured_rate_hz"] == pytest.approx(22050)


@each_format
@pytest.mark.parametrize("kept", [0.2, 0.7, 0.995])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = change(save(tmp_path / f"p{suffix}"), lambda b: b[: int(kept * len(b))])
    with pytest.raises(DataError, match=r"cut off or changed|file is malformed") as caught:
        open_recording(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("promised", [b"\xff\xff\xff\xff", b"\0\0\0\0"])
def test_a_wav_written_into_a_pipe_is_read_to_its_end(tmp_path: Path, promised: bytes) -> None:
    path = save(tmp_path / "p.wav")
    at = path.read_bytes().index(b"data") + 4
    change(path, lambda b: b[:at] + promised + b[at + 4 :])
    if promised == b"\0\0\0\0":  # libsndfile takes that at its word
        with pytest.raises(DataError, match="holds no samples"):
            open_recording(path)
    else:
        assert open_recording(path).streams[0].n_items == 33000


@each_format
def test_an_empty_and_a_foreign_file_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    path.touch()
    with pytest.raises(DataError, match="the file is empty"):
        open_recording(path)
    for foreign in (b"version https://git-lfs.github.com/spec/v1\n", b"RIFF", b"\0" * 500):
        path.write_bytes(foreign)
        with pytest.raises(DataError, match=r"not an audio file that can be read: .+"):
            open_recording(path)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no samples$"):
        open_recording(save(tmp_path / "p.wav", sound(0)))


def test_a_flac_that_does_not_know_its_length_is_refused(tmp_path: Path) -> None:
    unknown = bytes(4)  # the last of the bits that count samples, at most 2 ** 32 of them
    path = change(save(tmp_path / "p.flac"), lambda b: b[:22] + unknown + b[26:])
    with pytest.raises(DataError, match="does not say how many samples it has"):
        open_recording(path)


def test_a_flac_damaged_in_the_middle_says_where_it_cannot_be_decoded(tmp_path: Path) -> None:
    path = save(tmp_path / "p.flac", sound(100_000))
    middle = path.stat().st_size // 2
    change(path, lambda b: b[:middle] + b"\0" * 20_000 + b[middle + 20_000 :])
    (stream,) = open_recording(path).streams
    with pytest.raises(DataError, match="cut off or changed"):
        stream.read(0, 100_000)


@each_format
def test_random_damage_gives_a_data_error_or_a_readable_file(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"p{suffix}", sound(6000, 2))
    good, rng, refused = path.read_bytes(), np.random.default_rng(5), 0
    for _ in range(120):
        body = bytearray(good[: rng.integers(1, len(good)) if rng.random() < 0.1 else None])
        for at in rng.integers(0, min(len(body), 200), rng.integers(1, 4)):
            body[at] = rng.integers(0, 256)
        path.write_bytes(body)
        try:
            (stream,) = open_recording(path).streams
            stream.read(0, min(10, stream.n_items))
            inspect(path)
        except DataError:
            refused += 1
    assert refused > 10


def test_a_folder_lists_audio_among_its_recordings(tmp_path: Path) -> None:
    for name in ("b10.wav", "b9.FLAC", "a.ogg", "c.mp3"):
        (tmp_path / name).touch()
    assert [p.name for p in recordings_below(tmp_path)] == ["a.ogg", "b9.FLAC", "b10.wav", "c.mp3"]
