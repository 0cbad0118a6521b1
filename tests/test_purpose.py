"""Nobody is observed without a stated purpose, and those who are can be told all of it."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

import pytest

from engine.cli import main
from engine.config import config_from
from engine.config.purpose import PURPOSES, RECORDED, Basis, objection, observing
from engine.errors import ConfigError

LIVE = ["browser", "camera", "lsl", "microphone"]


def told(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert main(list(line)) == 0
    return capsys.readouterr().out


def test_every_installed_source_either_observes_people_or_is_recorded() -> None:
    installed = {entry.name for entry in entry_points(group="vagus.sources")}
    assert observing(installed) == LIVE
    assert installed == {*LIVE, *RECORDED}
    assert observing(["simulatte", None, 3, "lsl", "lsl"]) == ["lsl"]


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("basis", [None, "medical", "safety", "fun"])
def test_only_a_medical_or_safety_basis_opens_workplace_and_education(
    purpose: str, basis: str | None
) -> None:
    reason = objection(purpose, basis, LIVE)
    refused = purpose in ("workplace", "education") and basis not in get_args(Basis)
    assert (reason is not None) == refused
    assert not refused or "Article 5(1)(f)" in str(reason)


def test_workplace_is_refused_for_recordings_too_and_recordings_need_no_purpose() -> None:
    assert objection("workplace", None, ["replay"]) is not None
    assert objection(None, None, ["replay", "simulate"]) is None


def test_a_session_that_joins_later_is_held_to_the_same_rule() -> None:
    joined = {"session": "a", "streams": {"x": {"source": {"type": "camera"}}}}
    with pytest.raises(ConfigError, match="observes people"):
        config_from(joined)
    with pytest.raises(ConfigError, match="Article 5"):
        config_from({**joined, "purpose": "education"})
    assert config_from({**joined, "purpose": "education", "basis": "safety"}).basis == "safety"


def write(tmp_path: Path, **more: Any) -> str:
    config: dict[str, Any] = {
        "session": "p01",
        "purpose": "research",
        "streams": {
            "voice": {"source": {"type": "microphone"}, "bundle": "speech-4"},
            "eeg": {"source": {"type": "lsl", "match": {"type": "EEG"}, "kind": "eeg"}},
        },
        **more,
    }
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(config))
    return str(path)


def test_the_notice_says_who_what_how_well_and_how_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notice = told(
        capsys, "check", "--notice",
        write(
            tmp_path,
            notice={"controller": "Institute X", "contact": "x@example.org"},
            retention_days=30,
            recording={"path": "a.mcap"},
            sinks=[{"type": "jsonl", "path": "a.jsonl"}, {"type": "console"}],
        ),
    )  # fmt: skip
    for part in (
        "Responsible: Institute X", "Contact: x@example.org", "Purpose: research",
        "the sound of your voice, by a microphone", "electrical signals of your brain",
        "what is expressed, as one of: happy, sad, angry, neutral", "right in 62 % of the cases",
        "chance is 25 %", "every 0.5 s", "in a recording: the estimates with their times; not the",
        "in 1 further file: the estimates", "deleted after 30 days", "You may refuse",
    ):  # fmt: skip
        assert part in notice, part
    assert "[" not in notice


def test_what_the_config_does_not_say_is_a_placeholder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, recording={"path": "a.mcap", "raw": True})
    notice = told(capsys, "check", "--notice", config)
    assert "[name and address of whoever is responsible]" in notice
    assert "[e-mail or telephone]" in notice
    assert "the signals themselves and the estimates" in notice
    assert "deleted after [number] days" in notice


def test_without_a_recording_nothing_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no file is written" in told(capsys, "check", "--notice", write(tmp_path))


def test_by_default_a_recording_holds_no_raw_signals_and_its_header_how_long_it_may_be_kept(
    tmp_path: Path,
) -> None:
    from engine.clock import SettableClock
    from engine.log.reader import LogReader
    from engine.prepare import plan
    from engine.recorder import Recorder

    config = config_from(
        {
            "session": "p1",
            "retention_days": 14,
            "streams": {"x": {"source": {"type": "simulate", "kind": "eeg"}}},
            "recording": {"path": str(tmp_path / "a.mcap")},
        }
    )
    assert config.recording is not None
    assert config.recording.raw is False
    recorder = Recorder(config, plan(config, "run", 0.0, None), SettableClock(0.0))
    recorder.begin(config.recording.path, config.recording.raw)
    recorder.close({})
    header = LogReader(tmp_path / "a.mcap").header
    assert header.raw is False
    assert json.loads(header.config)["retention_days"] == 14


@pytest.mark.parametrize("days", [0, -1, 1.5, "30"])
def test_a_retention_that_is_no_number_of_days_is_refused(days: Any) -> None:
    with pytest.raises(ConfigError, match="retention_days"):
        config_from(
            {
                "session": "a",
                "retention_days": days,
                "streams": {"x": {"source": {"type": "simulate"}}},
            }
        )
