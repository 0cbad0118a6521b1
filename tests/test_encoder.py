"""Encode once: a frame goes through its encoder alone, and the window's network reads the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from engine.bundle import Bundle
from engine.encoder import Encode, FrameEncoder
from engine.errors import BundleError, ConfigError
from engine.networks.masked import mean_over_time
from engine.plan import SessionPlan, StreamPlan, Tick
from engine.player import Player
from engine.types import Array, Chunk, StreamInfo
from offline.export import export
from tests.bundles import describe
from tests.streams import recut

SIZE, WIDTH, N_ITEMS, RATE_HZ = 12, 8, 16, 15.0
CROPS = StreamInfo("face", "face", RATE_HZ, ("grey",), "crop", (SIZE, SIZE, 1))


class Faces(nn.Module):
    """Small convolutions per frame, and a masked mean of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 4, 3, 2, 1)
        self.merge = nn.Linear(4 * (SIZE // 4) ** 2, WIDTH)
        self.layer = nn.Linear(WIDTH, 3)

    def encode(self, frames: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.convolution(frames.permute(0, 3, 1, 2) / 255)))
        return torch.relu(self.merge(torch.relu(self.second(x)).flatten(1)))

    def read(self, embeddings: Tensor, valid: Tensor) -> Tensor:
        mask = valid.to(embeddings.dtype).unsqueeze(1)
        share = mean_over_time(mask).clamp(min=1e-3)
        mean = mean_over_time(embeddings.transpose(1, 2) * mask) / share
        logits: Tensor = self.layer(mean.squeeze(2))
        return logits

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        ((name, windows),) = inputs.items()
        embeddings = self.encode(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        return self.read(embeddings, valid[name])


def network() -> Faces:
    torch.manual_seed(0)
    made = Faces().eval()
    made.norm.running_mean.uniform_(-0.1, 0.1)  # type: ignore[operator]
    return made


def told() -> dict[str, Any]:
    spec = {
        "kind": "face", "rate_hz": RATE_HZ, "channels": ["grey"], "unit": "crop",
        "window_s": N_ITEMS / RATE_HZ, "min_filled_s": 4 / RATE_HZ,
    }  # fmt: skip
    inputs = {"face": spec}
    return describe(()) | {"labels": ["a", "b", "c"], "inputs": inputs, "hop_s": 4 / RATE_HZ}


def frames(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE, 1)).astype(np.float32)


def rows() -> tuple[dict[str, Array], dict[str, Array]]:
    x = frames(3 * N_ITEMS).reshape(3, N_ITEMS, SIZE, SIZE, 1)
    valid = np.ones((3, N_ITEMS), bool)
    valid[1, 5:9] = valid[2, 4:] = False
    return {"face": x}, {"face": valid}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tmp_path_factory.mktemp("made") / "faces", network(), told(), *rows(), "# f\n")


def test_the_two_graphs_together_are_the_network(bundle: Bundle) -> None:
    (inputs, valid), made = rows(), network()
    expected = torch.softmax(made({"face": torch.from_numpy(inputs["face"])},
                                  {"face": torch.from_numpy(valid["face"])}), 1)  # fmt: skip
    flat = bundle.encoders["face"](inputs["face"].reshape(-1, SIZE, SIZE, 1), valid["face"].ravel())
    p = bundle.runtime.run({"face": flat.reshape(3, N_ITEMS, WIDTH)}, valid)
    np.testing.assert_allclose(p, expected.detach().numpy(), atol=1e-5)
    with np.load(bundle.path / "golden.npz") as golden:
        assert golden["face"].shape == (3, N_ITEMS, SIZE, SIZE, 1)
        assert np.array_equal(golden["probabilities"], p)
    assert set(load_file(bundle.path / "weights.safetensors")) == set(made.state_dict())


def test_a_frames_embedding_has_the_same_bits_whatever_comes_with_it(bundle: Bundle) -> None:
    encoder, x = bundle.encoders["face"], frames(64)
    valid = np.random.default_rng(1).random(64) > 0.2
    whole = encoder(x, valid)
    assert not whole[~valid].any()
    assert whole[valid].any(1).all()
    for size in (1, 3, 16):
        parts = [encoder(x[i : i + size], valid[i : i + size]) for i in range(0, 64, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    backward = np.ascontiguousarray(x[::-1])[::-1]
    assert encoder(backward, valid).tobytes() == whole.tobytes()
    step = Encode(CROPS, encoder)
    data, marks, _ = step(x[:0], valid[:0])
    assert (data.shape, marks.shape, step.info.shape) == ((0, WIDTH), (0,), (WIDTH,))


def play(bundle: Bundle, chunks: list[Chunk]) -> tuple[list[Any], list[bytes]]:
    """Predictions, and the windows of embeddings they were made from."""
    windows: list[bytes] = []

    def look(tick: Tick) -> None:
        for request in tick.requests:
            windows.append(request.windows["face"].data.tobytes())

    player = Player(SessionPlan("p", "r", {"face": StreamPlan(bundle)}, hop_s=bundle.hop_s),
                    on_tick=look)  # fmt: skip
    player.command("connect", stream="face", info=CROPS)
    return [m for m in player.play(chunks) if m.kind == "prediction"], windows


def test_a_session_encodes_each_frame_once_and_gives_the_same_bits_for_any_cut(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = frames(90)
    x[30:33] = np.nan
    chunks = [Chunk("face", 0, 0, ((0, 0.0),), x)]
    n_encoded = 0
    run = FrameEncoder.__call__

    def counted(self: FrameEncoder, part: Array, valid: Array) -> Array:
        nonlocal n_encoded
        n_encoded += int(valid.sum())
        return run(self, part, valid)

    monkeypatch.setattr(FrameEncoder, "__call__", counted)
    once = play(bundle, chunks)
    assert n_encoded == 87
    assert sum(p.label is not None for p in once[0]) > 15
    for size in (1, 7, 40):
        assert play(bundle, recut(chunks, size)) == once


def test_predictions_are_those_of_the_network_on_whole_windows_of_frames(bundle: Bundle) -> None:
    x, made = frames(60), network()
    for p in play(bundle, [Chunk("face", 0, 0, ((0, 0.0),), x)])[0]:
        about = p.modalities["face"]
        if p.probabilities is None or about["filled"] < 1:
            continue
        window = torch.from_numpy(x[about["first"] : about["last"] + 1][None])
        logits = made({"face": window}, {"face": torch.ones(1, N_ITEMS, dtype=torch.bool)})
        expected = torch.softmax(logits, 1).detach().numpy()[0]
        np.testing.assert_allclose(list(p.probabilities.values()), expected, atol=1e-5)


def test_frames_of_another_size_are_refused(bundle: Bundle) -> None:
    wide = StreamInfo("face", "face", RATE_HZ, ("grey",), "crop", (SIZE, SIZE + 1, 1))
    player = Player(SessionPlan("p", "r", {"face": StreamPlan(bundle)}, hop_s=bundle.hop_s))
    with pytest.raises(BundleError, match=r"reads frames of the shape \(12, 12, 1\); those of"):
        player.command("connect", stream="face", info=wide)


def changed(bundle: Bundle, path: Path, **changes: Any) -> Path:
    """A copy of the bundle whose bundle.json says something else, sealed again."""
    from engine.manifest import seal

    shutil.copytree(bundle.path, path)
    text = json.loads((path / "bundle.json").read_text()) | changes | {"sha256": "0" * 64}
    raw = json.dumps(text).encode()
    (path / "bundle.json").write_bytes(raw.replace(b"0" * 64, seal(raw).encode(), 1))
    return path


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"input": "voice", "width": WIDTH}, "encoder: no input is called 'voice'"),
        ({"input": "face", "width": WIDTH + 1}, r"embeddings of \[8\]; the bundle says 9"),
        (None, "golden|graph"),
    ],
)
def test_an_encoder_that_does_not_fit_its_bundle_is_refused(
    bundle: Bundle, tmp_path: Path, encoder: Any, said: str
) -> None:
    with pytest.raises(BundleError, match=said):
        Bundle.load(changed(bundle, tmp_path / "b", encoder=encoder))


def test_a_damaged_encoder_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = changed(bundle, tmp_path / "b")
    raw = (path / "encoder.onnx").read_bytes()
    (path / "encoder.onnx").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"encoder\.onnx: its SHA-256 does not match"):
        Bundle.load(path)


def test_a_network_that_reads_otherwise_than_it_encodes_is_not_written(tmp_path: Path) -> None:
    class Unmasked(Faces):
        def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
            return super().forward(inputs, {n: torch.ones_like(v) for n, v in valid.items()})

    torch.manual_seed(0)
    with pytest.raises(BundleError, match=r"off the trained network by .* the limit is 1e-05"):
        export(tmp_path / "b", Unmasked().eval(), told(), *rows(), "")
    (inputs, valid) = rows()
    two = ({"face": inputs["face"], "other": inputs["face"]}, valid | {"other": valid["face"]})
    with pytest.raises(ConfigError, match="an encoder reads one input; the network has face, ot"):
        export(tmp_path / "b", network(), told(), *two, "")
