"""A search finds what is planted, on validation alone; what was interrupted goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import offline.calls
from engine.cli import main
from engine.errors import ConfigError
from offline.datasets import LabelledRecording
from offline.datasets.simulate import people
from offline.readers import open_labelled
from offline.recipe import load_recipe
from offline.splits import read_split
from offline.tune import tune
from tests.test_train import TEXT

SPACE = """
tune:
  training.learning_rate: {low: 1.0e-7, high: 0.1, log: true}
"""
QUICK = {"training.epochs": "6", "training.average": "0.0", "training.augment": "{}"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small config whose learning rate is varied over six decades; twelve people."""
    monkeypatch.setattr(offline.calls, "read", lambda *about: people(900, 12))
    path = tmp_path / "small.yaml"
    path.write_text(TEXT + SPACE)
    return str(path)


def trials(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "trials.json").read_text())
    return found


def test_a_planted_optimum_is_found(config: str, tmp_path: Path) -> None:
    found = tune(config, None, tmp_path / "out", n_trials=12, changes=QUICK)
    assert found.settings["training.learning_rate"] > 1e-4  # below, six epochs move nothing
    told = trials(tmp_path / "out")
    slow = [t["uar"] for t in told if t["settings"]["training.learning_rate"] < 1e-5]
    assert all(uar is None or uar <= found.uar for uar in slow)
    assert found.uar == max(t["uar"] for t in told if t["state"] == "COMPLETE")
    assert found.n_complete + found.n_pruned + found.n_failed == len(told) == 12
    best = load_recipe(str(tmp_path / "out" / "best.yaml"))
    assert best.training is not None
    rate = found.settings["training.learning_rate"]
    assert best.training.learning_rate == pytest.approx(rate)


def test_the_test_part_is_never_opened(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: set[str] = set()
    reading = open_labelled

    def noted(recording: LabelledRecording) -> Any:
        opened.add(recording.subject)
        return reading(recording)

    def judged(*about: object, **more: object) -> None:
        raise AssertionError("a search judged something through the serving runtime")

    monkeypatch.setattr("offline.windows.open_labelled", noted)
    monkeypatch.setattr("offline.evaluate.predict", judged)
    monkeypatch.setattr("offline.train.predict", judged)
    tune(config, None, tmp_path / "out", n_trials=2, changes=QUICK)
    split = read_split(tmp_path / "out" / "split.json")
    assert opened == {*split.train, *split.val}
    assert split.test
    assert not opened & set(split.test)


def test_a_search_goes_on_where_it_stopped_and_begins_nothing_anew(
    config: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tune(config, None, out, n_trials=3, changes=QUICK)
    before = trials(out)
    said: list[str] = []
    tune(config, None, out, n_trials=5, changes=QUICK, say=said.append)
    after = trials(out)
    assert after[:3] == before
    assert len(after) == 5
    assert {line.partition(":")[0] for line in said} == {"trial 3", "trial 4"}
    tune(config, None, out, n_trials=5, changes=QUICK, say=said.append)
    assert trials(out) == after


def test_what_was_under_way_when_it_was_killed_is_tried_again(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    tune(config, None, out, n_trials=1, changes=QUICK)

    def killed(*about: object) -> float:
        raise SystemExit(9)

    with monkeypatch.context() as cut_off:
        cut_off.setattr("offline.tune.validate", killed)
        with pytest.raises(SystemExit):
            tune(config, None, out, n_trials=2, changes=QUICK)
    tune(config, None, out, n_trials=3, changes=QUICK)
    told = trials(out)
    assert [t["state"] for t in told[:2]] == ["COMPLETE", "FAIL"]
    assert told[2]["settings"] == told[1]["settings"]
    assert told[2]["state"] in ("COMPLETE", "PRUNED")


@pytest.mark.slow
def test_a_search_that_is_killed_by_the_system_leaves_what_can_go_on(tmp_path: Path) -> None:
    path, out = tmp_path / "small.yaml", tmp_path / "out"
    path.write_text(TEXT + SPACE)
    args = [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())"]
    args += ["tune", str(path), "--out", str(out), "--trials", "50"]
    args += [x for key, value in QUICK.items() for x in ("--set", f"{key}={value}")]
    process = subprocess.Popen(args, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    journal = out / "trials.journal"
    wait_for(lambda: journal.is_file() and journal.read_bytes().count(b'"state":1') >= 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    n = journal.read_bytes().count(b'"state":1')
    found = tune(str(path), None, out, n_trials=n + 2, changes=QUICK)
    assert found.n_complete >= n
    assert (out / "best.yaml").is_file()


def wait_for(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + 120
    while not true():
        assert process.poll() is None, "ended on its own"
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_a_trial_that_falls_behind_is_given_up(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    def validate(run: Any, told: Callable[[int, float], None], watch: object) -> float:
        worth = 0.9 if run.told.learning_rate > 1e-3 else 0.3
        for epoch in range(1, 7):
            heard.append(epoch)
            told(epoch, worth - 0.01 * (6 - epoch))
        return worth

    monkeypatch.setattr("offline.tune.validate", validate)
    found = tune(config, None, tmp_path / "out", n_trials=20, changes=QUICK)
    assert found.n_pruned > 0
    assert len(heard) < 20 * 6
    assert found.uar == 0.9
    assert found.settings["training.learning_rate"] > 1e-3


def test_settings_that_do_not_go_together_fail_with_a_reason_and_others_go_on(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(run: Any, told: object, watch: object) -> float:
        if run.told.learning_rate < 1e-3:
            raise ConfigError("too slow for words")
        return 0.5

    monkeypatch.setattr("offline.tune.validate", validate)
    found = tune(config, None, tmp_path / "out", n_trials=8, changes=QUICK)
    assert found.n_failed > 0
    assert found.n_complete > 0


def test_another_search_in_the_same_folder_is_refused(config: str, tmp_path: Path) -> None:
    tune(config, None, tmp_path / "out", n_trials=1, changes=QUICK)
    with pytest.raises(ConfigError, match="holds trials of another search"):
        tune(config, None, tmp_path / "out", n_trials=2, changes=QUICK | {"training.epochs": "7"})


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("{training.learning_rat: {low: 1, high: 2}}", "learning_rat"),
        ("{training.batch: {low: 1, high: 64}}", "1 makes no config"),
        ("{training.batch: {low: 64}}", "needs two numbers, low and high"),
        ("{training.batch: {low: 64, high: 8}}", "low 64 must be below high 8"),
        (
            "{training.batch: {choices: [8, 16], low: 1, high: 2}}",
            "either low and high, or choices",
        ),
        ("{training.mixup: {low: 0, high: 1, log: true}}", "log needs low above 0"),
    ],
)
def test_a_space_that_makes_no_config_is_told_before_anything_is_trained(
    space: str, words: str, config: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        tune(config, None, tmp_path / "out", n_trials=1, changes=QUICK | {"tune": space})
    assert not (tmp_path / "out" / "trials.journal").exists()


def test_a_leaky_split_is_not_searched(config: str, tmp_path: Path) -> None:
    changes = QUICK | {"training.split.unit": "leaky-random"}
    with pytest.raises(ConfigError, match="would find what leaks best"):
        tune(config, None, tmp_path / "out", n_trials=1, changes=changes)


def test_the_command_says_what_is_best_and_what_comes_next(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["tune", config, "--out", str(tmp_path / "out"), "--trials", "2"]
    args += [x for key, value in QUICK.items() for x in ("--set", f"{key}={value}")]
    assert main(args) == 0
    said = capsys.readouterr().out
    assert "best validation UAR" in said
    assert f"next: vagus train {tmp_path / 'out' / 'best.yaml'}" in said
    assert main([*args, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"uar", "settings", "dir"}
