"""Pictures from JPEG to a followed face on a regular grid, and markers told at their time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.account import Account
from engine.errors import BundleError, ConfigError, ResourceError
from engine.heldgrid import HeldGrid
from engine.plan import SessionPlan, StreamPlan
from engine.session import Session
from engine.steps.faces import DecodeJpeg, FaceCrop
from engine.timeline import Run
from engine.types import Array, Chunk, Marker, StreamInfo

cv2 = pytest.importorskip("cv2")
DATA = Path(__file__).parents[2] / "shared" / "data"
PICTURES = StreamInfo("face", "face", 15.0, ("blue", "green", "red"), "level", (0, 0, 3))
CAMERA = StreamInfo("face", "face", None, ("blue", "green", "red"), "jpeg", ())


# -- the grid ---------------------------------------------------------------------------------


def grid(chunks: Sequence[Chunk], **about: Any) -> tuple[list[Any], list[bool], list[int], Account]:
    """What the grid makes of chunks: items, validity, segments; and the balanced account."""
    account = Account()
    notes: list[Any] = []
    held: list[HeldGrid] = []
    stage = account.stage("face", "timeline", lambda: held[0].held() if held else 0)
    info = about.pop("info", CAMERA)
    held.append(HeldGrid(info, 10.0, stage, lambda *note: notes.append(note), **about))
    items, valid, segments = [], [], []

    def out(run: Run) -> None:
        items.extend(run.data.tolist())
        valid.extend(run.valid.tolist())
        segments.extend([run.segment] * len(run.data))

    for chunk in chunks:
        held[0].push(chunk, out)
    held[0].end(out)
    account.check()
    assert held[0].span() == len(items)
    return items, valid, segments, account


def shots(times_s: Sequence[float], segment: int = 0) -> list[Chunk]:
    made = []
    for i, t in enumerate(times_s):
        data = np.empty(1, object)
        data[0] = f"{segment}:{i}".encode()
        made.append(Chunk("face", segment, i, ((i, float(t)),), data))
    return made


def joined(chunks: Sequence[Chunk], sizes: np.random.Generator) -> Iterator[Chunk]:
    at = 0
    while at < len(chunks):
        n = int(sizes.integers(1, 9))
        part = [c for c in chunks[at : at + n] if c.segment == chunks[at].segment]
        data = np.concatenate([c.data for c in part])
        yield Chunk(
            "face", part[0].segment, part[0].first_index, sum((c.stamps for c in part), ()), data
        )
        at += len(part)


def test_each_instant_has_the_newest_picture_up_to_there() -> None:
    items, valid, _, account = grid(shots([0.0, 0.05, 0.19, 0.41, 0.44, 0.5]))
    assert items == [b"0:0", b"0:1", b"0:2", b"0:2", b"0:2", b"0:5"]
    assert all(valid)
    counts = account.snapshot()["face"]["timeline"]
    assert counts["made"] == {"repeat": 2}
    assert counts["dropped"] == {"stale": 2}


def test_a_picture_that_grows_old_stands_there_invalid_and_a_long_gap_is_a_new_segment() -> None:
    items, valid, segments, _ = grid(shots([0.0, 0.8, 2.9, 3.0]), stale_s=0.25)
    assert items[:8] == [b"0:0"] * 8
    assert valid[:8] == [True] * 3 + [False] * 5
    assert segments == [0] * 9 + [1] * 2


@pytest.mark.parametrize("seed", range(6))
def test_the_grid_is_the_same_however_pictures_are_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.choice([0.033, 0.066, 0.15, 0.7, 3.0], 200, p=[0.5, 0.3, 0.15, 0.03, 0.02])
    times_s = np.cumsum(steps + rng.uniform(0, 0.02, 200))
    whole = [*shots(times_s[:120]), *shots(times_s[120:], segment=1)]
    assert grid(list(joined(whole, rng)))[:3] == grid(whole)[:3]


def test_pictures_that_come_twice_or_without_a_stamp_are_counted() -> None:
    first, second = shots([0.0, 0.1])
    bare = Chunk("face", 0, 2, (), second.data)
    counts = grid([first, second, second, bare])[3].snapshot()["face"]["timeline"]
    assert counts["dropped"] == {"duplicate": 1, "late": 1}


@pytest.mark.parametrize("size", [1, 7, 60])
def test_a_film_of_another_rate_is_held_and_its_pictures_follow_its_last_stamp(size: int) -> None:
    info = StreamInfo("face", "face", 30_000 / 1001, CAMERA.channels, "jpeg", ())
    pictures = np.arange(60)
    chunks = [
        Chunk("face", 0, i, ((0, 5.0),) if i == 0 else (), pictures[i : i + size])
        for i in range(0, 60, size)
    ]
    items, valid, segments, _ = grid(chunks, info=info)
    newest = [int(np.floor(j / 10.0 * 30_000 / 1001 + 1e-9)) for j in range(len(items))]
    assert items[:-1] == newest[:-1]
    assert 19 <= len(items) <= 21
    assert all(valid)
    assert set(segments) == {0}


# -- decoding and cropping --------------------------------------------------------------------


def film(name: str, every: int = 8) -> list[Array]:
    path = DATA / "video" / name
    if not path.is_file():
        pytest.skip(f"no {name} here")
    if path.suffix == ".jpg":
        return [cv2.imread(str(path))]
    camera, found = cv2.VideoCapture(str(path)), []
    while (read := camera.read())[0]:
        found.append(read[1])
    return found[::every]


def objects(pictures: Sequence[Array]) -> Array:
    made = np.empty(len(pictures), object)
    made[:] = list(pictures)
    return made


def crops(pictures: Sequence[Array], **args: Any) -> tuple[Array, Array, Any]:
    step = FaceCrop(PICTURES, **args)
    return step(objects(pictures), np.ones(len(pictures), bool))


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("pyfeat_single_face.mp4", True),
        ("pyfeat_no_face.mp4", False),
        ("pyfeat_WolfgangLanger_Pexels.mp4", True),
    ],
)
def test_a_clip_whose_name_says_so_has_or_has_no_face_in_95_of_100_pictures(
    name: str, there: bool
) -> None:
    _, valid, _ = crops(film(name))
    assert np.mean(valid == there) >= 0.95


@pytest.mark.parametrize("name", ["pyfeat_face_noface.mov", "pyfeat_noface_face.mov"])
def test_a_face_that_comes_or_goes_is_seen_at_the_right_end(name: str) -> None:
    _, valid, _ = crops(film(name, every=4))
    begins = name.startswith("pyfeat_face")
    edge = int(np.count_nonzero(valid)) if begins else len(valid) - int(np.count_nonzero(valid))
    expected = np.arange(len(valid)) < edge if begins else np.arange(len(valid)) >= edge
    assert 0 < np.count_nonzero(valid) < len(valid)
    assert np.mean(valid == expected) >= 0.95


def test_several_faces_have_their_own_ids_and_one_is_cut_out() -> None:
    x, valid, notes = crops(film("pyfeat_multi_face.jpg"))
    ids = [face["id"] for face in notes["faces"]]
    assert len(ids) >= 4
    assert len(set(ids)) == len(ids)
    assert notes["face"] in ids
    assert valid.all()
    assert x.shape == (1, 48, 48, 1)


def test_a_face_keeps_its_id_through_a_clip() -> None:
    step = FaceCrop(PICTURES)
    ids = set()
    for picture in film("pyfeat_single_face.mp4"):
        notes = step(objects([picture]), np.ones(1, bool))[2]
        ids |= {face["id"] for face in notes["faces"]}
    assert ids == {0}


@pytest.mark.parametrize("size", [1, 3])
def test_crops_are_the_same_however_pictures_are_cut(size: int) -> None:
    pictures = film("pyfeat_noface_face.mov", every=10)
    whole = crops(pictures)
    step = FaceCrop(PICTURES)
    parts = [
        step(objects(pictures[i : i + size]), np.ones(len(pictures[i : i + size]), bool))
        for i in range(0, len(pictures), size)
    ]
    assert np.array_equal(np.concatenate([p[0] for p in parts]), whole[0])
    assert np.array_equal(np.concatenate([p[1] for p in parts]), whole[1])
    assert parts[-1][2] == whole[2]


def test_a_file_that_is_no_jpeg_is_invalid_and_the_others_are_decoded() -> None:
    good = cv2.imencode(".jpg", np.full((8, 6, 3), 90, np.uint8))[1].tobytes()
    x, valid, _ = DecodeJpeg(CAMERA)(objects([good, b"no picture", b"", good]), np.ones(4, bool))
    assert valid.tolist() == [True, False, False, True]
    assert x[0].shape == (8, 6, 3)


def test_yunet_needs_its_file_and_says_where_it_comes_from() -> None:
    step = FaceCrop(PICTURES, detector="yunet", model="nowhere.onnx")
    with pytest.raises(ResourceError, match=r"nowhere\.onnx: no such file; YuNet"):
        step(objects([np.zeros((64, 64, 3), np.uint8)]), np.ones(1, bool))


@pytest.mark.parametrize(
    "args",
    [{"detector": "eyes"}, {"model": "x.onnx"}, {"detector": "yunet"}, {"size": 2}, {"margin": 9}],
)
def test_arguments_that_do_not_fit_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="face_crop"):
        FaceCrop(PICTURES, **args)


def test_other_streams_are_refused() -> None:
    eeg = StreamInfo("cap", "eeg", 128.0, ("Cz",), "uV", (1,))
    with pytest.raises(BundleError, match="needs pictures"):
        FaceCrop(eeg)
    with pytest.raises(BundleError, match="needs JPEG"):
        DecodeJpeg(PICTURES)


# -- markers ----------------------------------------------------------------------------------


def test_markers_are_told_at_their_stamps_once_each() -> None:
    told: list[Any] = []
    session = Session(SessionPlan("p1", "run", {"marks": StreamPlan()}), told.append)
    info = StreamInfo("marks", "marker", None, ("marker",), "", (1,))
    session.command("connect", stream="marks", info=info)
    data = np.array([["clap"], ["bow"]], object)
    chunk = Chunk("marks", 0, 0, ((0, 1.25), (1, 2.5)), data)
    session.push(chunk)
    session.push(chunk)
    session.account.check()
    markers = [m for m in told if isinstance(m, Marker)]
    assert [(m.t, m.value, m.stream) for m in markers] == [
        (1.25, "clap", "marks"),
        (2.5, "bow", "marks"),
    ]
