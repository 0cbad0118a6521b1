"""From a trained network to a bundle: its graph in ONNX, golden values, the card."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from engine import bundle
from engine.bundle import Bundle
from engine.encoder import FrameEncoder
from engine.errors import BundleError, ConfigError
from engine.runtime_onnx import OnnxRuntime
from engine.types import Array

__all__ = ["OPSET", "export", "to_onnx", "to_two_onnx"]

OPSET = 18
_LIMIT = bundle.GOLDEN_LIMIT
_LIMIT_OF_TWO = 1e-5  # of an encoder and what reads it, against the whole network
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


class _Encoding(nn.Module):
    """The part of a network that sees one frame at a time."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *frames: Tensor) -> Tensor:
        embeddings: Tensor = self.network.encode(*frames)
        return embeddings


class _Reading(nn.Module):
    """The part of a network that reads a window of embeddings of its one input."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        ((name, embeddings),) = inputs.items()
        logits: Tensor = self.network.read(embeddings, valid[name])
        return logits


@dataclass(frozen=True, slots=True)
class _Graphs:
    """A network's graphs, and what they say to the example rows."""

    model: bytes
    found: Array
    encoder: bytes | None = None
    about: Mapping[str, Any] = field(default_factory=dict)  # for bundle.json
    limit: float = _LIMIT


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
    onnxruntime and held against torch. A network with `encode` and `read` becomes two graphs, so
    that serving encodes each frame once. Raises BundleError where graphs and network differ by
    over 1e-4, or 1e-5 for two graphs.
    """
    temperature = float(description["temperature"])
    sizes = description["batch_sizes"]
    in_two = hasattr(network, "encode") and hasattr(network, "read")
    graphs = (_two_graphs if in_two else _one_graph)(network, inputs, valid, temperature, sizes)
    served = _Served(network.eval(), list(inputs), temperature)
    with torch.inference_mode():
        expected = served(*_flat(inputs, valid, len(graphs.found))).numpy()
    off = float(np.abs(graphs.found - expected).max())
    if not off <= graphs.limit:
        raise BundleError(
            f"{path}: the exported graph is off the trained network by {off:.3g}; "
            f"the limit is {graphs.limit:g}"
        )
    golden = {**inputs, **{f"{n}.valid": valid[n] for n in inputs}, "probabilities": graphs.found}
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    bundle.save(
        path,
        {**description, **graphs.about},
        weights=to_safetensors(weights),
        model=graphs.model,
        golden=golden,
        card=card,
        encoder=graphs.encoder,
    )
    return Bundle.load(path)


def _one_graph(
    network: nn.Module,
    inputs: Mapping[str, Array],
    valid: Mapping[str, Array],
    temperature: float,
    batch_sizes: Sequence[int],
) -> _Graphs:
    model = to_onnx(network, inputs, valid, temperature)
    return _Graphs(model, OnnxRuntime(model, batch_sizes).run(inputs, valid))


def _two_graphs(
    network: nn.Module,
    inputs: Mapping[str, Array],
    valid: Mapping[str, Array],
    temperature: float,
    batch_sizes: Sequence[int],
) -> _Graphs:
    encoder, model, width = to_two_onnx(network, inputs, valid, temperature)
    embeddings = _encoded(FrameEncoder(encoder, width), inputs, valid)
    found = OnnxRuntime(model, batch_sizes).run(embeddings, valid)
    about = {"encoder": {"input": next(iter(inputs)), "width": width}}
    return _Graphs(model, found, encoder, about, _LIMIT_OF_TWO)


def to_two_onnx(
    network: nn.Module,
    inputs: Mapping[str, Array],
    valid: Mapping[str, Array],
    temperature: float,
) -> tuple[bytes, bytes, int]:
    """The encoder of frames (n, *frame), the graph of windows of embeddings, and their width."""
    if len(inputs) != 1:
        raise ConfigError(f"an encoder reads one input; the network has {', '.join(inputs)}")
    windows = next(iter(inputs.values()))
    example = torch.from_numpy(np.ascontiguousarray(windows[0, :_EXAMPLES]))
    encoder = _graph(_Encoding(network.eval()), (example,), ["frames"], "embeddings")
    width = int(network.encode(example).shape[1])  # type: ignore[operator]
    embeddings = _encoded(FrameEncoder(encoder, width), inputs, valid)
    return encoder, to_onnx(_Reading(network), embeddings, valid, temperature), width


def _encoded(
    encoder: FrameEncoder, inputs: Mapping[str, Array], valid: Mapping[str, Array]
) -> dict[str, Array]:
    """{input: (rows, time, *frame)} and its mask to {input: (rows, time, width)}."""
    ((name, windows),) = inputs.items()
    return {name: encoder.windows(windows, valid[name])}


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
    return _graph(
        _Served(network.eval(), names, temperature),
        _flat(inputs, valid, _EXAMPLES),
        [*names, *(f"{name}.valid" for name in names)],
        "probabilities",
    )


def _graph(
    module: nn.Module, arguments: tuple[Tensor, ...], names: Sequence[str], output: str
) -> bytes:
    """The ONNX file of `module`, whose `forward` takes `*arguments`, with any batch size."""
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            module,
            arguments,
            input_names=list(names),
            output_names=[output],
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
