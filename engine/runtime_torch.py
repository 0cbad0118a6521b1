"""The torch runtime: a bundle's network and weights; on a GPU one CUDA graph per batch size."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from engine import plugins
from engine.encoder import FrameEncoder
from engine.errors import BundleError, ConfigError, InferenceError, ResourceError
from engine.manifest import DAMAGED, describe
from engine.types import Array

__all__ = ["TorchRuntime", "load_network", "torch_runtime", "window_shapes"]

_SUM_LIMIT = 1e-3  # how far the probabilities of a row may be from a sum of 1
_SCALE = ".scale"  # behind the name of weights that are kept as int8, one scale per output
_WARM_UPS = 3  # before a capture: libraries choose their kernels and take their memory
_WEIGHTS = "weights.safetensors"


class _Bundle(Protocol):
    """What is needed of a bundle."""

    @property
    def path(self) -> Path: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def inputs(self) -> Mapping[str, object]: ...
    @property
    def network(self) -> Mapping[str, Any]: ...
    @property
    def temperature(self) -> float: ...
    @property
    def batch_sizes(self) -> Sequence[int]: ...
    @property
    def encoders(self) -> Mapping[str, FrameEncoder]: ...


class TorchRuntime:
    """Runs `network` on batches padded to the sizes that are listed, as `OnnxRuntime` does.

    `shapes` {input: shape of a row} and `times` {input: items of a mask}. With `read` a network
    that has an encoder reads windows of embeddings. On "cpu" it is called eagerly; on "cuda" each
    batch size is captured once and replayed: one launch instead of one per layer, with pinned
    staging on the host and buffers that never move on the device. A row's last bits may depend on
    the batch there. Raises ResourceError for a GPU that is not there.
    """

    def __init__(
        self,
        network: nn.Module,
        shapes: Mapping[str, tuple[int, ...]],
        times: Mapping[str, int],
        temperature: float = 1.0,
        batch_sizes: Sequence[int] = (1,),
        device: str = "cpu",
        *,
        read: bool = False,
    ) -> None:
        self.device = _device(device)
        self.batch_sizes = tuple(sorted(set(batch_sizes)))
        self.inputs, self.masked = tuple(shapes), tuple(times)
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._temperature, self._read = temperature, read
        largest, pinned = self.batch_sizes[-1], self.device.type == "cuda"
        self._x = {n: torch.zeros(largest, *s, pin_memory=pinned) for n, s in shapes.items()}
        self._valid = {
            n: torch.zeros(largest, t, dtype=torch.bool, pin_memory=pinned)
            for n, t in times.items()
        }
        self._run: Callable[[int], Tensor] = self._eager
        if pinned:
            self._run = _Graphs(self._probabilities, self._x, self._valid, self.batch_sizes)

    def run(self, inputs: Mapping[str, Array], valid: Mapping[str, Array]) -> Array:
        """(batch, ...) per input and (batch, time) masks -> (batch, labels) probabilities.

        A batch beyond the largest size is run in parts. Raises InferenceError if the network
        fails or gives what is no probability.
        """
        n, largest = len(inputs[self.inputs[0]]), self.batch_sizes[-1]
        parts = [
            self._part(inputs, valid, i, min(largest, n - i)) for i in range(0, max(n, 1), largest)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def launch_eagerly(self) -> None:
        """From now on launch layer by layer on a GPU, too: what a graph is measured against."""
        self._run = self._eager

    def _part(
        self, inputs: Mapping[str, Array], valid: Mapping[str, Array], at: int, n: int
    ) -> Array:
        """Run `n` rows from `at` on, with rows of zeros behind."""
        size = next(s for s in self.batch_sizes if s >= n)
        for staging, given in ((self._x, inputs), (self._valid, valid)):
            for name, buffer in staging.items():
                rows = np.asarray(given[name])[at : at + n]
                if rows.shape[1:] != tuple(buffer.shape[1:]):
                    raise InferenceError(
                        f"the network failed: {name} has rows of {rows.shape[1:]}; it reads "
                        f"{tuple(buffer.shape[1:])}"
                    )
                buffer.numpy()[:n] = rows
                buffer[n:size] = 0
        try:
            out: Array = self._run(size)[:n].numpy().copy()
        except (RuntimeError, IndexError, KeyError) as error:
            raise InferenceError(f"the network failed: {error}") from error
        total = np.add.reduce(out, axis=None)  # one pass: NaN and infinity do not add up to n
        if not abs(total - n) <= _SUM_LIMIT * n:
            raise InferenceError(
                f"the network gave what is no probability: the rows sum up to {total / max(n, 1):g}"
            )
        return out

    def _eager(self, size: int) -> Tensor:
        with torch.inference_mode():
            return self._probabilities(
                {name: x[:size].to(self.device) for name, x in self._x.items()},
                {name: mask[:size].to(self.device) for name, mask in self._valid.items()},
            ).cpu()

    def _probabilities(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        if self._read:
            ((name, embeddings),) = inputs.items()
            network: Any = self._network
            logits: Tensor = network.read(embeddings, valid[name])
        else:
            logits = self._network(inputs, valid)
        return torch.softmax(logits / self._temperature, -1)


class _Graphs:
    """One CUDA graph per batch size, over the same buffers: call with a size that is listed."""

    def __init__(
        self,
        compute: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor],
        x: Mapping[str, Tensor],
        valid: Mapping[str, Tensor],
        sizes: Sequence[int],
    ) -> None:
        self._staged = [*x.values(), *valid.values()]
        self._x = {name: torch.zeros_like(array, device="cuda") for name, array in x.items()}
        self._valid = {name: torch.zeros_like(mask, device="cuda") for name, mask in valid.items()}
        self._there = [*self._x.values(), *self._valid.values()]
        self._compute = compute
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._made = {size: self._capture(size) for size in reversed(sizes)}  # the largest first

    @torch.inference_mode()
    def _capture(self, size: int) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """(graph, what it writes, the same pinned on the host)."""
        x = {name: array[:size] for name, array in self._x.items()}
        valid = {name: mask[:size] for name, mask in self._valid.items()}
        graph = torch.cuda.CUDAGraph()
        # In TF32 a convolution is off by 1e-3: too much to give the CPU's probabilities.
        with torch.backends.cudnn.flags(allow_tf32=False), torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                self._compute(x, valid)
            self._stream.synchronize()
            # A bundle may be loaded beside a loop whose own thread keeps the GPU busy.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                out = self._compute(x, valid)
        host = torch.empty(out.shape, dtype=out.dtype, pin_memory=True)
        return graph, out, host

    @torch.inference_mode()
    def __call__(self, size: int) -> Tensor:
        """The rows that are staged, through: (size, labels) on the host."""
        graph, out, host = self._made[size]
        with torch.cuda.stream(self._stream):
            for there, staged in zip(self._there, self._staged, strict=True):
                there[:size].copy_(staged[:size], non_blocking=True)
            graph.replay()
            host.copy_(out, non_blocking=True)
        self._stream.synchronize()
        return host


def torch_runtime(bundle: _Bundle, device: str = "cpu") -> TorchRuntime:
    """The network of `bundle` on `device`, to run in place of its graph.

    Where it has an encoder of frames this stays as it is, and torch reads the embeddings. Raises
    BundleError where weights and network do not fit.
    """
    shapes, times = window_shapes(bundle)
    for name, encoder in bundle.encoders.items():
        shapes[name] = (times[name], encoder.width)
    return TorchRuntime(
        load_network(bundle), shapes, times, bundle.temperature, bundle.batch_sizes, device,
        read=bool(bundle.encoders),
    )  # fmt: skip


def load_network(bundle: _Bundle) -> nn.Module:
    """The network of `bundle` by its entry point, with its weights, in eval mode on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path, told = bundle.path / _WEIGHTS, bundle.path / "bundle.json"
    try:
        contents, text = path.read_bytes(), told.read_bytes()
    except OSError as error:
        raise BundleError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(contents).hexdigest() != describe(told, text).files[_WEIGHTS]:
        raise BundleError(f"{path}: its SHA-256 does not match bundle.json; {DAMAGED}")
    shapes, _ = window_shapes(bundle)
    try:
        factory = plugins.load("vagus.networks", str(bundle.network.get("name")))
        args = bundle.network.get("args", {})
        network: nn.Module = factory(shapes, len(bundle.labels), **args)
        network.load_state_dict(_dequantised(load(contents)))
    except (ConfigError, RuntimeError, TypeError, SafetensorError) as error:
        raise BundleError(f"{path}: does not fit the network of the bundle: {error}") from error
    return network.eval()


def window_shapes(bundle: _Bundle) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """{input: shape of a row} that the whole network reads, and {input: items of its mask}."""
    path = bundle.path / "golden.npz"
    found, times = {}, {}
    try:
        with np.load(path, allow_pickle=False) as golden:
            for name in bundle.inputs:
                found[name] = tuple(golden[name].shape[1:])
                times[name] = int(prod(golden[f"{name}.valid"].shape[1:]))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: cannot be read: {error}") from error
    return found, times


def _dequantised(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights kept as int8 times their scale, along the first axis; the others as they are."""
    made: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        scale = weights.get(name + _SCALE)
        if tensor.dtype == torch.int8 and scale is not None:
            made[name] = tensor.float() * scale.reshape(-1, *[1] * (tensor.dim() - 1))
        elif not (name.endswith(_SCALE) and name.removesuffix(_SCALE) in weights):
            made[name] = tensor
    return made


def _device(name: str) -> torch.device:
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device: {name!r} is none of cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("device: cuda: this machine has no GPU that torch can use; take cpu")
    return torch.device(name)
