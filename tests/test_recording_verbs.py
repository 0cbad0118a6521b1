"""Recordings that begin and end while a session runs, and disks that end them."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import wire
from engine.control import ControlError, request
from engine.daemon import Engine
from engine.log import check_log
from engine.log.reader import LogReader
from engine.rerun import rerun, verify
from engine.types import Prediction
from sources.simulate import SimulateSource
from tests.bundles import describe, write
from tests.engines import config, daemon, document, running, until


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bundles") / "test-eeg")


def ask(engine: Engine, verb: str, **args: Any) -> Any:
    return request(engine.control.url, verb, args, timeout_s=20)


def reached(engine: Engine, n: int) -> None:
    """Until the session has made `n` predictions."""
    until(lambda: engine.seats["p1"].session.numbers["prediction"] >= n)


def messages(path: Path, kind: str) -> list[Any]:
    return [wire.decode(kind, r.payload) for r in LogReader(path) if r.kind == kind]


def test_a_recording_from_the_first_item_on_is_proven_bit_for_bit(
    bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "p1.mcap"
    stall = {"faults": [{"kind": "stall", "at_s": 0.0, "for_s": 0.5}]}
    with running(config(bundle, seconds=2.6, source=stall)) as engine:
        ask(engine, "record", path=str(path), raw=True)
        until(lambda: engine.seats["p1"].session.done)
    assert not LogReader(path).header.middle
    assert verify(path).n_compared == len(messages(path, "prediction")) >= 5


@pytest.mark.slow
def test_a_recording_from_the_middle_holds_its_part_and_says_what_it_cannot_prove(
    bundle: Path, tmp_path: Path
) -> None:
    path, whole = tmp_path / "middle.mcap", tmp_path / "p1.mcap"
    with running(config(bundle, seconds=7)) as engine:
        ask(engine, "record", path=str(whole), raw=True)
        reached(engine, 2)
        ask(engine, "stop_record")
        reached(engine, 4)
        told = ask(engine, "record", path=str(path), raw=True)
        assert told == {"session": "p1", "path": str(path), "raw": True}
        until(lambda: engine.seats["p1"].session.done)
    logged = messages(path, "prediction")
    assert [p.seq for p in logged] == list(range(logged[0].seq, 14))
    assert logged[0].seq >= 4
    again = {m.seq: m for m in rerun(path) if isinstance(m, Prediction)}
    assert [again[p.seq].tick for p in logged] == [p.tick for p in logged]
    late = [p for p in logged if again[p.seq].probabilities]
    assert len(late) >= len(logged) - 5  # all but those whose window began before
    assert all(again[p.seq].label == p.label for p in late)
    proof = verify(path)
    assert proof.report.clean
    assert proof.reason is not None
    assert "begins in the middle of its session" in proof.reason
    found = re.search(r"(\d+) of (\d+) results .* off by more than ([\d.e-]+)", proof.reason)
    assert found is not None
    assert int(found[1]) == len(late) - sum(p.probabilities is None for p in late)
    assert float(found[3]) < 0.01  # filters have settled before the first whole window


def test_a_recording_from_the_middle_knows_what_is_muted_paused_swapped_and_learnt(
    bundle: Path, tmp_path: Path
) -> None:
    spec = describe(SimulateSource(person=1).info.channels)["inputs"]["eeg"]
    adapted = {"eeg": {**spec, "min_filled_s": 0.2, "window_s": 0.5, "adapt": {"method": "rest"}}}
    other = write(tmp_path / "other", id="other", inputs=adapted, hop_s=0.1)
    path = tmp_path / "m.mcap"
    with running(config(bundle, seconds=60, hop_s=0.1)) as engine:
        reached(engine, 1)
        ask(engine, "swap", stream="eeg", bundle=str(other))
        ask(engine, "calibrate", stream="eeg", seconds=2)
        until(lambda: told(engine)["calibrations"] == {"eeg": True})
        ask(engine, "mute", stream="eeg")
        ask(engine, "record", path=str(path), raw=True)
        at = engine.seats["p1"].session.numbers["prediction"]
        reached(engine, at + 5)
        ask(engine, "unmute", stream="eeg")
        reached(engine, at + 20)
        ask(engine, "stop_record")
    logged = messages(path, "prediction")
    again = {m.seq: m for m in rerun(path) if isinstance(m, Prediction)}
    assert logged[0].modalities["eeg"] == {"used": False, "reason": "muted"}
    assert again[logged[0].seq].modalities == logged[0].modalities
    both = [p for p in logged if p.label and again[p.seq].label]
    assert len(both) > 5
    assert {again[p.seq].modalities["eeg"]["bundle"] for p in both} == {"other"}


def told(engine: Engine) -> Any:
    return ask(engine, "status")["sessions"]["p1"]


def test_the_verbs_are_idempotent_and_every_refusal_has_its_code(
    bundle: Path, tmp_path: Path
) -> None:
    path, taken = tmp_path / "a.mcap", tmp_path / "taken.mcap"
    taken.write_bytes(b"precious")
    with running(config(bundle)) as engine:
        reached(engine, 1)
        assert told(engine)["recording"] is None
        nothing = {"session": "p1", "path": None}
        assert ask(engine, "stop_record") == ask(engine, "stop_record", session="p1") == nothing
        for args, code, said in [
            ({"path": str(taken), "raw": True}, "refused", "overwrites nothing"),
            ({"path": str(taken / "x.mcap"), "raw": True}, "refused", "cannot make"),
            ({"path": str(tmp_path / "%q"), "raw": True}, "bad_argument", "unknown placeholder"),
            ({"path": str(path), "raw": True, "session": "p9"}, "not_found", "no session 'p9'"),
        ]:
            with pytest.raises(ControlError, match=said) as caught:
                ask(engine, "record", **args)
            assert caught.value.code == code
        first = ask(engine, "record", path=str(path), raw=False)
        assert ask(engine, "record", path=str(path), raw=False) == first
        assert told(engine)["recording"]["path"] == str(path)
        for args in ({"path": str(path), "raw": True}, {"path": "other.mcap", "raw": False}):
            with pytest.raises(ControlError, match="is being recorded to") as caught:
                ask(engine, "record", **args)
            assert caught.value.code == "busy"
        done = ask(engine, "stop_record")
        assert (done["path"], done["state"], done["lost"]) == (str(path), "closed", 0)
        assert told(engine)["recording"] is None
        again = ask(engine, "record", path=str(tmp_path / "%p-%n.mcap"), raw=True)
        assert again["path"] == str(tmp_path / "p1-001.mcap")
    assert taken.read_bytes() == b"precious"
    codes = [e.code for e in messages(path, "event")]
    assert codes[0] == "recording.started"
    assert codes[-1] == "recording.stopped"
    assert check_log(path).clean
    assert check_log(path).n_records == done["records"]
    assert verify(path).reason == "the recording holds no raw signals (raw: false)"
    assert verify(tmp_path / "p1-001.mcap").report.clean


def full_at(n_bytes: int) -> Any:
    """What makes every file of a process end at so many bytes, as a full disk does."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


@pytest.mark.slow
def test_a_full_disk_ends_the_recording_and_not_the_engine(bundle: Path, tmp_path: Path) -> None:
    path, second = tmp_path / "p1.mcap", tmp_path / "second.mcap"
    made = document(bundle, recording={"path": str(path), "raw": True}, hop_s=0.1)
    with daemon(made, tmp_path, full_at(100_000)) as engine:

        def status() -> Any:
            return request(engine.control, "status", {})["sessions"]["p1"]

        until(lambda: (status()["recording"] or {}).get("failed") is not None)
        assert any("recording" in reason for reason in health(engine.control)["degraded"])
        (event,) = [e for e in fetched(engine.control, "event") if e["code"] == "recording.full"]
        assert event["detail"]["path"] == str(path)
        assert "File too large" in event["detail"]["why"]
        n = len(fetched(engine.control, "prediction"))
        until(lambda: len(fetched(engine.control, "prediction")) > n + 5)
        request(engine.control, "record", {"path": str(second), "raw": False})
        until(lambda: "failed" not in (status()["recording"] or {}))
        until(lambda: (status()["recording"] or {}).get("written", 0) > 10)
        request(engine.control, "shutdown", {})
        engine.process.wait(20)
    assert engine.process.returncode == 0
    report = check_log(path)
    assert not report.clean
    assert report.torn_at == path.stat().st_size <= 100_000
    assert verify(path).n_compared == report.counts["prediction"] > 5
    assert check_log(second).clean


def fetched(url: str, kind: str) -> list[Any]:
    got = request(url, "fetch", {"kind": kind, "first": 0, "last": 10**6})
    return [msgspec.msgpack.decode(body) for body in got["messages"]]


def health(url: str) -> Any:
    found: list[Any] = []

    def failed() -> bool:
        found[:] = fetched(url, "health")[-1:]
        return bool(found and found[0]["degraded"])

    until(failed)
    return found[0]
