"""Exports, each read back by the tools that laboratories read that format with."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from engine.cli import main
from engine.errors import ConfigError, DataError, ResourceError
from sinks.export import FORMATS, Pseudonyms, Recorded, export
from sources.files import open_recording
from tests import lab_log
from tests.lab_log import EEG, LOST, OFFSET_S, ORIGIN_S, WALL_S, Lab

pyxdf = pytest.importorskip("pyxdf", reason="reading XDF files needs pyxdf")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_log.record(tmp_path_factory.mktemp("lab") / "one.mcap")


def written(lab: Lab, form: str, out: Path) -> list[Path]:
    return export(Recorded.open(lab.path), form, out)


def xdf_streams(path: Path, **how: Any) -> dict[str, Any]:
    return {one["info"]["name"][0]: one for one in pyxdf.load_xdf(path, **how)[0]}


def table(path: Path, **how: Any) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, **how))


# -- XDF --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["eeg", "skin", "voice"])
def test_pyxdf_reads_every_sample_and_every_own_stamp_of_a_device(
    lab: Lab, tmp_path: Path, stream: str
) -> None:
    path = written(lab, "xdf", tmp_path)[0]
    raw = xdf_streams(path, synchronize_clocks=False, dejitter_timestamps=False)[stream]
    assert raw["time_series"].dtype == np.float32
    assert np.array_equal(raw["time_series"], lab.items(stream))
    own = lab.own_stamps(stream)
    assert raw["time_stamps"][list(own)].tolist() == list(own.values())


def test_clock_offsets_lead_to_the_engines_clock_in_every_stream(lab: Lab, tmp_path: Path) -> None:
    found = xdf_streams(written(lab, "xdf", tmp_path)[0], dejitter_timestamps=False)
    assert all(len(one["clock_times"]) >= 1 for one in found.values())
    first_s = found["eeg"]["time_stamps"][0]
    assert abs(first_s - ORIGIN_S) < 0.5  # one line through the offsets of two clocks
    assert found["eeg"]["clock_values"][0] == OFFSET_S
    assert found["eeg"]["clock_values"][-1] == OFFSET_S + 0.5
    assert np.allclose(found["skin"]["time_stamps"], ORIGIN_S + np.arange(12) / 4, atol=1e-9)


def test_stamps_come_out_as_the_engine_had_them_where_one_clock_stayed_one(tmp_path: Path) -> None:
    lab = lab_log.record(tmp_path / "steady.mcap")
    found = xdf_streams(written(lab, "xdf", tmp_path)[0])
    assert abs(found["marks"]["time_stamps"][0] - (ORIGIN_S + 1.0)) < 1e-9
    assert np.allclose(found["voice"]["time_stamps"], ORIGIN_S + np.arange(4800) / 1600, atol=1e-6)


def test_predictions_and_texts_are_streams_of_the_file(lab: Lab, tmp_path: Path) -> None:
    found = xdf_streams(written(lab, "xdf", tmp_path)[0])
    said = found["vagus.p01"]
    labels = [c["label"][0] for c in said["info"]["desc"][0]["channels"][0]["channel"]]
    assert labels == [
        "calm",
        "happy",
        "valence",
        "arousal",
        "dominance",
        "confidence",
        "latency_ms",
    ]
    assert said["info"]["type"] == ["Emotion"]
    assert said["time_stamps"].tolist() == [ORIGIN_S + 0.5 * k for k in range(1, 7)]
    assert said["time_series"][:, :2].tolist() == 6 * [[0.25, 0.75]]
    assert found["control"]["time_series"] == [["begin"]]
    assert found["marks"]["time_series"] == [["clap"]]  # once: its message is the same mark
    assert found["vagus.p01.events"]["time_series"] == [["source.lost eeg"]]


def test_pictures_lie_beside_the_file_as_they_came(lab: Lab, tmp_path: Path) -> None:
    path, folder = written(lab, "xdf", tmp_path)
    numbers = xdf_streams(path)["face"]["time_series"][:, 0].tolist()
    assert numbers == list(range(30))
    came = [c.data[0] for c in lab.chunks["face"]]
    assert [(folder / f"{n:06d}.jpg").read_bytes() for n in numbers] == came


def test_an_exported_file_is_a_recording_like_any_other(lab: Lab, tmp_path: Path) -> None:
    opened = open_recording(written(lab, "xdf", tmp_path)[0])
    assert {s.info.name for s in opened.streams} == {"eeg", "physio", "voice"}
    eeg = next(s for s in opened.streams if s.info.name == "eeg")
    assert (eeg.info.unit, eeg.info.channels) == ("uV", EEG.channels)
    assert np.array_equal(eeg.read(0, eeg.n_items), lab.items("eeg"))
    assert "clap" in [value for _, value in opened.markers]


# -- EDF --------------------------------------------------------------------------------------


def eeg_with_holes(lab: Lab) -> tuple[Any, Any]:
    """The EEG on one sample clock, and which of its samples came."""
    came = lab.items("eeg")
    x, there = np.zeros((825, 3)), np.zeros(825, bool)
    for at, part in ((0, came[:250]), (LOST[1], came[250:450]), (625, came[450:])):
        x[at : at + len(part)], there[at : at + len(part)] = part, True
    return x, there


def test_edf_has_the_samples_within_its_16_bits_and_tells_what_was_lost(
    lab: Lab, tmp_path: Path
) -> None:
    import edfio

    path = next(p for p in written(lab, "edf", tmp_path) if p.stem.endswith("eeg"))
    edf = edfio.read_edf(str(path))
    expected, there = eeg_with_holes(lab)
    n = len(expected)
    assert edf.labels == EEG.channels
    for signal, x in zip(edf.signals, expected.T, strict=True):
        step = (signal.physical_max - signal.physical_min) / 65535
        assert np.abs(signal.data[:n] - x)[there].max() <= step
    lost = [(a.onset, a.duration) for a in edf.annotations if a.text == "BAD_ACQ_SKIP"]
    assert lost[:2] == [(1.0, 0.2), (2.0, 0.5)]
    assert edf.startdate.isoformat() == "2023-11-14"


def test_annotations_stand_at_the_sample_that_they_came_with(lab: Lab, tmp_path: Path) -> None:
    import edfio

    path = next(p for p in written(lab, "edf", tmp_path) if p.stem.endswith("eeg"))
    notes = {a.text: a.onset for a in edfio.read_edf(str(path)).annotations}
    assert notes["begin"] == pytest.approx(0.5)
    assert notes["clap"] == pytest.approx(1.0)
    assert notes["label:happy"] == pytest.approx(0.5)


def test_edf_of_other_streams_and_what_has_no_place_is_told(lab: Lab, tmp_path: Path) -> None:
    recorded = Recorded.open(lab.path)
    paths = export(recorded, "edf", tmp_path)
    assert sorted(p.name for p in paths) == ["one_eeg.edf", "one_skin.edf"]
    told = " ".join(recorded.warnings)
    assert "voice: " in told
    assert "face: " in told


def test_a_pause_of_over_a_minute_begins_another_file(tmp_path: Path) -> None:
    from engine.clockfit import Knot
    from engine.timeline import Run
    from sinks.export.sheets import sheets

    def run(segment: int, at_s: float) -> Run:
        return Run(
            segment, 0, np.ones((25, 3), np.float32), np.ones(25, bool), Knot(0, at_s, 250.0)
        )

    near, far = sheets(EEG, [run(0, 0.0), run(1, 1.0), run(2, 100.0)])
    assert (len(near.data), len(far.data)) == (275, 25)
    assert list(near.lost()) == [(0.1, 0.9)]
    assert far.start_s == 100.0


def test_a_time_finds_its_sample_though_the_clock_drifts() -> None:
    from engine.clockfit import Knot
    from engine.timeline import Run
    from sinks.export.sheets import sheets

    slow_hz = 250.0 * (1 - 500e-6)
    runs = [
        Run(0, k * 250, np.ones((250, 3), np.float32), np.ones(250, bool), Knot(0, 0.0, slow_hz))
        for k in range(3600)
    ]
    (sheet,) = sheets(EEG, runs)
    assert sheet.onset_s(3000 * 250 / slow_hz) == pytest.approx(3000.0, abs=1e-6)


# -- BIDS -------------------------------------------------------------------------------------


def test_a_bids_data_set_has_its_files_their_sidecars_and_derivatives(
    lab: Lab, tmp_path: Path
) -> None:
    paths = written(lab, "bids", tmp_path)
    stem = "sub-p01_ses-20231114T221410_task-emotion"
    folder = tmp_path / "sub-p01" / "ses-20231114T221410" / "eeg"
    assert {p.name for p in folder.iterdir()} == {
        f"{stem}{end}"
        for end in ("_eeg.edf", "_eeg.json", "_channels.tsv", "_events.tsv", "_events.json",
                    "_recording-skin_physio.json", "_recording-skin_physio.tsv.gz")
    }  # fmt: skip
    assert json.loads((folder / f"{stem}_eeg.json").read_text())["SamplingFrequency"] == 250.0
    described = json.loads((tmp_path / "dataset_description.json").read_text())
    assert described["DatasetType"] == "raw"
    derived = json.loads(
        (tmp_path / "derivatives" / "vagus" / "dataset_description.json").read_text()
    )
    assert (derived["DatasetType"], derived["GeneratedBy"][0]["Name"]) == ("derivative", "vagus")
    assert (tmp_path / "participants.tsv").read_text() == "participant_id\nsub-p01\n"
    assert all(path.is_file() for path in paths)


def test_bids_tables_say_when_and_what(lab: Lab, tmp_path: Path) -> None:
    paths = {p.name.rpartition("emotion")[2]: p for p in written(lab, "bids", tmp_path)}
    marks = table(paths["_events.tsv"], delimiter="\t")
    assert [(m["onset"], m["trial_type"]) for m in marks] == [
        ("0.500000", "begin"),
        ("1.000000", "clap"),
    ]
    said = table(paths["_desc-predictions_events.tsv"], delimiter="\t")
    assert [float(row["onset"]) for row in said] == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3])
    assert {row["label"] for row in said} == {"happy"}
    about = json.loads(paths["_recording-skin_physio.json"].read_text())
    assert (about["SamplingFrequency"], about["StartTime"]) == (4.0, 0.0)
    assert about["EDA"] == {"Units": "uS"}
    rows = gzip.decompress(paths["_recording-skin_physio.tsv.gz"].read_bytes()).split()
    assert np.array_equal(np.array(rows, np.float32), lab.items("skin")[:, 0])


def test_another_recording_joins_the_data_set_and_the_same_one_does_not(
    lab: Lab, tmp_path: Path
) -> None:
    written(lab, "bids", tmp_path / "set")
    other = lab_log.record(tmp_path / "two.mcap", "p02")
    written(other, "bids", tmp_path / "set")
    people = (tmp_path / "set" / "participants.tsv").read_text().split()
    assert people == ["participant_id", "sub-p01", "sub-p02"]
    with pytest.raises(ResourceError, match="in the data set already"):
        written(lab, "bids", tmp_path / "set")


# -- CSV and EmotionML ------------------------------------------------------------------------


def test_csv_tables_hold_every_item_at_its_time_and_leave_lost_ones_empty(
    lab: Lab, tmp_path: Path
) -> None:
    written(lab, "csv", tmp_path)
    rows = table(tmp_path / "one_eeg.csv")
    came = np.array([[row[c] for c in EEG.channels] for row in rows if row["Fz"]], np.float32)
    assert np.array_equal(came, lab.items("eeg"))
    assert float(rows[0]["t"]) == ORIGIN_S
    assert float(rows[250]["t"]) == pytest.approx(ORIGIN_S + 1.2, abs=1e-3)  # behind the gap
    assert [row["segment"] for row in rows[249:251]] == ["0", "1"]
    said = table(tmp_path / "one_predictions.csv")
    assert [float(row["p_happy"]) for row in said] == 6 * [0.75]
    assert [row["value"] for row in table(tmp_path / "one_markers.csv")] == ["begin", "clap"]
    assert table(tmp_path / "one_events.csv")[0]["code"] == "source.lost"


def test_csv_has_sound_and_pictures_beside_their_tables(lab: Lab, tmp_path: Path) -> None:
    import soundfile

    written(lab, "csv", tmp_path)
    rows = table(tmp_path / "one_voice.csv")
    sound, rate_hz = soundfile.read(tmp_path / rows[0]["file"], dtype="float32")
    assert rate_hz == 1600
    assert np.array_equal(sound, lab.items("voice")[:, 0])
    faces = table(tmp_path / "one_face.csv")
    came = [c.data[0] for c in lab.chunks["face"]]
    assert [(tmp_path / row["file"]).read_bytes() for row in faces] == came


def test_emotionml_has_every_prediction(lab: Lab, tmp_path: Path) -> None:
    (path,) = written(lab, "emotionml", tmp_path / "said.emotionml")
    emotions = (
        ElementTree.parse(path).getroot().findall("{http://www.w3.org/2009/10/emotionml}emotion")
    )
    assert [e.get("id") for e in emotions] == [f"p{k}" for k in range(6)]
    assert emotions[0].get("start") == str(round(1e3 * (ORIGIN_S + 0.5 + WALL_S)))


# -- pseudonyms -------------------------------------------------------------------------------


def everything(folder: Path) -> bytes:
    """The names and the bytes of all files below."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    packed = [gzip.decompress(p.read_bytes()) for p in found if p.suffix == ".gz"]
    return b"".join([*(str(p).encode() + p.read_bytes() for p in found), *packed])


@pytest.mark.parametrize("form", FORMATS)
def test_a_pseudonymised_export_has_no_name_no_date_no_run_no_face_and_no_voice(
    tmp_path: Path, form: str
) -> None:
    lab = lab_log.record(tmp_path / "ludwig-2023.mcap", "ludwig")
    hidden = Pseudonyms(tmp_path / "key.json", bytes(32))
    recorded = Recorded.open(lab.path, hidden)
    export(recorded, form, tmp_path / "out")
    told = everything(tmp_path / "out")
    for secret in (b"ludwig", b"0123456789ab", b"2023-11-14", b"20231114", b"14.11.23", b"1700000"):
        assert secret not in told
    assert b"JFIF" not in told
    assert hidden.name("ludwig").encode() in told
    assert form == "emotionml" or any("face" in warning for warning in recorded.warnings)


def test_one_key_gives_one_name_and_one_shift_and_another_key_others(tmp_path: Path) -> None:
    one = Pseudonyms.load(tmp_path / "one.json")
    name = one.name("p01")
    one.save()
    again, other = Pseudonyms.load(tmp_path / "one.json"), Pseudonyms.load(tmp_path / "two.json")
    assert (tmp_path / "one.json").stat().st_mode & 0o777 == 0o600
    assert again.names == {name: "p01"}
    assert (again.name("p01"), again.shift_s("p01")) == (name, one.shift_s("p01"))
    assert other.name("p01") != name
    assert one.shift_s("p01") % 86400 == 0
    assert -3650 * 86400 <= one.shift_s("p01") <= -365 * 86400


def test_a_file_that_is_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"format": 2}')
    with pytest.raises(DataError, match=r"is no key file of pseudonyms: format 2"):
        Pseudonyms.load(tmp_path / "key.json")


# -- the command ------------------------------------------------------------------------------


def test_the_command_writes_and_says_what_it_left_out(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(lab.path), "--to", "edf", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert str(tmp_path / "one_eeg.edf") in told.out
    assert "vagus: face: the format has no place for it" in told.err


def test_the_command_keeps_the_key_apart_from_the_data(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["export", str(lab.path), "--to", "xdf", str(tmp_path / "out"), "--pseudonymise"]
    assert main([*given, "--key", str(tmp_path / "out" / "key.json")]) == 2
    assert "must not get the names" in capsys.readouterr().err.replace("\n", " ")
    assert main([*given, "--key", str(tmp_path / "key.json")]) == 0
    ((pseudonym, name),) = json.loads((tmp_path / "key.json").read_text())["names"].items()
    assert name == "p01"
    assert all(p.name.startswith(pseudonym) for p in (tmp_path / "out").iterdir())


def test_nothing_is_overwritten_and_an_unknown_format_is_told(lab: Lab, tmp_path: Path) -> None:
    written(lab, "csv", tmp_path)
    with pytest.raises(ResourceError, match="an export overwrites nothing"):
        written(lab, "csv", tmp_path)
    with pytest.raises(ConfigError, match="no format is called 'xfd'; did you mean 'xdf'"):
        written(lab, "xfd", tmp_path)


def test_a_recording_without_raw_signals_has_what_was_said(tmp_path: Path) -> None:
    lab = lab_log.record(tmp_path / "said.mcap", raw=False)
    recorded = Recorded.open(lab.path)
    found = xdf_streams(export(recorded, "xdf", tmp_path)[0])
    assert set(found) == {"vagus.p01", "vagus.p01.events", "control", "marks"}
    assert any("no raw signals" in warning for warning in recorded.warnings)
    with pytest.raises(DataError, match="no EEG or physiological signal"):
        written(lab, "edf", tmp_path)
    paths = {p.name.rpartition("emotion")[2]: p for p in written(lab, "bids", tmp_path / "study")}
    assert {p.parent.name for p in paths.values()} == {"beh"}
    marks = table(paths["_events.tsv"], delimiter="\t")
    assert [(m["onset"], m["trial_type"]) for m in marks] == [
        ("0.500000", "begin"),
        ("1.000000", "clap"),
    ]
    assert len(table(paths["_desc-predictions_events.tsv"], delimiter="\t")) == 6


def test_a_torn_recording_is_exported_up_to_its_end(lab: Lab, tmp_path: Path) -> None:
    whole = lab.path.read_bytes()
    torn = tmp_path / "torn.mcap"
    torn.write_bytes(whole[: len(whole) // 2])
    recorded = Recorded.open(torn)
    found = xdf_streams(export(recorded, "xdf", tmp_path)[0])
    assert 0 < len(found["eeg"]["time_series"]) < 650
    assert any("no clean end" in warning for warning in recorded.warnings)
