"""SEED-V live: trained on its feature files, fed by a raw `.cnt`, against the evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import Player
from engine.bundle import Bundle
from engine.config import config_from
from engine.prepare import plan
from engine.types import Prediction
from offline.calls import prepare, train
from offline.evaluate import Row, predict
from offline.fixtures import fixture
from offline.readers import open_labelled, read
from sources.feed import match_bundles, play_recording, recording_plan
from sources.files import open_recording
from tests.impersonation import impersonate

pytestmark = pytest.mark.slow

_QUICK = {"training.split.unit": "official:0", "training.epochs": "10", "training.batch": "64"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle, list[Row]]:
    """Files, a bundle of their features, and what it is judged to say of the raw clips."""
    root = tmp_path_factory.mktemp("seed-v")
    fixture("seed-v").write(root, subjects=3, seed=3)
    bundle = train(prepare("seed-v-dnn", root, _QUICK), root / "runs")
    return root, bundle, predict(bundle, read("seed-v", root, {"form": "raw"}))


def told(found: list[Prediction]) -> list[tuple[float, dict[str, float]]]:
    """When each prediction ends, seconds, and its probabilities."""
    return [(p.t, dict(p.probabilities)) for p in found if p.probabilities is not None]


def test_the_planted_emotions_are_told_from_the_raw_signal(
    made: tuple[Path, Bundle, list[Row]],
) -> None:
    _, _, rows = made
    assert [row.truth for row in rows] == ["happy", "fear", "neutral", "sad", "disgust"]
    assert (
        sum(max(row.probabilities, key=row.probabilities.__getitem__) == row.truth for row in rows)
        >= 4
    )


@pytest.mark.parametrize("chunk", [None, 7, 999])
def test_a_raw_clip_that_streams_at_1000_hz_is_told_as_it_was_judged(
    made: tuple[Path, Bundle, list[Row]], chunk: int | None
) -> None:
    root, bundle, rows = made
    for recording, row in zip(read("seed-v", root, {"form": "raw"}), rows, strict=True):
        opened = open_labelled(recording)
        assert opened.streams[0].info.rate_hz == 1000.0
        player = Player(recording_plan(opened, match_bundles(opened, {"": bundle})))
        played = play_recording(opened, player, chunk)
        ((_, said),) = told([m for m in played if isinstance(m, Prediction)])
        assert said == row.probabilities


def test_the_whole_file_tells_the_emotion_of_each_window_that_lies_in_one_clip(
    made: tuple[Path, Bundle, list[Row]],
) -> None:
    root, bundle, _ = made
    opened = open_recording(next((root / "EEG_raw").glob("*.cnt")))
    (stream,) = opened.streams
    source = {"type": "replay", "path": str(opened.path)}
    streams = {stream.info.name: {"source": source, "bundle": "seed-v-dnn"}}
    config = config_from({"session": "s", "streams": streams})
    player = Player(plan(config, "run", 0.0, None, lambda name, device: bundle))
    played = play_recording(opened, player)
    said = {p.t: p.label for p in played if isinstance(p, Prediction)}
    # A clip of 4 s after each second of pause: these windows have 3 s or more of one clip.
    planted = {4.0: "happy", 16.0: "neutral", 20.0: "sad", 24.0: "disgust"}
    assert sum(said[t] == emotion for t, emotion in planted.items()) >= 3


def test_the_file_played_over_lsl_gives_the_predictions_of_its_replay(
    made: tuple[Path, Bundle, list[Row]], tmp_path: Path
) -> None:
    pytest.importorskip("pylsl")
    root, bundle, _ = made
    path = next((root / "EEG_raw").glob("*.cnt"))
    impersonate(path, bundle.path, tmp_path).check(5)
