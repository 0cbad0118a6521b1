"""Live runs with real sockets, threads and recordings, held against their own replay."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from engine.config import config_from
from engine.control import ControlError, request
from engine.daemon import Engine
from engine.errors import DataError, ResourceError, UserError
from engine.log.reader import LogReader
from engine.rerun import rerun, verify
from engine.types import Message, Prediction
from sinks.subscribe import subscribe
from sources.simulate import SimulateSource
from tests.bundles import describe, write

FAULTS = [
    {"kind": "jitter", "at_s": 0.5, "for_s": 1, "amount_s": 0.02},
    {"kind": "gap", "at_s": 1.0, "for_s": 0.05},
    {"kind": "nan", "at_s": 1.4, "for_s": 0.2, "channels": ["Fp1"]},
    {"kind": "duplicate", "at_s": 1.8, "for_s": 0.2},
    {"kind": "reorder", "at_s": 2.1, "for_s": 0.2},
    {"kind": "stall", "at_s": 2.5, "for_s": 0.5},
    {"kind": "lost", "at_s": 3.2, "for_s": 0.3},
    {"kind": "channels", "at_s": 3.8, "for_s": 0.2},
    {"kind": "jump", "at_s": 4.2, "for_s": 0.3, "by_s": -15},
]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bundles") / "test-eeg")


def config(
    bundle: Path, session: str = "p1", person: int = 1, seconds: float = 3.0, **more: Any
) -> Any:
    source = {"type": "simulate", "person": person, "seconds": seconds} | more.pop("source", {})
    return config_from(
        {
            "session": session,
            "publish": "tcp://127.0.0.1:*",
            "control": "tcp://127.0.0.1:*",
            "streams": {"eeg": {"source": source, "bundle": str(bundle)}},
        }
        | more
    )


@contextmanager
def running(*configs: Any) -> Iterator[Engine]:
    """An engine whose loop runs in a thread until its sessions are done or it is stopped."""
    failures: list[BaseException] = []
    ready = threading.Event()
    engine = Engine(configs)

    def run() -> None:
        try:
            with engine:
                ready.set()
                engine.loop(60)
        except BaseException as error:
            failures.append(error)
        ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(20)
    try:
        yield engine
    finally:
        engine.stop()
        thread.join(20)
        assert not thread.is_alive()
        if failures:
            raise failures[0]


def recorded(tmp_path: Path) -> dict[str, Any]:
    return {"recording": {"path": str(tmp_path / "%p.mcap"), "raw": True}}


def predictions(path: Path) -> list[Prediction]:
    from dataclasses import replace

    from engine import wire

    logged = [r for r in LogReader(path) if r.kind == "prediction"]
    return [replace(wire.decode("prediction", r.payload), latency_ms={}) for r in logged]  # type: ignore[misc, type-var]


@pytest.mark.slow
def test_eight_live_sessions_with_faults_and_commands_replay_bit_for_bit(
    bundle: Path, tmp_path: Path
) -> None:
    configs = [
        config(bundle, f"p{i}", i, 5.0, source={"faults": FAULTS[i - 1 :]}, **recorded(tmp_path))
        for i in range(1, 9)
    ]
    for made in configs[1:]:
        object.__setattr__(made, "publish", configs[0].publish)
    with running(*configs) as engine:
        url = engine.control.url
        for verb, args in [
            ("mark", {"session": "p1", "value": "go"}),
            ("pause", {"session": "p2"}),
            ("mute", {"session": "p3", "stream": "eeg"}),
            ("leave", {"session": "p8"}),
        ]:
            request(url, verb, args, timeout_s=5)
        wait_for(engine, 4)
        request(url, "resume", {"session": "p2"}, timeout_s=5)
        request(url, "unmute", {"session": "p3", "stream": "eeg"}, timeout_s=5)
        wait_until_done(engine)
    for i in range(1, 9):
        path = tmp_path / f"p{i}.mcap"
        proof = verify(path)
        assert proof.report.clean
        again = [m for m in rerun(path) if isinstance(m, Prediction)]
        assert again == predictions(path)
        assert i == 8 or proof.n_compared >= 5


def test_a_live_calibration_replays_bit_for_bit_and_refusals_leave_no_trace(
    bundle: Path, tmp_path: Path
) -> None:
    resting = write(tmp_path / "resting", inputs=_resting())
    plain = config(bundle, "p2", 2, 4.0, **recorded(tmp_path))
    made = config(resting, "p1", 1, 7.0, **recorded(tmp_path))
    object.__setattr__(plain, "publish", made.publish)
    with running(made, plain) as engine:
        url = engine.control.url
        for session, stream, seconds, code in [
            ("p1", "ecg", 30, "not_found"),
            ("p1", "eeg", 1, "refused"),
            ("p2", "eeg", 30, "refused"),
        ]:
            asked = {"session": session, "stream": stream, "seconds": seconds}
            with pytest.raises(ControlError) as caught:
                request(url, "calibrate", asked, timeout_s=5)
            assert caught.value.code == code
        with pytest.raises(ControlError, match="no prediction is made from a stream 'ecg'"):
            request(url, "mute", {"session": "p2", "stream": "ecg"}, timeout_s=5)
        wait_for(engine, 1)
        request(url, "calibrate", {"session": "p1", "stream": "eeg", "seconds": 3}, timeout_s=5)
        wait_until_done(engine)
    assert verify(tmp_path / "p2.mcap").n_compared == 8
    path = tmp_path / "p1.mcap"
    assert verify(path).report.clean
    logged = predictions(path)
    assert [m for m in rerun(path) if isinstance(m, Prediction)] == logged
    reasons = [p.modalities["eeg"].get("reason") for p in logged]
    assert "uncalibrated" in reasons
    assert logged[-1].label is not None


def _resting() -> dict[str, Any]:
    spec = describe(SimulateSource(person=1).info.channels)["inputs"]["eeg"]
    return {"eeg": spec | {"adapt": {"method": "rest"}}}


def wait_for(engine: Engine, n: int, session: str = "p1") -> None:
    """Until the session has published `n` predictions."""
    for message in subscribe(engine.publisher.url, session=session, timeout_s=20):
        if message.kind == "prediction" and message.seq >= n - 1:
            return
    pytest.fail(f"no {n} predictions came")


def wait_until_done(engine: Engine) -> None:
    done = threading.Event()
    for _ in range(400):
        if all(seat.session.done for seat in engine.seats.values()):
            return
        done.wait(0.05)
    pytest.fail("the sessions did not end")


def test_a_subscriber_gets_schema_predictions_and_health_in_order(bundle: Path) -> None:
    got: list[Message] = []
    with running(config(bundle, seconds=4)) as engine:
        for message in subscribe(engine.publisher.url, timeout_s=20):
            got.append(message)
            if message.kind == "prediction" and message.tick == 6:
                break
    kinds = {m.kind for m in got}
    assert {"schema", "prediction", "health"} <= kinds
    ticks = [m.tick for m in got if m.kind == "prediction"]
    assert ticks == sorted(ticks)
    last = got[-1]
    assert isinstance(last, Prediction)
    assert last.label in ("happy", "angry", "sad", "calm")
    assert last.truth in ("happy", "angry", "sad", "calm")
    assert last.modalities["eeg"]["last"] - last.modalities["eeg"]["first"] == 511


def test_the_control_socket_answers_and_shuts_the_engine_down(bundle: Path) -> None:
    with running(config(bundle, seconds=60)) as engine:
        url = engine.control.url
        assert request(url, "status", {}, timeout_s=5)["sessions"]["p1"]["streams"]
        joined = config(bundle, "p2", 2, 60).model_dump(exclude_none=True)
        assert request(url, "join", {"config": joined}, timeout_s=5) == {"session": "p2"}
        wait_for(engine, 2, "p2")
        fetched = request(
            url,
            "fetch",
            {"session": "p1", "kind": "prediction", "first": 0, "last": 1},
            timeout_s=5,
        )
        assert len(fetched["messages"]) == 2
        request(url, "leave", {"session": "p2"}, timeout_s=5)
        request(url, "shutdown", {}, timeout_s=5)


def test_a_recording_without_raw_signals_proves_its_account(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "p1.mcap"
    with running(config(bundle, seconds=3, recording={"path": str(path)})) as engine:
        wait_until_done(engine)
    proof = verify(path)
    assert proof.n_compared == 0
    assert proof.report.counts["prediction"] == 6
    with pytest.raises(DataError, match="no raw signals"):
        list(rerun(path))


def test_a_bundle_that_does_not_fit_its_stream_ends_the_run_with_the_reason(bundle: Path) -> None:
    odd = write(bundle.parent / "odd", inputs=_other_channels(bundle))
    with (
        pytest.raises(UserError, match=r"bundle test-eeg.*needs"),
        running(config(odd, seconds=30)) as engine,
    ):
        wait_until_done(engine)


def _other_channels(bundle: Path) -> dict[str, Any]:
    return {"eeg": describe(tuple(f"X{i}" for i in range(32)))["inputs"]["eeg"]}


def test_a_port_in_use_is_a_resource_error_that_names_the_port(bundle: Path) -> None:
    with running(config(bundle, seconds=30)) as engine:
        taken = config(bundle, "p2", publish=engine.publisher.url)
        with pytest.raises(ResourceError, match="in use"), Engine([taken]):
            pass


def test_a_subscriber_that_stalls_slows_nobody(bundle: Path) -> None:
    context = zmq.Context()
    stalled = context.socket(zmq.SUB)
    stalled.rcvhwm = 1
    stalled.subscribe(b"")
    try:
        with running(config(bundle, seconds=4, hop_s=0.01)) as engine:
            stalled.connect(engine.publisher.url)
            wait_for(engine, 300)
            assert engine.seats["p1"].session.account.snapshot()["eeg"]["inbox"]["dropped"] == {}
    finally:
        stalled.close(0)
        context.term()
