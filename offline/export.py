"""From a trained network to a bundle: its graph in ONNX, golden values, the card."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from engine import bundle
from engine.bundle import Bundle
from engine.errors import BundleError, ConfigError
from engine.runtime_onnx import OnnxRuntime
from engine.types import Array

__all__ = ["OPSET", "export", "to_onnx"]

OPSET = 18
_LIMIT = bundle.GOLDEN_LIMIT
_EXAMPLES = 2  # the exporter takes a batch of 1 for a constant


class _Served(nn.Module):
    """The network as it is served: softmax(logits / temperature) of flat arguments.

    Arguments are the inputs, then their masks, in the order of `names`.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], temperature: float) -> None:
        super().__init__()
        self.network, self._names, self._temperature = network, tuple(names), temperature

    def forward(self, *arrays: Tensor) -> Tensor:
        n = len(self._names)
        inputs = dict(zip(self._names, arrays[:n], strict=True))
        valid = dict(zip(self._names, arrays[n:], strict=True))
        return torch.softmax(self.network(inputs, valid) / self._temperature, -1)


def export(
    path: Path,
    network: nn.Module,
    description: Mapping[str, Any],
    inputs: Mapping[str, Array],
    valid: Mapping[str, Array],
    card: str,
) -> Bundle:
    """Write `network` as a bundle at `path`, and load it from there.

    `description` is bundle.json without format and hashes. `inputs` {input: (rows, ...)} float32
    and `valid` {input: (rows, time)} become the golden values, computed by the graph in
    onnxruntime and held against torch. Raises BundleError where the two differ by over 1e-4.
    """
    temperature = float(description["temperature"])
    model = to_onnx(network, inputs, valid, temperature)
    found = OnnxRuntime(model, description["batch_sizes"]).run(inputs, valid)
    served = _Served(network.eval(), list(inputs), temperature)
    with torch.inference_mode():
        expected = served(*_flat(inputs, valid, len(found))).numpy()
    off = float(np.abs(found - expected).max())
    if not off <= _LIMIT:
        raise BundleError(
            f"{path}: the exported graph is off the trained network by {off:.3g}; "
            f"the limit is {_LIMIT:g}"
        )
    golden = {**inputs, **{f"{n}.valid": valid[n] for n in inputs}, "probabilities": found}
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    bundle.save(
        path,
        description,
        weights=to_safetensors(weights),
        model=model,
        golden=golden,
        card=card,
    )
    return Bundle.load(path)


def to_onnx(
    network: nn.Module,
    inputs: Mapping[str, Array],
    valid: Mapping[str, Array],
    temperature: float,
) -> bytes:
    """The graph of softmax(logits / temperature), with any batch size; equal calls, equal bytes.

    Inputs are called as in `inputs`, and `<input>.valid` the masks that the network looks at.
    """
    if len(next(iter(inputs.values()))) < _EXAMPLES:
        raise ConfigError(f"export needs {_EXAMPLES} or more example rows")
    names = list(inputs)
    arguments = _flat(inputs, valid, _EXAMPLES)
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            _Served(network.eval(), names, temperature),
            arguments,
            input_names=[*names, *(f"{name}.valid" for name in names)],
            output_names=["probabilities"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(tuple({0: batch} for _ in arguments),),
            external_data=False,
        )
    assert program is not None
    model = program.model_proto
    _tidy(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _flat(
    inputs: Mapping[str, Array], valid: Mapping[str, Array], n_rows: int
) -> tuple[Tensor, ...]:
    rows = [*inputs.values(), *(valid[name] for name in inputs)]
    return tuple(torch.from_numpy(np.ascontiguousarray(array[:n_rows])) for array in rows)


def _tidy(model: onnx.ModelProto) -> None:
    """Drop inputs that no node reads, and the exporter's notes: they name files of this machine."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    for unread in [i for i in graph.input if i.name not in read]:
        graph.input.remove(unread)
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    model.doc_string = graph.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's running commentary; what fails raises all the same."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
