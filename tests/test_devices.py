"""`vagus devices` and `vagus doctor` on this machine, whatever it has."""

from __future__ import annotations

import json
import socket

import pytest

from engine import cli
from sources.doctor import Finding, as_plain, examine
from sources.lsl.source import liblsl


def test_devices_lists_an_lsl_stream_and_ends_well_without_any_device(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lsl = liblsl()
    outlet = lsl.StreamOutlet(lsl.StreamInfo("listed", "EEG", 4, 256.0, "float32", "listed"))
    assert cli.main(["devices", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "listed" in [stream["name"] for stream in told["lsl"]]
    assert set(told) == {"microphones", "cameras", "lsl", "problems"}
    assert cli.main(["devices"]) == 0
    assert "match: {type: EEG, name: listed}" in capsys.readouterr().out
    del outlet


def test_the_doctor_names_one_fix_for_each_fault_and_none_for_what_is_well() -> None:
    findings = examine()
    assert {f.what for f in findings} >= {"liblsl", "PortAudio", "OpenCV", "CUDA", "clock"}
    for finding, plain in zip(findings, as_plain(findings), strict=True):
        assert finding.seen
        assert ("fix" in plain) == (not finding.ok)


def test_the_doctor_says_who_holds_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("sources.doctor._PORTS", {"publish": taken.getsockname()[1]})
        (found,) = [f for f in examine() if f.what.startswith("port")]
    assert not found.ok
    assert "process" in found.seen
    assert "`publish`" in found.fix


def test_a_machine_that_lacks_what_is_needed_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [Finding("onnxruntime", False, "no such file", "pip install onnxruntime")]
    monkeypatch.setattr("sources.doctor.examine", lambda: broken)
    assert cli.main(["doctor"]) == 3
    shown = capsys.readouterr()
    assert "fix: pip install onnxruntime" in shown.out
    assert "onnxruntime" in shown.err
