"""The bundles that come with vagus, on real recordings: each says what is there to be seen."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from engine.bundle import Bundle, shipped_names
from engine.cli import main
from offline.evaluate import predict
from offline.readers import read
from offline.verdicts import Row

DATA = Path(__file__).parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not there")
MOST_BYTES = 15e6  # of all bundles together


def mean(rows: list[Row], label: str, truth: str) -> float:
    """Of the probabilities of `label` where `truth` holds."""
    return float(np.mean([row.probabilities[label] for row in rows if row.truth == truth]))


def seen(film: str, folder: Path) -> list[str | None]:
    """What `face-6` says of a film, each label that lasts for two pictures or more once."""
    out = folder / "told.jsonl"
    path = str(DATA / "video" / film)
    assert main(["replay", path, "--bundle", "face-6", "--out", str(out)]) == 0
    labels = [json.loads(line)["label"] for line in out.read_text().splitlines()]
    runs = [(label, len(list(run))) for label, run in groupby(labels)]
    lasting = [label for label, n in runs if n >= 2]
    return [label for label, _ in groupby(lasting)]


def test_all_bundles_together_stay_small_and_name_their_licence_and_their_limits() -> None:
    total = 0
    for name in shipped_names():
        bundle = Bundle.load(name)
        total += sum(file.stat().st_size for file in bundle.path.iterdir())
        card = (bundle.path / "CARD.md").read_text()
        assert bundle.licence in card
        assert "## Limits" in card
        assert bundle.metrics["uar"] > 1.2 / len(bundle.labels)
    assert total < MOST_BYTES


@real
def test_a_face_that_begins_to_smile_and_stops_is_seen_to(tmp_path: Path) -> None:
    assert seen("pyfeat_single_face.mp4", tmp_path) == ["neutral", "happy", "neutral"]


@real
def test_a_picture_without_a_face_gets_no_label(tmp_path: Path) -> None:
    assert seen("pyfeat_no_face.mp4", tmp_path) == [None]


@real
def test_mental_arithmetic_looks_more_like_work_than_rest_does() -> None:
    found = read("eegmat", DATA / "eeg" / "eegmat_128hz")
    few = sorted({r.subject for r in found})[:3]
    rows = predict(
        Bundle.load("workload-eegmat-rest"), [r for r in found if r.subject in few], 30.0
    )
    for subject in few:
        own = [row for row in rows if row.subject == subject]
        assert mean(own, "task", "task") > mean(own, "task", "rest") + 0.2


@real
@pytest.mark.slow
def test_a_stress_task_looks_more_like_stress_than_the_time_around_it() -> None:
    found = read("stress-predict", DATA / "physio" / "stress_predict")[:3]
    rows = predict(Bundle.load("stress-wrist"), found)
    assert mean(rows, "stress", "stress") > mean(rows, "stress", "baseline") + 0.1


@real
def test_voices_that_nobody_trained_on_are_told_apart_by_more_than_chance() -> None:
    bundle = Bundle.load("speech-ravdess-8")
    found = read("ravdess", DATA / "speech" / "ravdess")
    others = [r for r in found if r.subject not in bundle.seen_subjects][::8]
    rows = predict(bundle, others)
    right = np.mean([max(r.probabilities, key=r.probabilities.__getitem__) == r.truth
                     for r in rows])  # fmt: skip
    assert len({r.subject for r in rows}) >= 4
    assert right > 2.5 / 8
