"""Video files: every picture once, in its place in time, with the sound where it can be read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.types import Array
from sources.files import inspect, open_recording
from sources.synthetic.portrait import Expression, Sitter, portrait

DATA = Path(__file__).resolve().parents[1].parent / "shared/data/video"
CODERS = {".avi": "MJPG", ".flv": None, ".mkv": "MJPG", ".mov": "mp4v", ".mp4": "mp4v"} | {
    ".webm": "VP80"
}
WIDE, HIGH, N = 64, 48, 20
NTSC_HZ = 30000 / 1001


def write_film(path: Path, n: int = N, rate_hz: float = NTSC_HZ) -> Path:
    """A film that gets brighter, and whose blue is darker than its red."""
    import cv2

    word = CODERS[path.suffix]
    coder = 2 if word is None else cv2.VideoWriter_fourcc(*word)
    film = cv2.VideoWriter(str(path), coder, rate_hz, (WIDE, HIGH))
    for k in range(n):
        film.write(np.full((HIGH, WIDE, 3), (4 * k, 8 * k, 12 * k), np.uint8))
    film.release()
    return path


def write_sounding(path: Path, times_ms: Sequence[int], sound_s: float = 1.0) -> Array:
    """Pictures at these times, and a tone of 440 Hz in both channels; gives the tone."""
    av = pytest.importorskip("av", reason="writing films with sound needs PyAV")
    t = np.arange(round(16000 * sound_s)) / 16000
    tone = (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    with av.open(str(path), "w") as film:
        pictures = film.add_stream("mjpeg", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = WIDE, HIGH, "yuvj420p"
        pictures.codec_context.time_base = Fraction(1, 1000)
        track = film.add_stream("pcm_s16le", rate=16000, layout="stereo")
        for k, at in enumerate(times_ms):
            grey = np.full((HIGH, WIDE, 3), 10 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, "bgr24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            film.mux(pictures.encode(frame))
        film.mux(pictures.encode(None))
        whole = np.round(32767 * np.stack([tone, tone], 1)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(whole.reshape(1, -1), "s16", "stereo")
        frame.sample_rate = 16000
        film.mux(track.encode(frame))
        film.mux(track.encode(None))
    return tone


@pytest.mark.parametrize("suffix", CODERS)
def test_a_film_is_a_stream_of_its_pictures_at_its_rate(tmp_path: Path, suffix: str) -> None:
    recording = open_recording(write_film(tmp_path / f"a{suffix}"))
    stream = recording.streams[0]
    assert (stream.info.name, stream.info.kind, stream.info.unit) == ("face", "face", "level")
    assert stream.info.channels == ("blue", "green", "red")
    assert (stream.n_items, stream.info.rate_hz, stream.stamps) == (N, NTSC_HZ, None)
    x = stream.read(0, N)
    assert (x.shape, x.dtype) == ((N, HIGH, WIDE, 3), np.uint8)
    told = np.arange(N)[:, None] * [4, 8, 12]
    np.testing.assert_allclose(x.mean(axis=(1, 2)), told, atol=9)  # coders are lossy


def test_pictures_are_the_same_bits_however_they_are_read(tmp_path: Path) -> None:
    stream = open_recording(write_film(tmp_path / "a.mp4")).streams[0]
    whole = stream.read(0, N)
    for size in (1, 3, 7):
        pieces = [stream.read(at, min(at + size, N)) for at in range(0, N, size)]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
    np.testing.assert_array_equal(stream.read(9, 11), whole[9:11])
    np.testing.assert_array_equal(stream.read(2, 4), whole[2:4])  # backwards


def test_the_pictures_are_those_that_opencv_decodes(tmp_path: Path) -> None:
    import cv2

    path = write_film(tmp_path / "a.flv")
    film, pictures = cv2.VideoCapture(str(path)), []
    while (got := film.read())[0]:
        pictures.append(got[1])
    np.testing.assert_array_equal(open_recording(path).streams[0].read(0, N), np.array(pictures))


@pytest.mark.parametrize("suffix", [".avi", ".flv", ".mp4"])
@pytest.mark.parametrize("share", [0.45, 0.99])
def test_a_film_that_is_cut_off_says_so(tmp_path: Path, suffix: str, share: float) -> None:
    path = write_film(tmp_path / f"a{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"promises \d+ bytes, there are \d+; .* cut off"):
        open_recording(path)


@pytest.mark.parametrize("content", [b"no film\n", bytes(5000)])
def test_what_is_no_film_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a video that can be read"):
        open_recording(path)


def test_a_film_that_changes_while_it_is_read_says_so(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4")
    stream = open_recording(path).streams[0]
    write_film(path, n=5)
    with pytest.raises(DataError, match=r"5 of 20 pictures can be decoded; the file was cut off"):
        stream.read(0, N)


def test_a_film_of_varying_rate_keeps_its_stamps(tmp_path: Path) -> None:
    times_ms = [0, 40, 60, 140, 160, 240]
    write_sounding(tmp_path / "a.mkv", times_ms)
    stream = open_recording(tmp_path / "a.mkv").streams[0]
    assert [round(1e3 * stream.time(k)) for k in range(6)] == times_ms
    assert stream.info.rate_hz == pytest.approx(5 / 0.24)


def test_a_second_without_a_picture_begins_a_new_segment(tmp_path: Path) -> None:
    write_sounding(tmp_path / "a.mkv", [0, 40, 80, 2000, 2040])
    stream = open_recording(tmp_path / "a.mkv").streams[0]
    assert stream.segment_starts == (0, 3)
    assert stream.info.rate_hz == pytest.approx(25)
    assert inspect(tmp_path / "a.mkv")["streams"][0]["segments"] == 2


def test_the_sound_of_a_film_is_its_voice(tmp_path: Path) -> None:
    tone = write_sounding(tmp_path / "a.mkv", [0, 40, 80])
    face, voice = open_recording(tmp_path / "a.mkv").streams
    assert (face.info.kind, voice.info.kind, voice.info.rate_hz) == ("face", "voice", 16000)
    assert (voice.info.channels, voice.info.unit, voice.n_items) == (("left", "right"), "fs", 16000)
    x = voice.read(0, 16000)
    np.testing.assert_allclose(x, np.stack([tone, tone], 1), atol=1e-4)
    pieces = [voice.read(at, min(at + 777, 16000)) for at in range(0, 16000, 777)]
    np.testing.assert_array_equal(np.concatenate(pieces), x)
    np.testing.assert_array_equal(voice.read(500, 600), x[500:600])


def test_without_pyav_the_sound_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_film(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    recording = open_recording(tmp_path / "a.mp4")
    assert [s.info.name for s in recording.streams] == ["face"]
    assert recording.warnings == (
        "its sound, if it has any, is left out: that needs pip install vagus[video]",
    )


def test_a_face_detector_finds_the_portraits() -> None:
    import cv2

    finder = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    rng, found, n = np.random.default_rng(3), 0, 0
    for _ in range(24):
        sitter = Sitter.of(rng)
        for _ in range(5):
            face = Expression(*rng.uniform(-0.8, 0.8, 6).tolist())
            pose = rng.normal(0.0, 0.03, 3).tolist()
            picture = portrait(sitter, face, (240, 180), rng, pose)
            grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
            found += len(finder.detectMultiScale(grey, 1.1, 4, minSize=(40, 40))) > 0
            n += 1
    assert found / n >= 0.95


@pytest.mark.parametrize(
    ("name", "n", "rate_hz"),
    [("pyfeat_single_face.mp4", 72, 30.0), ("pyfeat_WolfgangLanger_Pexels.mp4", 472, 24 / 1.001)],
)
def test_the_real_clips_have_their_pictures_and_rates(name: str, n: int, rate_hz: float) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"the shared data are not on this machine: {name}")
    stream = open_recording(DATA / name).streams[0]
    assert (stream.n_items, stream.info.rate_hz) == (n, pytest.approx(rate_hz))
    assert stream.stamps is None
    assert stream.read(10, 12).std() > 10
