"""Weights as 8-bit integers: a bundle a quarter the size, kept only if it says the same.

Only weights are rounded, per output channel; a product in the graph, worked out once when it is
loaded, turns them back.
Rounding what flows between the layers as well would save nothing more on disk: with scales found on
the fly (dynamic) a person's probabilities would depend on who else is in the batch, and with fixed
scales (static) small convolutions came out slower than in float32.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from engine import bundle as bundles
from engine.bundle import Bundle
from engine.encoder import FrameEncoder
from engine.errors import BundleError, ConfigError
from engine.manifest import describe
from engine.runtime_onnx import OnnxRuntime
from engine.runtime_torch import load_network
from engine.types import Array
from offline.datasets import LabelledRecording
from offline.evaluate import predict, summarise, unit_of
from offline.export import to_onnx, to_two_onnx

__all__ = ["Gate", "compress", "packed", "rounded"]

MOST_DROP, MOST_SIZE = 0.01, 0.30  # of UAR, and of the graph's bytes
_LEAST_WEIGHTS = 256  # a smaller tensor is not worth a scale
_WHOLE = 1e-3  # how near to whole numbers weights that were rounded are, in steps
_N_TIMED = 40


@dataclass(frozen=True, slots=True)
class Gate:
    """What compression costs and gives; `before` and `after` are UAR on `judged`.

    Without data `after` is the share of golden rows that keep their label, and `before` 1.
    `latency` is the time of a run beside the original's, batch 1, in turn within one run.
    """

    judged: str
    before: float
    after: float
    size: float
    latency: float
    off: float  # of a golden probability, at most

    @property
    def passed(self) -> bool:
        """Whether it is good and small enough to be kept."""
        return self.before - self.after <= MOST_DROP and self.size <= MOST_SIZE

    @property
    def words(self) -> str:
        """All figures in a sentence."""
        return (
            f"{self.judged} {self.before:.3f} -> {self.after:.3f} (may fall by {MOST_DROP:g}), "
            f"size x{self.size:.3f} (at most {MOST_SIZE:g}), time of a run x{self.latency:.2f}, "
            f"probabilities off by {self.off:.2g} at most"
        )


def compress(
    original: Bundle,
    out: Path,
    recordings: Sequence[LabelledRecording] = (),
    calibrate_s: float | None = None,
) -> tuple[Bundle, Gate]:
    """Write `original` with int8 weights to `out`; the bundle, and what it costs.

    Judged on `recordings`, or on the golden rows without any. Raises BundleError with all figures
    where the gate fails; nothing is left at `out` then.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; choose another folder")
    network = load_network(original)
    weights = rounded(network)
    inputs, valid, before = _golden(original)
    encoder, model = None, b""
    if original.encoders:
        encoder, model, width = to_two_onnx(network, inputs, valid, original.temperature)
        encoder, model = packed(encoder), packed(model)
        ((name, frames),) = inputs.items()
        read: dict[str, Array] = {name: FrameEncoder(encoder, width).windows(frames, valid[name])}
    else:
        model, read = packed(to_onnx(network, inputs, valid, original.temperature)), inputs
    runtime = OnnxRuntime(model, original.batch_sizes)
    after = runtime.run(read, valid)
    told = describe(original.path / "bundle.json", (original.path / "bundle.json").read_bytes())
    about = msgspec.to_builtins(told)
    for own in ("sha256", "format", "files"):
        del about[own]
    about["id"] = f"{original.id}-int8"
    golden = {**inputs, **{f"{n}.valid": valid[n] for n in inputs}, "probabilities": after}
    save = partial(bundles.save, weights=weights, model=model, golden=golden, encoder=encoder)
    draft = out.with_name(f".{out.name}-draft")
    try:
        save(draft, about, card="draft\n")
        gate = _gate(original, Bundle.load(draft), recordings, calibrate_s, before, after)
        if not gate.passed:
            raise BundleError(f"{original.id}: int8 does not pass: {gate.words}")
        about["metrics"] = {**about["metrics"], "int8": msgspec.to_builtins(gate)}
        save(out, about, card=_card(original, gate))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Bundle.load(out), gate


def rounded(network: nn.Module) -> bytes:
    """Round the weights of `network`, in place, to 255 steps per row of the first axis; as a file.

    Weights with two or more axes are kept as int8 with their steps under `<name>.scale`.
    """
    kept: dict[str, Tensor] = {}
    state = network.state_dict()
    for name, tensor in state.items():
        if not _worth_it(tensor.dim(), tensor.numel()) or not tensor.is_floating_point():
            kept[name] = tensor.contiguous()
            continue
        rows = tensor.float().flatten(1)
        scale = (rows.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        steps = (rows / scale[:, None]).round().to(torch.int8)
        kept[name], kept[f"{name}.scale"] = steps.reshape(tensor.shape).contiguous(), scale
        state[name] = (steps.float() * scale[:, None]).reshape(tensor.shape)
    network.load_state_dict(state)
    made: bytes = to_safetensors(kept)
    return made


def packed(graph: bytes) -> bytes:
    """An ONNX file whose weights were rounded, with int8 in their place, and what turns them back.

    The graph may hold them turned or stacked: the axis is found along which they are whole steps.
    """
    model = onnx.load_from_string(graph)
    nodes = []
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or not _worth_it(values.ndim, values.size):
            continue
        found = _steps(values)
        if found is None:
            continue
        name, (steps, scale) = tensor.name, found
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(numpy_helper.from_array(steps, f"{name}.int8"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        # No DequantizeLinear: a runtime keeps that for integer kernels, and runs it every time.
        nodes += [
            helper.make_node("Cast", [f"{name}.int8"], [f"{name}.steps"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.steps", f"{name}.scale"], [name]),
        ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _steps(values: Array) -> tuple[Array, Array] | None:
    """int8, and the scale along one axis, whose product gives `values` back; None if none does."""
    for axis in range(values.ndim):
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.abs(values).max(others) / np.float32(127)
        scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
        scale = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        steps = values / scale
        if np.abs(steps - steps.round()).max() < _WHOLE:
            return steps.round().astype(np.int8), scale
    return None


def _worth_it(n_axes: int, n: int) -> bool:
    return n_axes > 1 and n >= _LEAST_WEIGHTS


def _gate(
    original: Bundle,
    made: Bundle,
    recordings: Sequence[LabelledRecording],
    calibrate_s: float | None,
    before: Array,
    after: Array,
) -> Gate:
    judged, was, now = "golden rows with their label", 1.0, _agreement(before, after)
    if recordings:
        unit = unit_of(recordings)
        judged = f"UAR of {len(recordings)} recordings"
        was, now = (
            summarise(
                predict(one, recordings, calibrate_s),
                one.labels,
                dataset="",
                protocol="",
                unit=unit,
            )["uar"]
            for one in (original, made)
        )
    sizes = [_n_bytes(one) for one in (original, made)]
    off = float(np.abs(before - after).max())
    return Gate(judged, was, now, sizes[1] / sizes[0], _latency(original, made), off)


def _agreement(before: Array, after: Array) -> float:
    return float(np.mean(before.argmax(1) == after.argmax(1)))


def _n_bytes(one: Bundle) -> int:
    graphs = (one.path / name for name in ("model.onnx", "encoder.onnx"))
    return sum(path.stat().st_size for path in graphs if path.exists())


def _latency(original: Bundle, made: Bundle) -> float:
    """The time of a run of `made` beside one of `original`: the median of pairs, batch 1."""
    inputs, valid, _ = _golden(original)
    x, mask = ({n: array[:1] for n, array in part.items()} for part in (inputs, valid))

    def once(one: Bundle) -> float:
        begin_s = time.perf_counter()
        read = {n: one.encoders[n].windows(x[n], mask[n]) for n in one.encoders} or x
        one.runtime.run(read, mask)
        return time.perf_counter() - begin_s

    pairs = [(once(original), once(made)) for _ in range(_N_TIMED)]
    return median(new / old for old, new in pairs[_N_TIMED // 8 :])


def _golden(one: Bundle) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """(inputs, masks, probabilities) of golden.npz."""
    with np.load(one.path / "golden.npz", allow_pickle=False) as kept:
        inputs = {name: kept[name] for name in one.inputs}
        return inputs, {n: kept[f"{n}.valid"] for n in inputs}, kept["probabilities"]


def _card(original: Bundle, gate: Gate) -> str:
    text = (original.path / "CARD.md").read_text(encoding="utf-8")
    said = (
        f"## Compression\n\nThe weights of {original.id} ({original.sha256[:12]}) as 8-bit "
        "integers, a scale per output channel; what flows between the layers is float32. "
        f"{gate.words}. The results above are the original's.\n\n"
    )
    head, limits, rest = text.partition("## Limits\n")
    return head + said + limits + rest if limits else f"{text.rstrip()}\n\n{said.rstrip()}\n"
