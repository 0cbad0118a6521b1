"""A convolutional network over face stills, or over the frames of a clip, one by one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from engine.networks.demands import picture_shape
from engine.networks.masked import Dense, mean_over_valid
from engine.networks.pictures import Encoder

__all__ = ["Facial"]


class Facial(nn.Module):
    """Pictures (time, height, width, channels) to the mean of their embeddings, to logits.

    A still is a window of one picture. 295 k parameters for grey pictures, 7 labels and `width`
    16; 1.17 M for 32; 11.2 M with the encoder `resnet18`, which has a width of its own; 223 k with
    `residual`. With `mirrored` an embedding, once trained, is the mean of a picture's and of its
    mirror image's, so that left and right do not count.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_labels: int,
        *,
        encoder: str = "small",
        width: int = 16,
        dropout: float = 0.3,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        self._name, item = picture_shape("facial_cnn", shapes)
        self._mirrored = mirrored
        self.encoder = Encoder("facial_cnn", encoder, item[-1], width)
        self.dropout = nn.Dropout(dropout)
        self.layer = Dense(self.encoder.width, n_labels)

    def forward(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """{input: (batch, time, height, width, channels)}, {input: (batch, time)} -> logits."""
        frames = inputs[self._name]
        embeddings = self.encode(frames.flatten(0, 1))
        clips = embeddings.reshape(-1, frames.shape[1], embeddings.shape[1])
        return self.read(clips, valid[self._name])

    def encode(self, frames: Tensor) -> Tensor:
        """(n, height, width, channels) to embeddings (n, width), each picture by itself."""
        found: Tensor = self.encoder(frames)
        if self._mirrored and not self.training:
            found = 0.5 * (found + self.encoder(frames.flip(2)))
        return found

    def read(self, embeddings: Tensor, valid: Tensor) -> Tensor:
        """(batch, time, width), (batch, time) bool -> (batch, labels)."""
        mask = valid.to(embeddings.dtype)
        pooled = mean_over_valid((embeddings * mask.unsqueeze(2)).transpose(1, 2), mask)
        logits: Tensor = self.layer(self.dropout(pooled))
        return logits
