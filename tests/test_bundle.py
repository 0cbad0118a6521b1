"""A bundle is refused with a reason as soon as anything in it is not what was saved."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import bundle
from engine.bundle import Bundle, BundleError
from tests import bundles

FILES = ("bundle.json", *bundle.FILES)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return bundles.write(tmp_path / "test-eeg")


def seal(path: Path, **changes: Any) -> None:
    """Change bundle.json as somebody would who also mends its hash."""
    told = json.loads((path / "bundle.json").read_text()) | changes
    text = json.dumps(told | {"sha256": "0" * 64}).encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    (path / "bundle.json").write_bytes(text.replace(b"0" * 64, digest, 1))


def refused(path: Path | str) -> str:
    with pytest.raises(BundleError) as refusal:
        Bundle.load(path)
    return str(refusal.value)


def test_what_was_saved_is_what_is_loaded(saved: Path) -> None:
    loaded = Bundle.load(saved)
    assert loaded.id == "test-eeg"
    assert loaded.labels == bundles.LABELS
    assert loaded.sha256 == hashlib.sha256((saved / "bundle.json").read_bytes()).hexdigest()
    spec = loaded.inputs["eeg"]
    assert (spec.kind, spec.rate_hz, spec.window_s) == ("eeg", 256.0, 2.0)
    assert spec.steps[0] == {"name": "bandpass", "low_hz": 1, "high_hz": 45}
    with np.load(saved / "golden.npz") as golden:
        found = loaded.runtime.run({"eeg": golden["eeg"]}, {"eeg": golden["eeg.valid"]})
        assert np.array_equal(found, golden["probabilities"])


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_byte_anywhere_is_found_and_the_file_named(saved: Path, file: str) -> None:
    content = bytearray((saved / file).read_bytes()) or bytearray(b"\0")
    for at in np.linspace(0, len(content) - 1, min(len(content), 60)).astype(int):
        damaged = bytearray(content)
        damaged[at] ^= 0x11
        (saved / file).write_bytes(bytes(damaged))
        told = refused(saved)
        assert str(saved / file) in told
        assert "SHA-256 does not match" in told


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(saved: Path, file: str) -> None:
    (saved / file).unlink()
    assert f"{saved / file}: cannot be read: No such file" in refused(saved)


def test_a_file_without_a_hash_is_named(saved: Path) -> None:
    files = json.loads((saved / "bundle.json").read_text())["files"]
    del files["CARD.md"]
    seal(saved, files=files)
    assert "names no SHA-256 of CARD.md" in refused(saved)


def test_files_outside_of_the_folder_are_not_read(saved: Path) -> None:
    files = json.loads((saved / "bundle.json").read_text())["files"]
    seal(saved, files=files | {"../secret": "0" * 64})
    assert "'../secret' is not the name of a file" in refused(saved)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused_and_both_are_told(saved: Path, version: Any) -> None:
    seal(saved, format=version)
    assert f"format {version}; this version of vagus reads format 1" in refused(saved)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lables": ["a"]}, "unknown field `lables`"),
        ({"labels": ["sad", "sad"]}, "labels: one occurs twice"),
        ({"labels": ["sad"]}, "at `$.labels`"),
        ({"temperature": 0}, "at `$.temperature`"),
        ({"temperature": "warm"}, "at `$.temperature`"),
        ({"abstain_below": 1.5}, "at `$.abstain_below`"),
        ({"batch_sizes": []}, "at `$.batch_sizes`"),
        ({"batch_sizes": [0]}, "at `$.batch_sizes[0]`"),
        ({"hop_s": -1}, "at `$.hop_s`"),
        ({"inputs": {}}, "at `$.inputs`"),
        ({"felt_or_expressed": "thought"}, "at `$.felt_or_expressed`"),
        ({"dimensions": {"happy": {"valence": 0.9}}}, "dimensions: need one place for each of"),
        ({"labels": ["a", "b"]}, "has probabilities of 4 labels; the bundle has 2: a, b"),
        ({"inputs": {"ecg": bundles.describe(("C1",))["inputs"]["eeg"]}}, "bundle.json has ecg"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(
    saved: Path, changes: dict[str, Any], words: str
) -> None:
    seal(saved, **changes)
    assert words in refused(saved)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_filled_s": 3.0}, "inputs.eeg.min_filled_s is 3; need at most window_s, 2"),
        ({"window": 3.0}, "unknown field `window`"),
        ({"kind": "smell"}, "at `$.inputs[...].kind`"),
        ({"channels": []}, "at `$.inputs[...].channels`"),
        ({"steps": [{"low_hz": 1}]}, "a step or feature has no name"),
    ],
)
def test_an_input_that_makes_no_sense_is_refused_with_its_place(
    saved: Path, changes: dict[str, Any], words: str
) -> None:
    spec = json.loads((saved / "bundle.json").read_text())["inputs"]["eeg"]
    seal(saved, inputs={"eeg": spec | changes})
    assert words in refused(saved)


def test_golden_values_that_differ_are_told_with_the_difference_and_the_limit(
    tmp_path: Path,
) -> None:
    path = bundles.write(tmp_path / "b")
    regild(path, probabilities=lambda p: p + np.float32(0.01))
    told = refused(path)
    assert re.search(r"off its golden values by 0\.01\d*; the limit is 0\.0001", told)
    assert Bundle.load(path, check=False).id == "test-eeg"


def test_golden_values_within_the_limit_pass(tmp_path: Path) -> None:
    path = bundles.write(tmp_path / "b")
    regild(path, probabilities=lambda p: p + np.float32(5e-5))
    assert Bundle.load(path).id == "test-eeg"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("probabilities", lambda _: None, "holds no probabilities"),
        ("eeg", lambda _: None, "holds no values of the input eeg"),
        ("eeg", lambda x: x[:, :5], "cannot be run through the graph"),
        ("eeg", lambda x: x * np.float32(np.nan), "cannot be run through the graph"),
        ("probabilities", lambda p: p * np.float32(np.nan), "off its golden values by nan"),
        ("eeg", lambda x: np.array([{}]), "Object arrays cannot be loaded"),
    ],
)
def test_golden_values_that_cannot_be_right_are_refused(
    tmp_path: Path, name: str, change: Any, words: str
) -> None:
    path = bundles.write(tmp_path / "b")
    regild(path, **{name: change})
    assert words in refused(path)


def regild(path: Path, **changes: Any) -> None:
    """Replace golden values, and mend the hashes."""
    with np.load(path / "golden.npz") as golden:
        arrays = {name: golden[name] for name in golden.files}
    arrays |= {name: change(arrays[name]) for name, change in changes.items()}
    np.savez(path / "golden.npz", **{n: a for n, a in arrays.items() if a is not None})
    files = json.loads((path / "bundle.json").read_text())["files"]
    digest = hashlib.sha256((path / "golden.npz").read_bytes()).hexdigest()
    seal(path, files=files | {"golden.npz": digest})


def test_an_unknown_name_is_answered_with_the_nearest_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_shipped", lambda: tmp_path)
    bundles.write(tmp_path / "workload-eegmat")
    assert Bundle.load("workload-eegmat").path == tmp_path / "workload-eegmat"
    told = refused("workload-eegmt")
    assert "no bundle is called 'workload-eegmt'; did you mean 'workload-eegmat'?" in told
    assert "shipped: workload-eegmat" in told


def test_a_path_that_is_no_folder_is_told_as_a_path(tmp_path: Path) -> None:
    assert "no such folder; a bundle is a folder with a bundle.json" in refused(tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert "a file; a bundle is a folder" in refused(tmp_path / "file")
    assert f"{tmp_path / 'bundle.json'}: cannot be read" in refused(tmp_path)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    a, b = bundles.write(tmp_path / "a"), bundles.write(tmp_path / "b")
    assert [(a / f).read_bytes() for f in FILES] == [(b / f).read_bytes() for f in FILES]


def test_saving_replaces_a_bundle_and_leaves_nothing_beside_it(saved: Path) -> None:
    bundles.write(saved, id="another")
    assert Bundle.load(saved).id == "another"
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_saving_never_overwrites_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        bundles.write(tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years"


def test_saving_what_cannot_be_loaded_writes_nothing(saved: Path) -> None:
    before = (saved / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match=re.escape("at `$.temperature`")):
        bundles.write(saved, temperature=-1.0)
    assert (saved / "bundle.json").read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_loading_a_bundle_loads_neither_torch_nor_safetensors(saved: Path) -> None:
    code = (
        "import sys; from engine.bundle import Bundle; Bundle.load(sys.argv[1]); "
        "print(sorted({'torch', 'safetensors', 'onnx'} & sys.modules.keys()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, saved], capture_output=True, text=True, timeout=120, check=True
    )
    assert told.stdout == "[]\n"
