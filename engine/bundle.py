"""What training hands to serving: a checked directory, no pickle in it, found by name or path."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.errors import BundleError
from engine.plugins import nearest
from engine.runtime_onnx import OnnxRuntime
from engine.types import Array, Runtime

__all__ = ["FORMAT", "Bundle", "InputSpec", "find", "save", "shipped_names"]

FORMAT = 1
FILES = ("weights.safetensors", "model.onnx", "golden.npz", "CARD.md")
GOLDEN_LIMIT = 1e-4
_DESCRIPTION = "bundle.json"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input: the stream it needs, and its signal handling up to the graph."""

    kind: str
    rate_hz: float
    channels: tuple[str, ...]
    unit: str
    window_s: float
    min_filled_s: float
    steps: tuple[Mapping[str, Any], ...] = ()
    features: tuple[Mapping[str, Any], ...] = ()


class _Description(msgspec.Struct, forbid_unknown_fields=True):
    """bundle.json."""

    format: int
    id: str
    files: dict[str, str]  # name: SHA-256
    labels: tuple[str, ...]
    vocabulary: str
    inputs: dict[str, InputSpec]
    hop_s: float
    network: dict[str, Any]
    temperature: float
    abstain_below: float
    batch_sizes: tuple[int, ...]
    protocol: str
    seen_subjects: tuple[str, ...]
    metrics: dict[str, Any]
    data: str
    licence: str
    felt_or_expressed: str
    dimensions: dict[str, dict[str, float]] | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle: its description, and the runtime that runs its graph.

    `sha256` is that of bundle.json, which holds those of all other files. `dimensions` places
    each label in valence, arousal, dominance, in [0, 1].
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

    @staticmethod
    def load(name: str | Path, *, check: bool = True) -> Bundle:
        """The shipped bundle of that name, or the one at that path, verified and warm.

        Every file's hash and, with `check`, the golden values are held against bundle.json;
        raises BundleError that names what does not fit.
        """
        path = find(name)
        text = _read(path / _DESCRIPTION)
        told = _describe(path, text)
        for file in FILES:
            if file not in told.files:
                raise BundleError(f"{path / _DESCRIPTION}: names no SHA-256 of {file}")
        for file, expected in told.files.items():
            if hashlib.sha256(_read(path / file)).hexdigest() != expected:
                raise BundleError(
                    f"{path / file}: its SHA-256 is not the one in {_DESCRIPTION}; "
                    "the file is damaged or was changed. Fetch or build the bundle again."
                )
        runtime = OnnxRuntime(path / "model.onnx", told.batch_sizes)
        known = msgspec.structs.asdict(told)
        del known["format"], known["files"]
        digest = hashlib.sha256(text).hexdigest()
        bundle = Bundle(path=path, sha256=digest, runtime=runtime, **known)
        if check:
            check_golden(bundle)
        return bundle


def find(name: str | Path) -> Path:
    """The folder of a bundle: a path as it is, a bare name among the shipped ones."""
    path = Path(name)
    if path.is_dir():
        return path
    if os.sep in str(name):
        raise BundleError(f"{name}: no such folder; a bundle is a folder with a {_DESCRIPTION}")
    known = shipped_names()
    if str(name) in known:
        return Path(str(_shipped() / str(name)))
    hint = nearest(str(name), known) or f"; shipped: {', '.join(known) or 'none'}"
    raise BundleError(f"no bundle is called '{name}'{hint}")


def shipped_names() -> tuple[str, ...]:
    """The bundles that come with vagus, in alphabetical order."""
    folder = _shipped()
    if not folder.is_dir():
        return ()
    names = [e.name for e in folder.iterdir() if (e / _DESCRIPTION).is_file()]
    return tuple(sorted(names))


def check_golden(bundle: Bundle) -> None:
    """Hold the runtime against golden.npz; raises BundleError beyond 1e-4."""
    path = bundle.path / "golden.npz"
    try:
        with np.load(path, allow_pickle=False) as golden:
            arrays = {name: golden[name] for name in golden.files}
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read: {error}") from error
    expected = arrays.pop("probabilities", None)
    if expected is None:
        raise BundleError(f"{path}: holds no probabilities")
    valid = {n.removesuffix(".valid"): a for n, a in arrays.items() if n.endswith(".valid")}
    inputs = {n: a for n, a in arrays.items() if not n.endswith(".valid")}
    found = bundle.runtime.run(inputs, valid)
    if found.shape != expected.shape:
        raise BundleError(f"{path}: expects {expected.shape}, the graph gives {found.shape}")
    off = float(np.abs(found - expected).max())
    if not off <= GOLDEN_LIMIT:
        raise BundleError(
            f"{path}: the graph is off its golden values by {off:.3g}, more than "
            f"{GOLDEN_LIMIT:g}; this runtime does not compute what was trained"
        )


def save(
    path: Path,
    description: Mapping[str, Any],
    *,
    weights: bytes,
    model: bytes,
    golden: Mapping[str, Array],
    card: str,
) -> None:
    """Write a bundle whole or not at all; `description` is bundle.json without format and files.

    `golden` holds each input (batch, ...), its mask as `<input>.valid`, and `probabilities`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        (folder / "weights.safetensors").write_bytes(weights)
        (folder / "model.onnx").write_bytes(model)
        np.savez(folder / "golden.npz", allow_pickle=False, **golden)
        (folder / "CARD.md").write_text(card, encoding="utf-8")
        hashes = {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in FILES}
        told = {"format": FORMAT, **description, "files": hashes}
        text = json.dumps(told, indent=1, ensure_ascii=False, default=list)
        _describe(folder, text.encode())  # what cannot be loaded is not written
        (folder / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        if path.exists():
            shutil.rmtree(path)
        folder.chmod(0o755)
        folder.rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _describe(path: Path, text: bytes) -> _Description:
    where = path / _DESCRIPTION
    try:
        version = msgspec.json.decode(text, type=dict[str, Any]).get("format")
        if version != FORMAT:
            raise BundleError(
                f"{where}: format {version}; this version of vagus reads format {FORMAT}"
            )
        return msgspec.json.decode(text, type=_Description)
    except msgspec.DecodeError as error:
        raise BundleError(f"{where}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error


@cache
def _shipped() -> Any:
    return importlib.resources.files("configs") / "bundles"
