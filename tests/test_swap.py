"""Hot swaps: another bundle between two ticks, refused or taken, and the same again from a log."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from engine import wire
from engine.bundle import Bundle
from engine.control import ControlError, request
from engine.daemon import Engine
from engine.errors import BundleError, DataError, InferenceError
from engine.log.reader import LogReader
from engine.plan import SessionPlan, StreamPlan
from engine.player import Player
from engine.rerun import rerun, verify
from engine.swap import prepare
from engine.types import Array, Chunk, Event, Message, Prediction, Schema
from sinks.subscribe import subscribe
from sources.simulate import SimulateSource
from tests import toys
from tests.bundles import describe, write
from tests.engines import config, running, until
from tests.streams import device, info, recut

OTHER = {"eeg": {"window_s": 1.0, "min_filled_s": 1.0}}


class Quiet:
    """A runtime that always says the same."""

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        return np.tile(np.array([0.125, 0.875], np.float32), (len(next(iter(inputs.values()))), 1))


def player(*streams: str, bundle: Bundle | None = None, **fields: Any) -> Player:
    """A session of toys, each of its streams connected."""
    names = streams or ("eeg",)
    plans = {name: StreamPlan(bundle or toys.toy()) for name in names}
    made = Player(SessionPlan("p1", "run", plans, **fields))
    for name in names:
        made.command("connect", stream=name, info=info(name=name))
    return made


def swap(made: Player, bundle: Bundle, stream: str = "eeg") -> list[Message]:
    return list(made.command("swap", stream=stream, swap=prepare(made.session, stream, bundle)))


def play(made: Player, chunks: Sequence[Chunk], at: int, bundle: Bundle) -> list[Prediction]:
    """All chunks, the bundle swapped once the item `at` is the next to come."""
    got: list[Message] = []
    for chunk in chunks:
        if chunk.first_index == at:
            got += swap(made, bundle)
        got += made.push(chunk)
    made.check()
    return [m for m in got if isinstance(m, Prediction)]


def cut_at(chunks: Sequence[Chunk], at: int) -> list[Chunk]:
    """The same chunks, one of them cut before the item `at`, which has a stamp then."""
    out: list[Chunk] = []
    for chunk in chunks:
        if 0 < at - chunk.first_index < len(chunk):
            head, tail = chunk.cut(at - chunk.first_index)
            out += head, replace(tail, stamps=((at, at / 128),))
        else:
            out.append(chunk)
    return out


@pytest.fixture
def chunks() -> list[Chunk]:
    return cut_at(device(np.random.default_rng(3)), 900)


def test_where_the_signal_handling_is_the_same_no_tick_goes_without_a_prediction(
    chunks: list[Chunk],
) -> None:
    plain = play(player(), chunks, -1, toys.toy())
    swapped = play(player(), chunks, 900, toys.toy(name="new", runtime=Quiet()))
    assert [p.seq for p in swapped] == list(range(len(plain)))
    assert [p.tick for p in swapped] == [p.tick for p in plain]
    names = [str(p.modalities["eeg"].get("bundle")) for p in swapped if p.label]
    assert names == sorted(names, reverse=True)  # all of the old, then all of the new
    assert {"toy", "new"} == set(names)
    for was, now in zip(plain, swapped, strict=True):
        assert was.missing == now.missing
        of_old = now.modalities["eeg"].get("bundle") == "toy"
        assert not of_old or was == now
        assert now.modalities["eeg"].get("last") == was.modalities["eeg"].get("last")


def test_the_same_bundle_swapped_in_changes_nothing_but_its_name(chunks: list[Chunk]) -> None:
    plain = play(player(), chunks, -1, toys.toy())
    swapped = play(player(), chunks, 900, toys.toy(name="new"))
    assert [p.probabilities for p in plain] == [p.probabilities for p in swapped]


def test_other_signal_handling_begins_anew_as_a_stream_does(chunks: list[Chunk]) -> None:
    other = toys.toy(OTHER, name="new")
    swapped = play(player(), chunks, 900, other)
    alone = play(player(bundle=other), [c for c in chunks if c.first_index >= 900], -1, other)
    found = {p.tick: p for p in swapped if p.modalities["eeg"].get("bundle") == "new"}
    assert len(found) > 10
    fresh = {p.tick: p for p in alone if p.tick in found}
    assert [p.probabilities for p in found.values()] == [p.probabilities for p in fresh.values()]
    between = [p for p in swapped if 900 / 128 < p.t < min(p.t for p in found.values())]
    assert {p.modalities["eeg"]["reason"] for p in between} == {"filling"}
    assert [p.seq for p in swapped] == list(range(len(swapped)))


@pytest.mark.parametrize("size", [1, 7, 128, 900])
@pytest.mark.parametrize("inputs", [None, OTHER])
def test_a_swap_gives_the_same_bits_however_the_stream_is_cut(
    chunks: list[Chunk], size: int, inputs: Any
) -> None:
    new = toys.toy(inputs, name="new")
    before = recut([c for c in chunks if c.first_index < 900], size)
    after = recut([c for c in chunks if c.first_index >= 900], size)
    assert play(player(), [*before, *after], 900, new) == play(player(), chunks, 900, new)


def test_a_swap_is_told_with_both_bundles_and_with_what_begins_anew() -> None:
    made = player()
    (told,) = swap(made, toys.toy(OTHER, name="new"))
    assert isinstance(told, Event)
    assert (told.code, told.stream) == ("bundle.swapped", "eeg")
    before = {"bundle": "toy", "sha256": "toy"}
    assert told.detail == {"bundle": "new", "sha256": "new", "before": before, "anew": ["eeg"]}
    assert made.session.schema("vagus").bundles["eeg"]["id"] == "new"


def test_a_bundle_swapped_in_before_its_stream_came_is_the_one_that_reads_it() -> None:
    made = Player(toys.plan())
    swap(made, toys.toy(name="new", runtime=Quiet()))
    made.command("connect", stream="eeg", info=info())
    got = [m for c in device(np.random.default_rng(0), 600) for m in made.push(c)]
    used = [p.modalities["eeg"] for p in got if isinstance(p, Prediction) and p.label]
    assert {about["bundle"] for about in used} == {"new"}


def other_labels(name: str, vocabulary: str = "toy") -> Bundle:
    bundle = toys.toy(name=name, runtime=Quiet())
    return replace(bundle, labels=("still", "loud"), vocabulary=vocabulary)


@pytest.mark.parametrize(
    ("bundle", "said"),
    [
        (toys.toy({"eeg": {"channels": ("C0", "X1")}}, name="new"), "new needs|X1"),
        (toys.toy({"eeg": {"kind": "voice"}}, name="new"), "of kind voice; 'eeg' is eeg"),
        (toys.toy({"eeg": {"unit": "S"}}, name="new"), "uV"),
        (toys.toy(hop_s=0.3, name="new"), "0.5 does not divide the hop of bundle new"),
        (toys.toy({"a": {}, "b": {}}, name="new"), "reads the inputs a, b; 'eeg' feeds eeg"),
        (other_labels("new"), "labels still, loud.*'two', with which it would be fused, has loud"),
        (replace(toys.toy(name="new"), vocabulary="felt"), r"\(felt\); 'two'"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused_and_leaves_no_trace(
    bundle: Bundle, said: str
) -> None:
    rng = np.random.default_rng(1)
    both = [device(rng, 800), device(rng, 800, stream="two")]
    chunks = sorted((c for d in both for c in d), key=lambda c: c.stamps[0][1])
    made, plain = player("eeg", "two"), player("eeg", "two")
    got, expected = [], []
    for i, chunk in enumerate(chunks):
        if i == len(chunks) // 2:
            with pytest.raises(BundleError, match=said):
                prepare(made.session, "eeg", bundle)
        got += made.push(chunk)
        expected += plain.push(chunk)
    assert got == expected


def test_a_stream_that_is_over_takes_no_other_bundle() -> None:
    made = player()
    made.command("end", stream="eeg")
    with pytest.raises(BundleError, match="stream 'eeg' is ended"):
        prepare(made.session, "eeg", toys.toy(name="new"))


def test_alone_a_modality_may_take_other_labels_and_smoothing_forgets_the_old_ones(
    chunks: list[Chunk],
) -> None:
    made = player(smoothing={"method": "mean", "n": 4})
    got = play(made, chunks, 900, other_labels("new", "other"))
    of_new = [p.probabilities for p in got if p.modalities["eeg"].get("bundle") == "new"]
    assert of_new[0] == {"still": 0.125, "loud": 0.875}


def test_between_its_turns_the_old_result_stands_under_its_own_name(chunks: list[Chunk]) -> None:
    made = player(hop_s=0.25)
    got = play(made, chunks, 900, toys.toy(name="new", hop_s=1.0, runtime=Quiet()))
    names = [p.modalities["eeg"].get("bundle") for p in got if p.t > 6.5][:6]
    assert names[0] == "toy"
    assert "new" in names
    assert all(p.label for p in got if p.t > 4)


def test_what_was_learnt_of_the_person_goes_on_where_nothing_before_the_graph_differs() -> None:
    adapted = {"features": ({"name": "statistics"},), "adapt": {"method": "rest"}}
    bundle = toys.toy({"eeg": adapted}, runtime=Quiet())
    made = player(bundle=bundle)
    made.command("calibrate", stream="eeg", seconds=4.0, t=0.0)
    for chunk in device(np.random.default_rng(0), 900):
        made.push(chunk)
    assert made.session.predictors[0].calibrations() == {"eeg": True}
    swap(made, replace(bundle, id="new", sha256="new"))
    assert made.session.predictors[0].calibrations() == {"eeg": True}
    fewer = {**adapted, "features": ({"name": "log_band_power", "bands": {"alpha": [8, 13]}},)}
    (told,) = swap(made, toys.toy({"eeg": fewer}, name="other"))
    assert isinstance(told, Event)
    assert told.detail["anew"] == []  # the window goes on, what was learnt of its features not
    assert made.session.predictors[0].calibrations() == {"eeg": False}


# -- in an engine ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three that fit the simulated EEG: two alike but for the name, one of other filters."""
    folder = tmp_path_factory.mktemp("bundles")
    spec = describe(SimulateSource(person=1).info.channels)["inputs"]["eeg"]
    same = {**spec, "window_s": 1.0, "min_filled_s": 0.2}
    other = {"eeg": {**same, "steps": spec["steps"][:1]}}
    return {
        "one": write(folder / "one", id="one", inputs={"eeg": same}, hop_s=0.05),
        "two": write(folder / "two", id="two", inputs={"eeg": same}, hop_s=0.05),
        "other": write(folder / "other", id="other", inputs=other, hop_s=0.05),
    }


def messages_of(path: Path, kind: str) -> Iterator[Any]:
    return (wire.decode(kind, r.payload) for r in LogReader(path) if r.kind == kind)


@pytest.mark.slow
def test_hot_swaps_under_load_lose_and_double_no_prediction(
    bundles: dict[str, Path], tmp_path: Path, count: Callable[[int], int]
) -> None:
    recording = {"recording": {"path": str(tmp_path / "%p.mcap"), "raw": True}}
    made = [config(bundles["one"], f"p{i}", 3600, **recording) for i in range(4)]
    n, order = count(100), ["two", "other", "one"]
    received: list[Message] = []
    rss: list[int] = []
    with running(*made) as engine, subscribe(engine.publisher.url, "p0", timeout_s=20) as heard:
        for i in range(n):
            until(lambda i=i: engine.seats["p0"].session.numbers["prediction"] > 10 * (i + 1))  # type: ignore[misc]
            for session in ("p0", "p1"):
                asked = {"session": session, "stream": "eeg", "bundle": str(bundles[order[i % 3]])}
                reply = request(engine.control.url, "swap", asked, timeout_s=20)
                assert reply["bundle"] == order[i % 3]
            rss.append(psutil.Process().memory_info().rss)
        until(lambda: engine.seats["p0"].session.numbers["prediction"] > 10 * (n + 2))
        while (message := heard.read(1.0)) is not None:
            received.append(message)
            if isinstance(message, Prediction) and message.seq > 10 * (n + 1):
                break
        assert heard.holes == []
    assert n < 50 or max(rss[n // 2 :]) < rss[n // 4] * 1.05 + (8 << 20)
    for session in ("p0", "p1"):
        path = tmp_path / f"{session}.mcap"
        logged = list(messages_of(path, "prediction"))
        assert [p.seq for p in logged] == list(range(len(logged)))
        assert [p.tick for p in logged] == list(range(1, len(logged) + 1))
        events = [e for e in messages_of(path, "event") if e.code == "bundle.swapped"]
        assert [e.detail["bundle"] for e in events] == [order[i % 3] for i in range(n)]
        assert {p.modalities["eeg"].get("bundle") for p in logged} >= set(bundles)
        assert verify(path).n_compared == len(logged)
    schemas = [m.bundles["eeg"]["id"] for m in received if isinstance(m, Schema)]
    assert schemas[-n:] == [order[i % 3] for i in range(n)]


def damaged(path: Path, to: Path, file: str) -> Path:
    """A copy with one byte of `file` changed."""
    shutil.copytree(path, to)
    body = bytearray((to / file).read_bytes())
    body[len(body) // 2] ^= 1
    (to / file).write_bytes(bytes(body))
    return to


def test_a_corrupt_bundle_is_refused_and_the_old_one_goes_on(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "p1.mcap"
    wrong = [damaged(bundles["two"], tmp_path / f, f) for f in ("model.onnx", "golden.npz")]
    with running(config(bundles["one"], recording={"path": str(path), "raw": True})) as engine:
        until(lambda: engine.seats["p1"].session.numbers["prediction"] > 3)
        for where in (*wrong, tmp_path / "nowhere", tmp_path):
            asked = {"stream": "eeg", "bundle": str(where)}
            with pytest.raises(ControlError, match=str(where)) as caught:
                request(engine.control.url, "swap", asked, timeout_s=20)
            assert caught.value.code == "refused"
        status = request(engine.control.url, "status", {})["sessions"]["p1"]
        assert status["bundles"]["eeg"]["id"] == "one"
        same = request(engine.control.url, "swap", {"stream": "eeg", "bundle": str(bundles["one"])})
        assert same["changed"] is False
        for args in ({"stream": "ecg", "bundle": "x"}, {"session": "p9", "stream": "eeg"}):
            with pytest.raises(ControlError) as caught:
                request(engine.control.url, "swap", {"bundle": "x", **args})
            assert caught.value.code == "not_found"
        at = engine.seats["p1"].session.numbers["prediction"]
        until(lambda: engine.seats["p1"].session.numbers["prediction"] > at + 2)
    refused = [e for e in messages_of(path, "event") if e.code == "bundle.refused"]
    assert len(refused) == 4
    assert "SHA-256" in refused[0].detail["why"]
    used = [p.modalities["eeg"] for p in messages_of(path, "prediction") if p.label]
    assert {about["bundle"] for about in used} == {"one"}
    assert verify(path).n_compared > 5


def test_a_replay_that_cannot_find_a_swapped_bundle_says_which_and_where(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    new = tmp_path / "new"
    shutil.copytree(bundles["two"], new)
    path = tmp_path / "p1.mcap"
    made = config(bundles["one"], seconds=3, recording={"path": str(path), "raw": True})
    with running(made) as engine:
        until(lambda: engine.seats["p1"].session.numbers["prediction"] > 2)
        request(engine.control.url, "swap", {"stream": "eeg", "bundle": str(new)}, timeout_s=20)
        until(lambda: all(seat.session.done for seat in engine.seats.values()))
    assert verify(path).n_compared == 60
    shutil.rmtree(new)
    with pytest.raises(DataError, match=rf"swapped to the bundle two .* at {new}; put it back"):
        list(rerun(path))
    shutil.copytree(bundles["other"], new)
    with pytest.raises(DataError, match="the one that is there now is"):
        list(rerun(path))


class Failing:
    """A runtime that passed its golden values and breaks at its work."""

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        raise InferenceError("out of memory")


def test_a_bundle_that_breaks_at_its_first_run_gives_way_to_the_one_before(
    bundles: dict[str, Path],
) -> None:
    heard: list[Message] = []

    class Ear:
        def write(self, message: Message) -> None:
            heard.append(message)

        def close(self) -> None: ...

    with Engine([config(bundles["one"])], sinks=[Ear()]) as engine:
        seat = engine.seats["p1"]

        def turn_until(n: int) -> None:
            def done() -> bool:
                engine.turn()
                return seat.session.numbers["prediction"] >= n

            until(done)

        turn_until(3)
        broken = replace(Bundle.load(bundles["two"]), runtime=Failing())
        seat.swap("eeg", broken, str(bundles["two"]))
        turn_until(seat.session.numbers["prediction"] + 3)
        assert seat.session.predictors[0].bundle.id == "one"
        seat.session.account.check()
        good = Bundle.load(bundles["two"])
        seat.swap("eeg", good, str(bundles["two"]))
        turn_until(seat.session.numbers["prediction"] + 2)
        object.__setattr__(good, "runtime", Failing())  # long after it proved itself
        turn_until(seat.session.numbers["prediction"] + 2)
        assert seat.session.predictors[0].bundle.id == "two"
    until(lambda: any(getattr(m, "code", "") == "shutdown" for m in heard))
    codes = [m.code for m in heard if isinstance(m, Event)]
    at = codes.index("bundle.refused")
    assert codes[at - 2 : at + 2] == [
        "bundle.swapped", "degraded", "bundle.refused", "bundle.swapped",
    ]  # fmt: skip
    assert codes.count("bundle.refused") == 1


def test_while_a_bundle_is_on_its_way_a_second_one_has_to_wait(bundles: dict[str, Path]) -> None:
    with Engine([config(bundles["one"])]) as engine:
        seat = engine.seats["p1"]
        first = engine.swaps.begin(seat, "eeg", str(bundles["two"]))
        with pytest.raises(ControlError, match="about to get the bundle") as caught:
            engine.swaps.begin(seat, "eeg", str(bundles["other"]))
        assert caught.value.code == "busy"
        assert not first.ready()
        first.join()
        engine.swaps.serve(engine.seats)
        assert first.result()["bundle"] == "two"
        left = engine.swaps.begin(seat, "eeg", str(bundles["one"]))
        left.join()
        engine.swaps.serve({})
        with pytest.raises(ControlError, match="the session left"):
            left.result()
