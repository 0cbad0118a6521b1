"""A report is one page that needs nothing else, and says what the figures say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as theirs

from engine.bundle import Bundle
from engine.cli import main
from offline import report
from offline.beside import Beside, Onlooker, join
from offline.datasets.simulate import people
from offline.embeddings import neighbours, principal
from offline.evaluate import predict, summarise
from offline.report_page import page
from offline.verdicts import Row

LABELS = ("happy", "angry", "sad", "calm")
CLOSE = 1e-9


def row(i: int, truth: str, p: np.ndarray[Any, Any], **more: Any) -> Row:
    shares = dict(zip(LABELS, (float(x) for x in p), strict=True))
    who, groups = f"s{i % 7}", {"sex": "fm"[i % 2]}
    return Row(f"{who}/{i}", who, float(i), 0, 9, 1.0, truth, shares, groups, **more)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """210 verdicts that are right more often than not, of 7 people."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 210)
    return [row(i, LABELS[k], rng.dirichlet(1 + 1.5 * np.eye(4)[k])) for i, k in enumerate(truth)]


@pytest.fixture(scope="module")
def figures(rows: list[Row]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    linear = rng.dirichlet(np.ones(4), len(rows))
    return summarise(
        rows, LABELS, dataset="simulate", protocol="p", unit="window", linear=linear
    ) | {"level": "L3"}


def arrays(rows: list[Row]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    truth = np.array([LABELS.index(r.truth) for r in rows])
    return truth, np.array([[r.probabilities[label] for label in LABELS] for r in rows])


def test_all_figures_are_those_of_scikit_learn(rows: list[Row], figures: dict[str, Any]) -> None:
    truth, p = arrays(rows)
    said = p.argmax(1)
    precision, recall, f1, n = theirs.precision_recall_fscore_support(truth, said)
    expected = {
        "uar": theirs.balanced_accuracy_score(truth, said),
        "accuracy": theirs.accuracy_score(truth, said),
        "macro_f1": theirs.f1_score(truth, said, average="macro"),
        "weighted_f1": theirs.f1_score(truth, said, average="weighted"),
        "kappa": theirs.cohen_kappa_score(truth, said),
        "mcc": theirs.matthews_corrcoef(truth, said),
        "auroc": theirs.roc_auc_score(truth, p / p.sum(1, keepdims=True), multi_class="ovr"),
        "brier": float(((p - np.eye(4)[truth]) ** 2).sum(1).mean()),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=CLOSE), name
    assert figures["confusion"] == theirs.confusion_matrix(truth, said).tolist()
    for i, label in enumerate(LABELS):
        told = figures["per_class"][label]
        assert told["n"] == n[i]
        assert told["precision"] == pytest.approx(precision[i], abs=CLOSE)
        assert told["recall"] == pytest.approx(recall[i], abs=CLOSE)
        assert told["f1"] == pytest.approx(f1[i], abs=CLOSE)
    low, high = figures["uar_ci95"]
    assert low < figures["uar"] < high


def test_the_baselines_stand_beside_with_the_same_scores(
    rows: list[Row], figures: dict[str, Any]
) -> None:
    truth, _ = arrays(rows)
    found = figures["baselines"]
    assert {"linear", "majority", "prior"} <= set(found)
    share = np.bincount(truth).max() / len(truth)
    assert found["majority"]["accuracy"] == figures["majority"] == pytest.approx(share, abs=CLOSE)
    assert found["majority"]["uar"] == pytest.approx(0.25)
    scores = {"uar", "accuracy", "macro_f1", "weighted_f1", "kappa", "mcc", "auroc", "ece", "brier"}
    for one in found.values():
        assert scores <= set(one)


def test_groups_of_people_are_judged_apart(rows: list[Row], figures: dict[str, Any]) -> None:
    truth, p = arrays(rows)
    mine = np.array([r.groups["sex"] == "f" for r in rows])
    expected = theirs.balanced_accuracy_score(truth[mine], p[mine].argmax(1))
    assert figures["per_group"]["sex"]["f"]["uar"] == pytest.approx(expected, abs=CLOSE)
    assert figures["per_group"]["sex"]["f"]["n"] == mine.sum()


def test_the_reliability_bins_hold_every_verdict(rows: list[Row], figures: dict[str, Any]) -> None:
    truth, p = arrays(rows)
    bins = figures["reliability"]
    assert sum(bins["n"]) == len(rows)
    right = sum(n * a for n, a in zip(bins["n"], bins["accuracy"], strict=True) if n)
    assert right == pytest.approx((p.argmax(1) == truth).sum())
    gap = sum(
        n * abs(a - c)
        for n, a, c in zip(bins["n"], bins["accuracy"], bins["confidence"], strict=True)
        if n
    )
    assert figures["ece"] == pytest.approx(gap / len(rows), abs=CLOSE)


def test_concordance_of_places_is_lins(rows: list[Row]) -> None:
    rng = np.random.default_rng(2)
    a = rng.random(40)
    b = 0.3 + 0.5 * a + 0.1 * rng.normal(size=40)
    placed = [
        row(3 * i, "happy", np.full(4, 0.25), places={"valence": float(x)},
            true_places={"valence": float(y)})
        for i, (x, y) in enumerate(zip(a, b, strict=True))
    ]  # fmt: skip
    told = summarise(placed, LABELS, dataset="simulate", protocol="p", unit="window")["ccc"]
    lin = 2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert told["valence"] == pytest.approx(lin, abs=CLOSE)


def test_a_recording_is_right_from_when_it_stays_so() -> None:
    p = {True: np.array([0.7, 0.1, 0.1, 0.1]), False: np.array([0.1, 0.7, 0.1, 0.1])}
    course = [False, True, False, True, True]
    made = [
        Row("s0/0", "s0", 10.0 + t, 0, 9, 1.0, "happy",
            dict(zip(LABELS, p[right].tolist(), strict=True)), {}, start_s=9.0)
        for t, right in enumerate(course)
    ]  # fmt: skip
    told = summarise(made, LABELS, dataset="simulate", protocol="p", unit="window")
    assert told["seconds_to_correct"] == {"n": 1, "reached": 1.0, "median": 4.0}


class Page(HTMLParser):
    """Notes what a browser would ask for, and the headings."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [str(v) for k, v in attrs if k in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: Path) -> tuple[Page, str]:
    found = Page()
    text = html.read_text(encoding="utf-8")
    found.feed(text)
    return found, text


@pytest.fixture(scope="module")
def judged() -> tuple[Bundle, list[Row], Beside]:
    bundle = Bundle.load("simulated-eeg")
    look = Onlooker(bundle)
    return (
        bundle,
        (found := predict(bundle, people(900, 3), look=look)),
        look.noted()[np.ones(len(found), bool)],
    )


def test_a_page_asks_for_nothing_and_runs_nothing(
    judged: tuple[Bundle, list[Row], Beside], tmp_path: Path
) -> None:
    bundle, rows, beside = judged
    told = summarise(rows, bundle.labels, dataset="simulate", protocol="p <b>", unit="window")
    runs = [
        {"fold": i, "seed": 0, "losses": [1.0, 0.5], "scores": [[1, 0.3], [2, 0.6]], "epoch": 2,
         "uar": 0.6, "test_uar": 0.5}
        for i in (0, 1)
    ]  # fmt: skip
    brief = {key: told[key] for key in ("uar", "uar_ci95", "accuracy", "macro_f1")}
    compared = {"padding zero": brief, "padding mask": brief | {"uar": 0.9}}
    more = {"runs": runs, "shipped": {"fold": 1, "seed": 0}, "compared": compared, "level": "L3"}
    html = report.write(tmp_path / "report", told | more, rows, bundle, beside=beside)
    found, text = parsed(html)
    assert found.asked == []
    assert not {"script", "link", "iframe", "img", "object"} & set(found.tags)
    assert not re.search(r"https?://(?!www\.w3\.org)|url\(|@import", text)
    words = " ".join(found.text)
    for part in (
        "Confusion", "Calibration", "Labels one by one", "Paddings compared", "Training",
        "principal components", "t-SNE", "Groups of people", "Time, and other units", "Limits",
        "majority",
    ):  # fmt: skip
        assert part in words, part
    assert "p <b>." in words  # what data say is text and no markup
    assert f"{told['uar']:.3f}" in words


def test_the_json_gives_the_page_again(
    judged: tuple[Bundle, list[Row], Beside], tmp_path: Path
) -> None:
    bundle, rows, beside = judged
    told = summarise(rows, bundle.labels, dataset="simulate", protocol="p", unit="window")
    html = report.write(tmp_path / "report", told, rows, bundle, beside=beside)
    kept = json.loads((tmp_path / "report" / "report.json").read_text())
    assert kept["figures"]["confusion"] == told["confusion"]
    assert kept["bundle"]["sha256"] == bundle.sha256
    for points in kept["embeddings"]["points"].values():
        assert len(points) == len(kept["embeddings"]["truth"]) == len(kept["embeddings"]["right"])
    assert len(html.read_text()) == pytest.approx(len(again(kept)), rel=0.01)


def again(kept: dict[str, Any]) -> str:
    points = kept["embeddings"]["points"]
    kept["embeddings"]["points"] = {name: np.array(one) for name, one in points.items()}
    return page(kept)


def test_a_leaky_split_and_seen_people_are_said_aloud(
    judged: tuple[Bundle, list[Row], Beside], tmp_path: Path
) -> None:
    bundle, rows, _ = judged
    told = summarise(rows, bundle.labels, dataset="simulate", protocol="p", unit="window")
    leaky = report.write(tmp_path / "a", told | {"level": "L0"}, rows, bundle)
    seen = report.write(tmp_path / "b", told | {"level": None}, rows, bundle)
    assert "This split leaks" in leaky.read_text()
    assert "people who were trained on are among those who are judged" in seen.read_text()


def test_the_command_writes_page_figures_and_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["evaluate", "simulated-skin", "--dataset", "simulate", "--json", "--out"]
    assert main([*args, str(tmp_path / "out")]) == 0
    figures = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert kept["confusion"] == figures["confusion"]
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == figures["per_window"]["n"]
    assert set(json.loads(lines[0])) == {
        "recording", "subject", "t", "first", "last", "truth", "probabilities",
    }  # fmt: skip
    found, _ = parsed(tmp_path / "out" / "report" / "index.html")
    assert "simulated-skin" in " ".join(found.text)


def test_principal_components_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    x = np.random.default_rng(3).normal(size=(60, 8)) @ np.diag(np.arange(1, 9.0))
    points, shares = principal(x)
    z = (x - x.mean(0)) / x.std(0)
    other = PCA(2, svd_solver="full").fit(z)
    assert shares == pytest.approx(other.explained_variance_ratio_, abs=CLOSE)
    assert np.abs(points) == pytest.approx(np.abs(other.transform(z)), abs=1e-7)


def test_the_picture_of_neighbours_is_the_same_in_every_run_and_needs_some_points() -> None:
    x = np.random.default_rng(4).normal(size=(40, 6))
    first, second = neighbours(x), neighbours(x)
    assert first is not None
    assert np.array_equal(first, second)  # type: ignore[arg-type]
    assert neighbours(x[:4]) is None


def test_what_an_onlooker_keeps_belongs_to_its_row(
    judged: tuple[Bundle, list[Row], Beside],
) -> None:
    _, rows, beside = judged
    n = min(len(rows), 1000)
    assert len(beside.at) == len(beside.embeddings) == n
    assert beside.at.tolist() == sorted(set(beside.at.tolist()))
    some = np.zeros(len(rows), bool)
    some[10:20] = True
    kept = beside[some]
    assert kept.at.tolist() == list(range(len(kept.at)))
    whole = join([kept, beside])
    assert whole.linear is None
    assert len(whole.at) == len(kept.at)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Beside], Beside]:
    def there_and_back(beside: Beside) -> Beside:
        beside.save(tmp_path / "beside.npz")
        return Beside.load(tmp_path / "beside.npz")

    return there_and_back


def test_what_was_noted_survives_the_disk(saved: Callable[[Beside], Beside]) -> None:
    one = Beside(np.eye(3), np.ones((2, 4)), np.array([0, 2]))
    other = saved(one)
    assert np.array_equal(other.at, one.at)
    assert np.array_equal(other.embeddings, one.embeddings)
    assert other.linear is not None
    assert np.array_equal(other.linear, np.eye(3))
    assert saved(Beside(None, one.embeddings, one.at)).linear is None
