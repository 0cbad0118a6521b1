"""Every network by its name: what each has to keep, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine import plugins
from engine.errors import ConfigError, DataError
from engine.networks.padding import PADDINGS, Padding
from engine.runtime_onnx import OnnxRuntime
from offline.export import to_onnx

N_LABELS = 3
BATCHES = (1, 2, 5)
SEQUENCE, FRAMES, STILL, CLIP = (13, 6), (22, 16), (1, 16, 16, 1), (3, 16, 16, 3)
Rows = tuple[dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """One network with arguments that keep it small."""

    name: str
    shape: tuple[int, ...]
    args: Mapping[str, Any] = field(default_factory=dict)
    inputs: int = 1

    @property
    def id(self) -> str:
        told = "-".join(f"{value}" for value in self.args.values() if isinstance(value, str))
        return "-".join(p for p in (self.name, told, f"{self.inputs}" * (self.inputs > 1)) if p)

    def network(self, **more: Any) -> Any:
        torch.manual_seed(5)
        shapes = {f"in{k}": self.shape for k in range(self.inputs)}
        args = {**self.args, **more}
        made: Any = plugins.load("vagus.networks", self.name)(shapes, N_LABELS, **args)
        return made

    def rows(self, n: int, n_time: int | None = None, seed: int = 0) -> Rows:
        """Values as they come in: garbage stands where they are invalid."""
        rng = np.random.default_rng(seed)
        n_time = n_time or self.shape[0]
        item = self.shape[1:]
        inputs, valid = {}, {}
        for k in range(self.inputs):
            x = 20.0 + 4.0 * rng.standard_normal((n, n_time, *item))
            inputs[f"in{k}"] = torch.from_numpy(x.astype(np.float32))
            mask = rng.random((n, n_time)) > 0.3
            mask[:, 0] = True
            valid[f"in{k}"] = torch.from_numpy(mask)
        return inputs, valid


BASE = (
    Case("dnn", SEQUENCE, {"hidden": [16, 8]}),
    Case("lstm", SEQUENCE, {"n_hidden": 12}),
    Case("gru", SEQUENCE, {"n_hidden": 12}),
    Case("bilstm", SEQUENCE, {"n_hidden": 12}),
    Case("cnn", SEQUENCE, {"channels": [8, 16]}),
    Case("cnn_lstm", SEQUENCE, {"channels": [8, 8], "n_hidden": 12}),
    Case("transformer", SEQUENCE, {"width": 16}),
    Case("eegnet", SEQUENCE, {"kernel": 8}),
    Case("speech_rnn", FRAMES, {"width": 12, "n_hidden": 12}),
    Case("speech_cnn", FRAMES, {"channels": [4, 8, 16]}),
    Case("facial_cnn", CLIP, {"width": 4}),
    Case("video", CLIP, {"width": 4, "n_hidden": 8}),
    Case("video_3d", CLIP, {"channels": [4, 8, 8]}),
)
MORE = (
    Case("lstm", SEQUENCE, {"n_hidden": 12, "pool": "last", "stem": 4}),
    Case("bilstm", SEQUENCE, {"n_hidden": 12, "pool": "last"}, inputs=2),
    Case("cnn", SEQUENCE, {"channels": [8, 16], "normalise": "window"}),
    Case("cnn", SEQUENCE, {"channels": [8, 16], "normalise": "none"}),
    Case("transformer", SEQUENCE, {"width": 16, "pool": "mean", "patch": 4}, inputs=2),
    Case("facial_cnn", STILL, {"width": 4}),
    Case("facial_cnn", STILL, {"width": 4, "encoder": "residual", "mirrored": True}),
    Case("video", CLIP, {"width": 4, "n_hidden": 8, "reader": "lstm"}),
    Case("video", CLIP, {"width": 4, "n_hidden": 8, "reader": "attention"}),
    Case("video", CLIP, {"width": 4, "n_hidden": 8, "reader": "transformer"}),
)
FILLED = tuple(
    Case("cnn", SEQUENCE, {"channels": [8, 16], "padding": padding})
    for padding in PADDINGS
    if padding != "mask"
)
ALL = (*BASE, *MORE)
SETTLING = [case for case in BASE if "video" not in case.name and "facial" not in case.name]
QUICK = ("dnn", "lstm", "cnn", "transformer", "eegnet", "facial_cnn", "video_3d")
# the graphs that differ: padding and normalisation are the same in front of any network
GRAPHS = [c for c in (*ALL, *FILLED) if c.args.get("normalise") != "none" and c.id not in
          ("video-lstm", "cnn-zero", "cnn-average")]  # fmt: skip
each = pytest.mark.parametrize("case", ALL, ids=lambda case: str(case.id))


def served(case: Case) -> Any:
    """As after some training: no statistics are 0 or 1, and other windows have other logits."""
    network = case.network(dropout=0.0)
    rows = case.rows(40, seed=9)
    if hasattr(network, "settle"):
        network.settle(*rows)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network(*rows)
        layer, before = network.layer, network.eval()(*rows)
        layer.weight /= before.std(0).mean()
        layer.bias -= network(*rows).mean(0)
    return network


def logits(network: Any, rows: Rows) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network(*rows)
    return found


@each
def test_a_network_that_is_served_says_the_same_twice(case: Case) -> None:
    network, rows = served(case), case.rows(3)
    first = logits(network, rows)
    assert first.shape == (3, N_LABELS)
    assert first.std(0).min() > 0.05  # a network that is dead would keep every law here
    assert torch.equal(logits(network, rows), first)


@each
def test_equal_seeds_begin_with_equal_weights(case: Case) -> None:
    for one, other in zip(case.network().parameters(), case.network().parameters(), strict=True):
        assert torch.equal(one, other)


@each
def test_one_batch_is_learnt_by_heart_and_every_parameter_takes_part(case: Case) -> None:
    network = case.network(dropout=0.0).train()
    inputs, valid = case.rows(6)
    labels = torch.arange(6) % N_LABELS
    for x in inputs.values():  # a level that says which, beside the noise
        x[:, :, ..., 0] += 8.0 * labels.reshape(-1, *[1] * (x.dim() - 2))
    if hasattr(network, "settle"):
        network.settle(inputs, valid)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for step in range(60):
        loss = nn.functional.cross_entropy(network(inputs, valid), labels)
        extra = getattr(network, "extra_loss", None)
        optimiser.zero_grad()
        (loss if extra is None else loss + extra).backward()
        if step == 0:
            still = [n for n, p in network.named_parameters() if p.grad is None]
            assert not still
            assert not [n for n, p in network.named_parameters() if not p.grad.any()]
        optimiser.step()
        if loss.item() < 0.05:
            break
    assert loss.item() < 0.05


@each
@pytest.mark.parametrize("short", [0.4, 0.9])
def test_a_padded_window_has_the_logits_of_the_unpadded_one(case: Case, short: float) -> None:
    n_time = max(1, round(short * case.shape[0]))
    network, (inputs, valid) = served(case), case.rows(4, n_time)
    pad = case.shape[0] - n_time
    padded = {n: torch.cat((x, 7.0 + 0.0 * x[:, :1].repeat_interleave(pad, 1)), 1)
              for n, x in inputs.items()}  # fmt: skip
    masks = {n: torch.cat((m, torch.zeros(4, pad, dtype=torch.bool)), 1) for n, m in valid.items()}
    torch.testing.assert_close(
        logits(network, (padded, masks)), logits(network, (inputs, valid)), atol=1e-5, rtol=1e-5
    )


@each
def test_what_stands_in_invalid_items_does_not_matter(case: Case) -> None:
    network, (inputs, valid) = served(case), case.rows(4)
    other = {
        name: torch.where(valid[name].reshape(*x.shape[:2], *[1] * (x.dim() - 2)), x, 3.0 * x + 99)
        for name, x in inputs.items()
    }
    assert torch.equal(logits(network, (other, valid)), logits(network, (inputs, valid)))


@each
def test_a_window_without_any_valid_item_gives_finite_logits(case: Case) -> None:
    inputs, valid = case.rows(2)
    nothing = {name: torch.zeros_like(mask) for name, mask in valid.items()}
    assert logits(served(case), (inputs, nothing)).isfinite().all()


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] * (c.id not in QUICK)) for c in GRAPHS],
    ids=lambda case: str(case.id),
)
def test_the_graph_gives_what_torch_gives_and_the_same_bits_in_any_batch(case: Case) -> None:
    network, (inputs, valid) = served(case), case.rows(20, seed=1)
    for mask in valid.values():
        mask[:6, 3:] = False
        mask[6] = False
    x, masks = ({n: a.numpy() for n, a in part.items()} for part in (inputs, valid))
    runtime = OnnxRuntime(to_onnx(network, x, masks, 1.5), (*BATCHES, 20))
    whole = runtime.run(x, masks)
    expected = torch.softmax(logits(network, (inputs, valid)) / 1.5, 1).numpy()
    assert np.abs(whole - expected).max() < 1e-5
    for size in BATCHES:
        for at in range(0, 20, size):
            part = slice(at, at + size)
            found = runtime.run({n: a[part] for n, a in x.items()},
                                {n: a[part] for n, a in masks.items()})  # fmt: skip
            assert np.array_equal(found, whole[part]), f"row {at} in a batch of {size}"


@pytest.mark.parametrize(
    ("name", "shape", "n_labels", "args", "thousands"),
    [
        ("dnn", (310,), 5, {}, 293),
        ("lstm", (60, 310), 5, {}, 226),
        ("cnn", (60, 310), 5, {}, 141),
        ("cnn_lstm", (60, 310), 5, {}, 106),
        ("lstm", (128, 40), 2, {}, 87),
        ("gru", (128, 40), 2, {}, 66),
        ("bilstm", (128, 40), 2, {}, 175),
        ("transformer", (60, 310), 5, {}, 87),
        ("eegnet", (512, 32), 2, {}, 2),
        ("speech_rnn", (300, 64), 8, {}, 96),
        ("speech_cnn", (300, 64), 8, {}, 98),
        ("facial_cnn", (1, 48, 48, 1), 7, {}, 295),
        ("facial_cnn", (1, 48, 48, 1), 7, {"width": 32}, 1174),
        ("facial_cnn", (1, 48, 48, 1), 7, {"encoder": "resnet18"}, 11174),
        ("video", (8, 64, 64, 3), 6, {}, 386),
        ("video", (8, 112, 112, 3), 6, {"encoder": "resnet18"}, 11368),
        ("video_3d", (8, 64, 64, 3), 6, {}, 293),
    ],
)
def test_a_network_is_as_large_as_it_says(
    name: str, shape: tuple[int, ...], n_labels: int, args: dict[str, Any], thousands: int
) -> None:
    network = plugins.load("vagus.networks", name)({"x": shape}, n_labels, **args)
    assert round(sum(p.numel() for p in network.parameters()) / 1000) == thousands


WRONG = [
    ("dnn", {}, "features"),
    *((name, {"x": (12,)}, r"sequences \(time, features\)") for name in
      ("lstm", "gru", "bilstm", "cnn", "cnn_lstm", "transformer", "eegnet")),
    *((name, {"bvp": (64, 1), "eda": (4, 1)}, "differ in length: bvp .*64.* eda .*4")
      for name in ("lstm", "cnn_lstm", "transformer")),
    *((name, {"a": (8, 4), "b": (8, 4)}, r"one input of frames \(time, bins\)")
      for name in ("speech_rnn", "speech_cnn")),
    *((name, {"x": (48, 48)}, r"pictures \(time, height, width, channels\)")
      for name in ("facial_cnn", "video", "video_3d")),
    ("facial_cnn", {"x": (1, 8, 48, 1)}, "16 x 16 or more; those of x are 8 x 48"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shapes", "told"), WRONG)
def test_shapes_that_do_not_fit_are_refused_with_what_is_needed(
    name: str, shapes: dict[str, tuple[int, ...]], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        plugins.load("vagus.networks", name)(shapes, 2)
    assert str(refused.value).startswith(name)


@pytest.mark.parametrize(
    ("name", "shape", "args", "told"),
    [
        ("dnn", SEQUENCE, {"hidden": []}, "hidden must be"),
        ("lstm", SEQUENCE, {"pool": "max"}, "pool must be one of mean, last, not 'max'"),
        ("gru", SEQUENCE, {"stem": 0}, "stem must be 1 or more, not 0"),
        ("bilstm", SEQUENCE, {"padding": "ones"}, "padding must be one of mask, zero, average"),
        ("cnn", SEQUENCE, {"normalise": "all"}, "normalise must be one of training, window, none"),
        ("cnn", SEQUENCE, {"channels": []}, "channels must be"),
        ("cnn_lstm", SEQUENCE, {"kernel": 4}, "kernel must be odd"),
        ("transformer", SEQUENCE, {"width": 30}, "width must be even and divide by n_heads"),
        ("eegnet", SEQUENCE, {"kernel": 0}, "kernel must be 1 or more"),
        ("speech_rnn", FRAMES, {"n_hidden": 0}, "n_hidden must be 1 or more"),
        ("speech_cnn", (40, 4), {}, "at most 2 for 4 bins"),
        ("facial_cnn", STILL, {"encoder": "vgg"}, "encoder must be one of small, resnet18"),
        ("facial_cnn", STILL, {"width": 0}, "width must be 1 or more"),
        ("video", CLIP, {"reader": "mean"}, "reader must be one of bilstm, lstm, attention"),
        ("video", CLIP, {"reconstruction": 0.0}, "reconstruction must be more than 0"),
        ("video", CLIP, {"reader": "transformer", "n_hidden": 6}, "n_hidden must divide by 4"),
        ("video_3d", CLIP, {"channels": [2] * 5}, "channels must be 1 to 4"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    name: str, shape: tuple[int, ...], args: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*{told}"):
        plugins.load("vagus.networks", name)({"x": shape}, 2, **args)


# Padding


def _padded() -> tuple[Tensor, Tensor]:
    x = torch.tensor([[90.0, 1.0, 92.0, 5.0, 94.0], [90.0, 91.0, 92.0, 93.0, 94.0]])
    valid = torch.tensor([[False, True, False, True, False], [False] * 5])
    return x.unsqueeze(2), valid


@pytest.mark.parametrize(
    ("how", "filled", "without_any"),
    [
        ("zero", [0, 1, 0, 5, 0], [0] * 5),
        ("average", [8, 1, 8, 5, 8], [8] * 5),
        ("own_average", [3, 1, 3, 5, 3], [0] * 5),
        ("edge", [1, 1, 1, 5, 5], [0] * 5),
    ],
)
def test_padding_fills_what_is_invalid_and_calls_it_valid(
    how: str, filled: list[float], without_any: list[float]
) -> None:
    padding = Padding("lstm", how, 1)
    padding.padding_mean.fill_(8.0)
    x, valid = padding(*_padded())
    torch.testing.assert_close(x.squeeze(2), torch.tensor([filled, without_any]).float())
    assert valid.all()


def test_masked_padding_changes_nothing() -> None:
    x, valid = Padding("lstm", "mask", 1)(*_padded())
    assert torch.equal(x, _padded()[0])
    assert torch.equal(valid, _padded()[1])


@pytest.mark.parametrize("case", FILLED, ids=lambda case: str(case.id))
def test_padding_that_counts_gives_other_logits_than_none(case: Case) -> None:
    filled, masked = served(case), served(Case(case.name, case.shape, {"channels": [8, 16]}))
    rows = case.rows(4)
    rows[1]["in0"][:, 9:] = False
    assert not torch.allclose(logits(filled, rows), logits(masked, rows), atol=1e-3)


# Scales


@pytest.mark.parametrize("case", SETTLING, ids=lambda case: str(case.id))
def test_scales_are_those_of_the_valid_items_of_the_training_part(case: Case) -> None:
    network, (inputs, valid) = case.network(), case.rows(300)
    (x,), (mask,) = inputs.values(), valid.values()
    x[..., 0] = 3.0  # constant: nothing to divide by
    network.settle(inputs, valid)
    state, known = network.state_dict(), x[mask].double()
    mean = next(v for n, v in state.items() if n.endswith("0.mean"))
    scale = next(v for n, v in state.items() if n.endswith("0.scale"))
    filling = next(v for n, v in state.items() if n.endswith("padding_mean"))
    torch.testing.assert_close(mean.double(), known.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(scale[1:].double(), known.std(0, False)[1:], rtol=1e-5, atol=0)
    assert scale[0] == 1.0
    assert torch.equal(filling, mean)


def test_the_unit_of_an_input_does_not_matter_once_scales_are_settled() -> None:
    case = BASE[1]
    inputs, valid = case.rows(8)
    found = []
    for factor in (1.0, 1e-6):
        network, told = case.network().eval(), {n: x * factor for n, x in inputs.items()}
        network.settle(told, valid)
        found.append(logits(network, (told, valid)))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_a_training_part_without_a_valid_item_is_refused() -> None:
    inputs, valid = BASE[1].rows(3)
    with pytest.raises(DataError, match="no item of the input 'in0' is valid"):
        BASE[1].network().settle(inputs, {"in0": torch.zeros_like(valid["in0"])})


def test_the_linear_network_settles_its_scales_too() -> None:
    network = plugins.load("vagus.networks", "linear")({"x": (4,)}, 2)
    x = torch.randn(50, 4) * 3.0 + 1.0
    network.settle({"x": x}, {})
    torch.testing.assert_close(network.mean, x.mean(0))
    torch.testing.assert_close(network.scale, x.std(0, False))


def test_dense_layers_read_features_and_windows_side_by_side() -> None:
    network = plugins.load("vagus.networks", "dnn")({"power": (7,), "eda": (4, 2)}, 2).eval()
    inputs = {"power": torch.randn(3, 7), "eda": torch.randn(3, 4, 2)}
    masks = {"power": torch.ones(3, 99).bool(), "eda": torch.ones(3, 4).bool()}
    network.settle(inputs, masks)
    assert logits(network, (inputs, masks)).shape == (3, 2)


# Pictures

ENCODING = [case for case in ALL if case.name in ("facial_cnn", "video")]


@pytest.mark.parametrize("case", ENCODING, ids=lambda case: str(case.id))
def test_frames_that_are_encoded_once_and_read_later_give_the_same_logits(case: Case) -> None:
    network, (inputs, valid) = served(case), case.rows(3)
    frames = inputs["in0"]
    with torch.inference_mode():
        embeddings = network.encode(frames.flatten(0, 1)).reshape(3, case.shape[0], -1)
        read = network.read(embeddings, valid["in0"])
        one = network.encode(frames[1, :1])
    assert torch.equal(read, logits(network, (inputs, valid)))
    torch.testing.assert_close(one[0], embeddings[1, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["facial_cnn", "video", "video_3d"])
def test_neither_light_nor_contrast_of_a_picture_matters(name: str) -> None:
    case = next(c for c in BASE if c.name == name)
    network, (inputs, valid) = served(case), case.rows(3)
    other = {"in0": inputs["in0"] * 2.0 + 30.0}
    torch.testing.assert_close(
        logits(network, (other, valid)), logits(network, (inputs, valid)), atol=1e-3, rtol=1e-3
    )


def test_the_autoencoders_loss_is_that_of_the_last_forward_in_training() -> None:
    case = next(c for c in BASE if c.name == "video")
    network, rows = case.network(), case.rows(2)
    logits(network.eval(), rows)
    assert network.extra_loss is None
    network.train()(*rows)
    assert network.extra_loss is not None
    assert network.extra_loss > 0
    network.eval()
    assert network.extra_loss is None


def test_a_resnet_reads_stills() -> None:
    network = plugins.load("vagus.networks", "facial_cnn")(
        {"face": (1, 48, 48, 1)}, 7, encoder="resnet18"
    )
    rows = {"face": torch.rand(2, 1, 48, 48, 1)}, {"face": torch.ones(2, 1, dtype=torch.bool)}
    assert logits(network.eval(), rows).shape == (2, 7)
