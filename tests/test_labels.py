"""The registry of labels: every code of every data set, and that their orders differ."""

from __future__ import annotations

from itertools import combinations

import pytest

from engine.errors import DataError
from offline.labels import CANONICAL, CODES, EMOTIONS, canonical, canonical_label
from offline.readers import reader

# By the data sets' documents, in the order of their own codes.
KNOWN = {
    "deap": "lv valence-low, hv valence-high, la arousal-low, ha arousal-high, hvha hvha, "
    "hvla hvla, lvha lvha, lvla lvla",
    "seed-v": "0 disgust, 1 fear, 2 sad, 3 neutral, 4 happy",
    "ravdess": "01 neutral, 02 calm, 03 happy, 04 sad, 05 angry, 06 fear, 07 disgust, 08 surprise",
    "crema-d": "ANG angry, DIS disgust, FEA fear, HAP happy, NEU neutral, SAD sad",
    "savee": "a angry, d disgust, f fear, h happy, n neutral, sa sad, su surprise",
    "emodb": "N neutral, F happy, T sad, W angry, A fear, E disgust",
    "nemo": "neutral neutral, happiness happy, sadness sad, anger angry, fear fear, "
    "surprised surprise",
    "ck-plus": "0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral, 7 contempt",
    "fer2013": "0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral",
    "ferplus": "neutral neutral, happiness happy, surprise surprise, sadness sad, anger angry, "
    "disgust disgust, fear fear, contempt contempt",
    "affectnet": "0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 angry, 7 contempt",
    "eegmat": "1 rest, 2 task",
    "stress-predict": "0 baseline, 1 stress",
    "faces": "neutral neutral, happy happy, sad sad, angry angry, fear fear, disgust disgust, "
    "surprise surprise",
}


@pytest.mark.parametrize("dataset", KNOWN)
def test_every_code_of_a_data_set_has_its_documented_label(dataset: str) -> None:
    pairs = (pair.split() for pair in KNOWN[dataset].split(", "))
    assert list(CODES[dataset].items()) == [(code, label) for code, label in pairs]


def test_no_data_set_of_the_registry_is_without_a_test() -> None:
    assert set(CODES) == set(KNOWN)


def test_every_label_is_canonical() -> None:
    assert {label for codes in CODES.values() for label in codes.values()} <= set(CANONICAL)
    assert len(set(CANONICAL)) == len(CANONICAL)


def test_four_orders_of_the_same_emotions_differ_from_each_other() -> None:
    orders = {name: tuple(CODES[name].values()) for name in ("fer2013", "affectnet", "ck-plus")}
    orders["alphabetical"] = tuple(sorted(orders["ck-plus"]))
    for (a, order), (b, other) in combinations(orders.items(), 2):
        assert order != other, (a, b)
    pairs = zip(orders["fer2013"], orders["affectnet"], strict=False)
    assert not any(a == b for a, b in pairs), "a code of the one would mean the same in the other"
    assert set(orders["ck-plus"]) == set(orders["affectnet"]) == set(EMOTIONS) - {"calm"}


@pytest.mark.parametrize("dataset", sorted(set(CODES) - {"ferplus", "faces"}))
def test_a_reader_promises_the_labels_that_the_registry_knows(dataset: str) -> None:
    assert set(reader(dataset).LABELS) == set(CODES[dataset].values())


def test_the_faces_are_of_all_their_labels_but_fear_by_default() -> None:
    assert set(reader("faces").LABELS) == set(CODES["faces"].values()) - {"fear"}


def test_a_code_without_meaning_is_refused_by_name() -> None:
    assert canonical("affectnet", "6") == "angry"
    with pytest.raises(DataError, match=r"'8' of affectnet is none of 0, 1, 2, 3, 4, 5, 6, 7"):
        canonical("affectnet", "8")
    assert canonical_label("stress") == "stress"
    with pytest.raises(DataError, match=r"'hapy' is no canonical label; did you mean 'happy'\?"):
        canonical_label("hapy")
