"""Verbs at a running engine: repeated without harm, refused with a code, told by the status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.control import ControlError, request
from engine.daemon import Engine
from engine.verbs import VERBS
from tests.bundles import write
from tests.engines import config, document, running, until
from tests.test_control import GOOD


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bundles") / "test-eeg")


def ask(engine: Engine, verb: str, **args: Any) -> Any:
    return request(engine.control.url, verb, args, timeout_s=20)


def outcome(engine: Engine, verb: str, args: dict[str, Any]) -> tuple[str, Any]:
    """("ok", result), or the code of the refusal and what it says."""
    try:
        return "ok", ask(engine, verb, **args)
    except ControlError as error:
        return error.code, str(error)


def test_every_verb_may_be_repeated_without_harm(bundle: Path, tmp_path: Path) -> None:
    told: dict[str, dict[str, Any]] = {
        "mark": {"value": "x"},
        "calibrate": {"stream": "eeg", "seconds": 30},
        "mute": {"stream": "eeg"},
        "unmute": {"stream": "eeg"},
        "swap": {"stream": "eeg", "bundle": str(bundle)},
        "join": {"config": document(bundle, "p2")},
        "record": {"session": "p1", "path": str(tmp_path / "%n.mcap"), "raw": False},
        "stop_record": {"session": "p2"},
        "fetch": {"kind": "prediction", "first": 10**9, "last": 10**9},
        "preview": {"on": False},
        "leave": {"session": "p2"},
    }
    order = [v for v in VERBS if v not in ("join", "shutdown", "leave")]
    codes = {"calibrate": "refused", "leave": "ok"}  # that bundle learns nothing of a person
    with running(config(bundle)) as engine:
        until(lambda: engine.seats["p1"].session.streams["eeg"] == "live")
        for verb in ["join", *order, "leave"]:
            args = told.get(verb, {})
            if verb not in ("status", "join", "leave"):
                args = {"session": "p1", **args}
            first = outcome(engine, verb, args)
            again = outcome(engine, verb, args)
            assert first[0] == codes.get(verb, "ok"), first
            if verb == "leave":
                assert again[0] == "not_found"
            elif verb != "status":
                assert again == first, verb
        assert len(engine.seats) == 1
        assert [p.name for p in tmp_path.iterdir()] == ["001.mcap"]
        engine.seats["p1"].session.account.check()
        ask(engine, "shutdown")


@pytest.mark.parametrize("verb", [v for v in GOOD if "session" in VERBS[v]])
def test_a_session_that_is_not_there_is_not_found(bundle: Path, verb: str) -> None:
    with Engine([config(bundle)]) as engine:
        with pytest.raises(ControlError, match="no session 'p9'; there are p1") as caught:
            engine.desk(verb, {**GOOD[verb], "session": "p9"})
        assert caught.value.code == "not_found"


def test_where_there_are_two_sessions_one_has_to_be_named(bundle: Path) -> None:
    second = document(bundle, "p2")
    with Engine([config(bundle)]) as engine:
        engine.desk("join", {"config": second})
        with pytest.raises(ControlError, match="which session") as caught:
            engine.desk("pause", {})
        assert caught.value.code == "bad_argument"
        second["patience_s"] = 1.0
        with pytest.raises(ControlError, match="'p2' runs already") as caught:
            engine.desk("join", {"config": second})
        assert caught.value.code == "busy"


def test_the_status_tells_what_is_paused_muted_recorded_and_in_use(
    bundle: Path, tmp_path: Path
) -> None:
    with Engine([config(bundle)]) as engine:

        def told() -> Any:
            return engine.desk("status", {})["sessions"]["p1"]  # type: ignore[index]

        used = engine.seats["p1"].session.predictors[0].bundle
        known = {"id": "test-eeg", "sha256": used.sha256, "where": str(bundle)}
        quiet = {
            "streams": {"eeg": "waiting"},
            "degraded": [],
            "paused": False,
            "muted": [],
            "bundles": {"eeg": known},
            "calibrations": {},
            "recording": None,
        }
        assert told() == quiet
        path = str(tmp_path / "a.mcap")
        engine.desk("pause", {})
        engine.desk("mute", {"stream": "eeg"})
        engine.desk("record", {"path": path, "raw": False})
        now = told()
        assert (now["paused"], now["muted"]) == (True, ["eeg"])
        assert (now["recording"]["path"], now["recording"]["raw"]) == (path, False)
        engine.desk("resume", {})
        engine.desk("unmute", {"stream": "eeg"})
        engine.desk("stop_record", {})
        assert told() == quiet
