"""Faces in pictures: decoded, found, followed, and cut out as small squares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import BundleError, ConfigError, ResourceError
from engine.types import Array, Notes, StreamInfo

__all__ = ["DecodeJpeg", "FaceCrop"]

_SEARCH_PX = 320  # pictures are searched at most this large
# From a Haar box to the longer side of YuNet's: the medians over 144 faces that both had found.
_HAAR_SIDE, _HAAR_DOWN = 1.14, 0.025
_FORGET = 15  # pictures without a face before its id is given up
_NEAR = 0.6  # of the larger side: how far a face moves from one picture to the next


@dataclass(slots=True)
class _Face:
    """One face: its box in pixels, how sure the detector is, and who it is taken for."""

    x: float
    y: float
    width: float
    height: float
    score: float
    id: int = -1
    unseen: int = 0

    @property
    def side(self) -> float:
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


class DecodeJpeg:
    """JPEG files, as bytes, to pictures (height, width, 3), blue first, uint8.

    What cannot be decoded becomes a single black dot, and invalid. Items may differ in size, so
    they come out in an array of objects.
    """

    def __init__(self, info: StreamInfo) -> None:
        if info.unit != "jpeg":
            raise BundleError(f"decode_jpeg needs JPEG files; '{info.name}' has unit {info.unit!r}")
        self.info = replace(info, unit="level", shape=(0, 0, 3))
        self.ratio, self.delay_s = Fraction(1), 0.0
        self._last: tuple[Any, Array | None] = (None, None)

    def reset(self) -> None:
        """Nothing is remembered but the last picture, which would come out the same."""

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        """(time,) of bytes to (time,) of pictures; a repeated file is decoded once."""
        pictures, good = np.empty(len(x), object), valid.copy()
        for i, jpeg in enumerate(x):
            if jpeg is not self._last[0]:
                self._last = jpeg, _decoded(jpeg)
            picture = self._last[1]
            good[i] &= picture is not None
            pictures[i] = np.zeros((1, 1, 3), np.uint8) if picture is None else picture
        return pictures, good, {}


class FaceCrop:
    """The face of a picture as a grey square of `size` pixels; without one the item is invalid.

    `detector` is haar (OpenCV's frontal face), yunet (with `model`, the path of its ONNX file)
    or none: the whole picture, for films that show nothing but a face. The square is `margin`
    times the longer side of the box around its centre, its border replicated, its area averaged;
    a Haar box is first made like YuNet's, which the bundles are trained on. Faces are followed
    from picture to picture and keep their ids; cut out is the one that was `follow`ed, the
    largest at first, until it is gone. Faces smaller than `min_face` of the picture's shorter
    side do not count. Notes: `faces`, a list of {id, box: [x, y, width, height], score}, and
    `face`, the id of the one cut out.
    """

    def __init__(
        self,
        info: StreamInfo,
        *,
        size: int = 48,
        margin: float = 1.15,
        detector: str = "haar",
        model: str | None = None,
        min_face: float = 0.12,
        min_score: float = 0.7,
    ) -> None:
        if info.kind != "face" or len(info.shape) not in (0, 3):
            raise BundleError(f"face_crop needs pictures; '{info.name}' has items {info.shape}")
        if detector not in ("haar", "yunet", "none"):
            raise ConfigError(f"face_crop: detector {detector!r} is none of haar, yunet, none")
        if (detector == "yunet") != (model is not None):
            raise ConfigError(
                "face_crop: `model`, a path, goes with detector yunet, and only there"
            )
        if not 8 <= size <= 512 or not 0.5 <= margin <= 4 or not 0 < min_face <= 1:
            raise ConfigError(
                f"face_crop: size {size}, margin {margin:g}, min_face {min_face:g}: need 8 to "
                "512, 0.5 to 4, above 0 to 1"
            )
        self.info = replace(info, channels=("grey",), unit="crop", shape=(size, size, 1))
        self.ratio, self.delay_s = Fraction(1), 0.0
        self.noted = True
        self._size, self._margin, self._kind = size, margin, detector
        self._model, self._min_face, self._min_score = model, min_face, min_score
        self._detector: Any = None
        self.reset()

    def reset(self) -> None:
        """Forget who was there."""
        self._known: list[_Face] = []
        self._next_id = 0
        self._followed = -1
        self._last: tuple[Any, list[_Face]] = (None, [])

    def __call__(self, x: Array, valid: Array) -> tuple[Array, Array, Notes]:
        """(time, height, width, channels), or (time,) of pictures, to (time, size, size, 1)."""
        crops = np.zeros((len(x), self._size, self._size, 1), np.float32)
        there = np.zeros(len(x), bool)
        notes: dict[str, Any] = {}
        for i, picture in enumerate(x):
            faces = self._faces(picture) if valid[i] else []
            self._track(faces)
            chosen = self._choose(faces)
            notes = {
                "faces": [
                    {
                        "id": f.id,
                        "box": [round(v, 1) for v in (f.x, f.y, f.width, f.height)],
                        "score": round(f.score, 3),
                    }
                    for f in faces
                ],
                "face": None if chosen is None else chosen.id,
            }
            if chosen is not None:
                crops[i, :, :, 0] = self._cut(_grey(picture), chosen)
                there[i] = True
        return crops, there, notes

    def _faces(self, picture: Array) -> list[_Face]:
        """All faces in a picture; the same picture again is not searched again."""
        if self._last[0] is not None and self._last[0] is picture:
            return [replace(face, id=-1) for face in self._last[1]]
        height, width = picture.shape[:2]
        if self._kind == "none":
            found = [_Face(0.0, 0.0, float(width), float(height), 1.0)]
        else:
            found = self._detect(picture, min(1.0, _SEARCH_PX / max(height, width)))
            least = self._min_face * min(height, width)
            found = [face for face in found if face.side >= least]
        self._last = (picture, [replace(face) for face in found])
        return found

    def _detect(self, picture: Array, scale: float) -> list[_Face]:
        import cv2

        tall, wide = picture.shape[:2]
        size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
        if self._kind == "haar":
            small = cv2.resize(_grey(picture), size, interpolation=cv2.INTER_AREA)
            least = max(20, round(self._min_face * min(size)))
            boxes = _haar().detectMultiScale(small, 1.1, 5, minSize=(least, least))
            return [
                _like_yunet(x / scale, y / scale, side / scale)
                for x, y, side, _ in np.asarray(boxes, np.float64).reshape(-1, 4).tolist()
            ]
        colour = np.ascontiguousarray(picture, np.uint8)
        small = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        if self._detector is None:
            self._detector = _yunet(str(self._model), self._min_score)
        self._detector.setInputSize(size)
        rows = self._detector.detect(small)[1]
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        return [
            _Face(x / scale, y / scale, width / scale, height / scale, score)
            for x, y, width, height, score in rows[:, [0, 1, 2, 3, 14]].astype(float).tolist()
        ]

    def _track(self, faces: list[_Face]) -> None:
        """Give each face the id of the nearest known one, or a new id."""
        pairs = sorted(
            (_distance(known, face) / max(known.side, face.side), i, j)
            for i, known in enumerate(self._known)
            for j, face in enumerate(faces)
        )
        taken: set[int] = set()
        for far, i, j in pairs:
            if far <= _NEAR and i not in taken and faces[j].id < 0:
                taken.add(i)
                faces[j].id = self._known[i].id
        for face in sorted(faces, key=lambda f: (-f.side, f.x, f.y)):
            if face.id < 0:
                face.id = self._next_id
                self._next_id += 1
        unseen = [
            replace(known, unseen=known.unseen + 1)
            for i, known in enumerate(self._known)
            if i not in taken and known.unseen < _FORGET
        ]
        self._known = [*(replace(face) for face in faces), *unseen]

    def _choose(self, faces: list[_Face]) -> _Face | None:
        """The face that was followed; once it is gone for good, the largest."""
        for face in faces:
            if face.id == self._followed:
                return face
        if not faces or any(known.id == self._followed for known in self._known):
            return None
        largest = max(faces, key=lambda f: (f.side, -f.id))
        self._followed = largest.id
        return largest

    def _cut(self, grey: Array, face: _Face) -> Array:
        """The square around a face, (size, size) float32 from 0 to 255."""
        import cv2

        side = max(1, round(self._margin * face.side))
        x, y = (round(c - side / 2) for c in face.centre)
        height, width = grey.shape
        before_y, after_y = max(0, -y), max(0, y + side - height)
        before_x, after_x = max(0, -x), max(0, x + side - width)
        inner = grey[max(0, y) : y + side, max(0, x) : x + side]
        if not inner.size:
            return np.zeros((self._size, self._size), np.float32)
        if before_y or after_y or before_x or after_x:
            border = (before_y, after_y, before_x, after_x)
            inner = cv2.copyMakeBorder(inner, *border, cv2.BORDER_REPLICATE)
        cut = cv2.resize(inner, (self._size, self._size), interpolation=cv2.INTER_AREA)
        made: Array = cut.astype(np.float32)
        return made


def _decoded(jpeg: Any) -> Array | None:
    import cv2

    if not isinstance(jpeg, bytes) or not jpeg:
        return None
    picture: Array | None = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return picture


def _grey(picture: Array) -> Array:
    """(height, width) uint8 of a picture with 1 or 3 channels, blue first."""
    import cv2

    levels = picture if picture.dtype == np.uint8 else np.clip(picture, 0, 255).astype(np.uint8)
    if levels.ndim == 2:
        return levels
    if levels.shape[2] == 1:
        return levels[:, :, 0]
    grey: Array = cv2.cvtColor(np.ascontiguousarray(levels), cv2.COLOR_BGR2GRAY)
    return grey


def _like_yunet(x: float, y: float, width: float) -> _Face:
    """A Haar box, which is square, moved and resized to where YuNet sees the longer side."""
    side = _HAAR_SIDE * width
    left = x + (width - side) / 2
    return _Face(left, y + (width - side) / 2 + _HAAR_DOWN * width, side, side, 1.0)


def _distance(a: _Face, b: _Face) -> float:
    (ax, ay), (bx, by) = a.centre, b.centre
    return float(np.hypot(ax - bx, ay - by))


@lru_cache(maxsize=1)
def _haar() -> Any:
    import cv2

    cv2.setNumThreads(1)
    path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    return _made(lambda: cv2.CascadeClassifier(str(path)), path)


def _yunet(model: str, min_score: float) -> Any:
    import cv2

    cv2.setNumThreads(1)
    path = Path(model).expanduser()
    if not path.is_file():
        raise ResourceError(
            f"face_crop: {model}: no such file; YuNet's ONNX model comes from OpenCV's model zoo "
            "(face_detection_yunet), or use detector: haar"
        )
    return _made(
        lambda: cv2.FaceDetectorYN.create(str(path), "", (_SEARCH_PX, _SEARCH_PX), min_score), path
    )


def _made(make: Any, path: Path) -> Any:
    try:
        return make()
    except Exception as error:  # cv2.error, whatever was wrong with the file
        raise ResourceError(f"face_crop: {path}: is no detector: {error}") from error
