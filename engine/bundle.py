"""What training hands to serving: a checked directory, no pickle in it, found by name or path."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.encoder import FrameEncoder
from engine.errors import BundleError, InferenceError
from engine.manifest import DAMAGED, ENCODER, FILES, FORMAT, Description, InputSpec, describe, seal
from engine.plugins import nearest
from engine.runtime_onnx import OnnxRuntime
from engine.types import Array, Runtime

__all__ = ["FORMAT", "Bundle", "InputSpec", "check_golden", "find", "save", "shipped_names"]

GOLDEN_LIMIT = 1e-4
_DESCRIPTION = "bundle.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle: its description, and the runtime that runs its graph.

    `sha256` is that of bundle.json, which holds those of all other files. `dimensions` places
    each label in valence, arousal, dominance, in [0, 1]. `encoders` {input: encoder} are part of
    the graph that runs once per frame; `runtime` then reads embeddings, on `device`.
    """

    path: Path
    id: str
    sha256: str
    labels: tuple[str, ...]
    vocabulary: str
    inputs: Mapping[str, InputSpec]
    hop_s: float
    runtime: Runtime
    network: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    abstain_below: float = 0.0
    batch_sizes: tuple[int, ...] = (1,)
    protocol: str = ""
    seen_subjects: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    licence: str = ""
    felt_or_expressed: str = ""
    dimensions: Mapping[str, Mapping[str, float]] | None = None
    encoders: Mapping[str, FrameEncoder] = field(default_factory=dict)
    device: str = "cpu"

    @staticmethod
    def load(name: str | Path, device: str = "cpu", *, check: bool = True) -> Bundle:
        """The shipped bundle of that name, or the one at that path, verified and warm.

        On `device` "cpu" its graph runs in onnxruntime, on "cuda" its network in torch. Every
        file's hash and, with `check`, the golden values are held against bundle.json; raises
        BundleError that names what does not fit, ResourceError for a GPU that is not there.
        """
        path = find(name)
        text = _read(path / _DESCRIPTION)
        told = describe(path / _DESCRIPTION, text)
        contents = {file: _read(path / file) for file in told.files}
        for file, expected in told.files.items():
            if hashlib.sha256(contents[file]).hexdigest() != expected:
                raise BundleError(
                    f"{path / file}: its SHA-256 does not match {_DESCRIPTION}; {DAMAGED}"
                )
        runtime = _runtime(path / "model.onnx", contents["model.onnx"], told)
        known = msgspec.structs.asdict(told)
        for own in ("sha256", "format", "files", "encoder"):
            del known[own]
        known["encoders"] = _encoders(path, contents, told)
        digest = hashlib.sha256(text).hexdigest()
        bundle = Bundle(path=path, sha256=digest, runtime=runtime, **known)
        if device != "cpu":
            bundle = bundle.on_torch(device)
        if check:
            check_golden(bundle)
        return bundle

    def on_torch(self, device: str = "cpu") -> Bundle:
        """The same with its network in torch, on `device`, in place of its graph.

        Raises BundleError where weights and network do not fit.
        """
        from engine.runtime_torch import torch_runtime  # torch is heavy; a CPU does without

        return replace(self, runtime=torch_runtime(self, device), device=device)


def find(name: str | Path) -> Path:
    """The folder of a bundle: a path as it is, a bare name among the shipped ones."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise BundleError(f"{name}: a file; a bundle is a folder with a {_DESCRIPTION}")
    known = shipped_names()
    if os.sep in str(name):
        hint = nearest(path.name, known)
        raise BundleError(
            f"{name}: no such folder; a bundle is a folder with a {_DESCRIPTION}"
            f"{hint and hint + ' (shipped: give the name alone)'}"
        )
    if str(name) in known:
        return Path(str(_shipped() / str(name)))
    hint = nearest(str(name), known)
    raise BundleError(f"no bundle is called '{name}'{hint}; shipped: {', '.join(known) or 'none'}")


def shipped_names() -> tuple[str, ...]:
    """The bundles that come with vagus, in alphabetical order."""
    folder = _shipped()
    if not folder.is_dir():
        return ()
    names = [e.name for e in folder.iterdir() if (e / _DESCRIPTION).is_file()]
    return tuple(sorted(names))


def check_golden(bundle: Bundle) -> None:
    """Hold the runtime against golden.npz, at each batch size; raises BundleError beyond 1e-4."""
    path = bundle.path / "golden.npz"
    arrays = _arrays(path)
    expected = arrays.pop("probabilities", None)
    if expected is None or expected.ndim != 2 or not len(expected):
        raise BundleError(f"{path}: holds no probabilities (rows, labels)")
    missing = [name for name in bundle.inputs if name not in arrays]
    if missing:
        raise BundleError(f"{path}: holds no values of the input {', '.join(missing)}")
    if expected.shape[1] != len(bundle.labels):
        raise BundleError(
            f"{path}: has probabilities of {expected.shape[1]} labels; the bundle has "
            f"{len(bundle.labels)}: {', '.join(bundle.labels)}"
        )
    try:
        arrays |= {
            n: encoder.windows(arrays[n], arrays[f"{n}.valid"])
            for n, encoder in bundle.encoders.items()
        }
    except (InferenceError, KeyError, ValueError) as error:
        raise BundleError(f"{path}: cannot be run through the encoder: {error}") from error
    for size in bundle.batch_sizes:
        rows = np.arange(size) % len(expected)  # the golden rows, over and over
        off = _error(bundle, path, {n: a[rows] for n, a in arrays.items()}, expected[rows])
        if not off <= GOLDEN_LIMIT:
            raise BundleError(
                f"{path}: in batches of {size} the graph is off its golden values by {off:.3g}; "
                f"the limit is {GOLDEN_LIMIT:g}. This runtime does not compute what was trained"
            )


def save(
    path: Path,
    description: Mapping[str, Any],
    *,
    weights: bytes,
    model: bytes,
    golden: Mapping[str, Array],
    card: str,
    encoder: bytes | None = None,
) -> None:
    """Write a bundle whole or not at all; `description` is bundle.json without format and hashes.

    `golden` holds each input (rows, ...), its mask as `<input>.valid`, and `probabilities`; where
    there is an `encoder` the input is what it encodes, (rows, time, *frame). A
    bundle that is at `path` is replaced; anything else there is left alone, with a BundleError.
    """
    if path.exists() and not (path / _DESCRIPTION).is_file():
        raise BundleError(f"{path}: exists and is no bundle; it is not overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        made = folder / "made"
        made.mkdir()
        (made / "weights.safetensors").write_bytes(weights)
        (made / "model.onnx").write_bytes(model)
        np.savez(made / "golden.npz", allow_pickle=False, **golden)
        (made / "CARD.md").write_text(card, encoding="utf-8")
        if encoder is not None:
            (made / ENCODER).write_bytes(encoder)
        files = FILES if encoder is None else (*FILES, ENCODER)
        hashes = {f: hashlib.sha256((made / f).read_bytes()).hexdigest() for f in files}
        told = {"sha256": "0" * 64, "format": FORMAT, **description, "files": hashes}
        text = json.dumps(told, indent=1, ensure_ascii=False, default=list).encode() + b"\n"
        text = text.replace(b"0" * 64, seal(text).encode(), 1)
        describe(path / _DESCRIPTION, text)  # what cannot be loaded is not written
        (made / _DESCRIPTION).write_bytes(text)
        if path.exists():
            path.rename(folder / "before")
        made.rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _runtime(path: Path, model: bytes, told: Description) -> OnnxRuntime:
    try:
        runtime = OnnxRuntime(model, told.batch_sizes)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    wanted = {*runtime.inputs, *runtime.masked}
    if set(runtime.inputs) != set(told.inputs) or wanted != set(told.inputs):
        raise BundleError(
            f"{path}: the graph reads the inputs {', '.join(sorted(wanted))}; "
            f"{_DESCRIPTION} has {', '.join(told.inputs)}"
        )
    return runtime


def _encoders(
    path: Path, contents: Mapping[str, bytes], told: Description
) -> dict[str, FrameEncoder]:
    if told.encoder is None:
        return {}
    try:
        return {told.encoder.input: FrameEncoder(contents[ENCODER], told.encoder.width)}
    except BundleError as error:
        raise BundleError(f"{path / ENCODER}: {error}") from error


def _error(bundle: Bundle, path: Path, arrays: Mapping[str, Array], expected: Array) -> float:
    """How far the graph is from `expected`, at most; NaN where it gives none."""
    valid = {n.removesuffix(".valid"): a for n, a in arrays.items() if n.endswith(".valid")}
    try:
        found = bundle.runtime.run(arrays, valid)
    except (InferenceError, KeyError) as error:
        raise BundleError(f"{path}: cannot be run through the graph: {error}") from error
    if found.shape != expected.shape:
        raise BundleError(f"{path}: expects {expected.shape}, the graph gives {found.shape}")
    return float(np.abs(found - expected).max())


def _arrays(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as golden:
            return {name: golden[name] for name in golden.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: cannot be read: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error


@cache
def _shipped() -> Any:
    return importlib.resources.files("configs") / "bundles"
