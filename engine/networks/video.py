"""Clips of pictures: a frame encoder, an autoencoder's bottleneck, and a reader of the sequence."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.networks.demands import need_at_least, need_one_of, picture_shape
from engine.networks.masked import Dense, mean_over_valid
from engine.networks.pictures import Encoder
from engine.networks.recurrent import Recurrence
from engine.networks.transformer import Layers

__all__ = ["READERS", "Video"]

READERS = ("bilstm", "lstm", "attention", "transformer")
_BETWEEN = 128  # units between an embedding and the bottleneck
_FAR_BELOW = -1e4
_HEADS = 4


class Video(nn.Module):
    """Pictures (time, height, width, channels), encoded one by one, to logits of the clip.

    Embeddings pass the narrow middle of an autoencoder (d-128-`bottleneck`-128-d), whose mean
    squared error over valid frames, times `reconstruction`, is left in `extra_loss` by a forward
    in training. `reader` then reads the sequence: an LSTM in one or both directions or a small
    transformer, and the mean over valid frames, or additive attention (Bahdanau et al. 2015)
    over the frames alone. 386 k parameters for colour and 6 labels, 11.4 M with `resnet18`.
    """

    extra_loss: Tensor | None

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        encoder: str = "small",
        width: int = 16,
        bottleneck: int = 32,
        reader: str = "bilstm",
        n_hidden: int = 64,
        dropout: float = 0.3,
        reconstruction: float = 0.1,
    ) -> None:
        super().__init__()
        self._name, item = picture_shape("video", shapes)
        need_one_of("video", "reader", reader, READERS)
        need_at_least("video", 1, bottleneck=bottleneck, n_hidden=n_hidden)
        if not reconstruction > 0:
            raise ConfigError(f"video: reconstruction must be more than 0, not {reconstruction:g}")
        self._reconstruction = reconstruction
        self.extra_loss = None
        self.encoder = Encoder("video", encoder, item[-1], width)
        self.squeeze = _two_layers(self.encoder.width, bottleneck)
        self.rebuild = _two_layers(bottleneck, self.encoder.width)
        self.reader = _Reader(reader, bottleneck, n_hidden, dropout)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(self.reader.width, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, height, width, channels)}, {input: (batch, time)} -> logits."""
        frames = inputs[self._name]
        embeddings = self.encode(frames.flatten(0, 1))
        clips = embeddings.reshape(-1, frames.shape[1], embeddings.shape[1])
        return self.read(clips, valid[self._name])

    def encode(self, frames: Tensor) -> Tensor:
        """(n, height, width, channels) to embeddings (n, width), each picture by itself."""
        found: Tensor = self.encoder(frames)
        return found

    def read(self, embeddings: Tensor, valid: Tensor) -> Tensor:
        """(batch, time, width), (batch, time) bool -> (batch, labels)."""
        mask = valid.to(embeddings.dtype)
        x = (embeddings * mask.unsqueeze(2)).transpose(1, 2)  # (batch, width, time)
        narrow = self.squeeze(x)
        if self.training:
            # the target is held: else the encoder could make itself easy to rebuild
            wrong = (self.rebuild(narrow) - x.detach()).square() * mask.unsqueeze(1)
            self.extra_loss = self._reconstruction * (
                wrong.sum() / (mask.sum().clamp(min=1) * x.shape[1])
            )
        pooled = self.reader((narrow * mask.unsqueeze(1)).transpose(1, 2), mask)
        logits: Tensor = self.layer(self.dropout(pooled))
        return logits

    def train(self, mode: bool = True) -> Video:
        """As every module; the loss of a forward that was before is forgotten."""
        self.extra_loss = None
        return super().train(mode)


class _Reader(nn.Module):
    """(batch, time, features) and (batch, time) to one vector (batch, width) per window."""

    def __init__(self, kind: str, n_features: int, n_hidden: int, dropout: float) -> None:
        super().__init__()
        self._kind = kind
        self.width = n_features if kind == "attention" else n_hidden
        if kind == "attention":
            self.hidden = Dense(n_features, n_hidden)
            self.score = Dense(n_hidden, 1, bias=False)
        elif kind == "transformer":
            if n_hidden % _HEADS:
                raise ConfigError(
                    f"video: a transformer's n_hidden must divide by {_HEADS}, not {n_hidden}"
                )
            self.enter = Dense(n_features, n_hidden)
            self.layers = Layers(n_hidden, _HEADS, 1, dropout)
        else:
            self.recurrence = Recurrence(n_features, n_hidden, both=kind == "bilstm")
            self.width = self.recurrence.width

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self._kind == "attention":
            return self._attend(x.transpose(1, 2), mask.unsqueeze(1))
        if self._kind == "transformer":
            items = self.layers(self.enter(x.transpose(1, 2)).transpose(1, 2), mask)
        else:
            items = self.recurrence(x, mask)
        return mean_over_valid((items * mask.unsqueeze(2)).transpose(1, 2), mask)

    def _attend(self, x: Tensor, there: Tensor) -> Tensor:
        score = self.score(torch.tanh(self.hidden(x)))  # (batch, 1, time)
        weight = torch.softmax(score * there + _FAR_BELOW * (1.0 - there), 2) * there
        return mean_over_valid(x * weight * x.shape[2], torch.ones_like(there.squeeze(1)))


def _two_layers(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(Dense(n_in, _BETWEEN), nn.ReLU(), Dense(_BETWEEN, n_out))
