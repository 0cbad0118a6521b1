"""bundle.json: what it may say of a bundle, and the seal that shows a change."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from engine.errors import BundleError

__all__ = [
    "DAMAGED",
    "ENCODER",
    "FILES",
    "FORMAT",
    "Description",
    "EncoderSpec",
    "InputSpec",
    "describe",
    "seal",
]

FORMAT = 1
ENCODER = "encoder.onnx"  # where there is one
FILES = ("weights.safetensors", "model.onnx", "golden.npz", "CARD.md")
DAMAGED = "the file is damaged or was changed; fetch or build the bundle again"
_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64})"')  # of bundle.json with zeros in this place

_Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
_Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Size: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Some = msgspec.Meta(min_length=1)


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input: the stream it needs, and its signal handling up to the graph."""

    kind: Literal["eeg", "physio", "voice", "face"]
    rate_hz: _Positive
    channels: Annotated[tuple[str, ...], _Some]
    unit: str
    window_s: _Positive
    min_filled_s: _Positive
    steps: tuple[Mapping[str, Any], ...] = ()
    features: tuple[Mapping[str, Any], ...] = ()
    adapt: Mapping[str, Any] | None = None  # of the features, see engine.adapt


class EncoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """encoder.onnx: whose frames it encodes, and how long an embedding is."""

    input: str
    width: Annotated[int, msgspec.Meta(ge=1)]


class Description(msgspec.Struct, forbid_unknown_fields=True):
    """bundle.json, checked."""

    sha256: str
    format: int
    id: Annotated[str, _Some]
    files: dict[str, str]  # name: SHA-256
    labels: Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
    vocabulary: str
    inputs: Annotated[dict[str, InputSpec], _Some]
    hop_s: _Positive
    network: dict[str, Any]
    temperature: _Positive
    abstain_below: _Share
    batch_sizes: Annotated[tuple[_Size, ...], _Some]
    protocol: str
    seen_subjects: tuple[str, ...]
    metrics: dict[str, Any]
    data: str
    licence: str
    felt_or_expressed: Literal["felt", "expressed"]
    dimensions: dict[str, dict[str, _Share]] | None = None
    encoder: EncoderSpec | None = None


def describe(where: Path, text: bytes) -> Description:
    """Decode bundle.json; what is wrong with it is told before its hash, a damaged one in both."""
    told = _SEAL.search(text)
    sealed = told is not None and told[1].decode() == seal(text)
    damage = "" if sealed else f"; its SHA-256 does not match: {DAMAGED}"
    try:
        version = msgspec.json.decode(text, type=dict[str, Any]).get("format")
        if version != FORMAT:
            raise BundleError(
                f"{where}: format {version}; this version of vagus reads format {FORMAT}{damage}"
            )
        described = msgspec.json.decode(text, type=Description)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{where}: {error}{damage}") from error
    problem = _problem(described)
    if problem or damage:
        raise BundleError(f"{where}{problem and ': '}{problem}{damage}")
    return described


def _problem(told: Description) -> str:
    """What the types of bundle.json do not say: empty if all is well."""
    if len(set(told.labels)) < len(told.labels):
        return f"labels: one occurs twice: {', '.join(told.labels)}"
    for name, spec in told.inputs.items():
        if spec.min_filled_s > spec.window_s:
            return (
                f"inputs.{name}.min_filled_s is {spec.min_filled_s:g}; "
                f"need at most window_s, {spec.window_s:g}"
            )
        for entry in (*spec.steps, *spec.features):
            if not isinstance(entry.get("name"), str):
                return f"inputs.{name}: a step or feature has no name: {dict(entry)!r}"
    if told.encoder is not None:
        encoded = told.inputs.get(told.encoder.input)
        if encoded is None:
            return f"encoder: no input is called '{told.encoder.input}'"
        if encoded.features:
            return f"encoder: the input {told.encoder.input} has features; it may have either"
    needed = FILES if told.encoder is None else (*FILES, ENCODER)
    for file in (f for f in needed if f not in told.files):
        return f"files: names no SHA-256 of {file}"
    for file in (f for f in told.files if Path(f).name != f):
        return f"files: {file!r} is not the name of a file in the bundle's folder"
    if told.dimensions is not None and set(told.dimensions) != set(told.labels):
        return f"dimensions: need one place for each of {', '.join(told.labels)}"
    if told.dimensions and len({frozenset(place) for place in told.dimensions.values()}) > 1:
        return "dimensions: every label needs the same axes"
    return ""


def seal(text: bytes) -> str:
    """The SHA-256 of bundle.json with zeros where it holds its own."""
    return hashlib.sha256(_SEAL.sub(b'"sha256": "' + b"0" * 64 + b'"', text, count=1)).hexdigest()
