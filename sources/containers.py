"""Whether a video file is all there: what its container says of its own length."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["shortfall"]

_FLV_TAGS = (8, 9, 18)  # sound, picture, metadata


def shortfall(path: Path) -> str:
    """What a file promises and does not hold, or nothing.

    Decoders take a shorter file for what is there. Told apart are MP4 and MOV (ISO 14496-12),
    FLV (Adobe 2010) and AVI (RIFF); of others nothing is said.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:3] == b"FLV":
            end = _flv_end(file, n_bytes)
        elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            end = 8 + struct.unpack("<I", head[4:8])[0]
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            end = _boxes_end(file, n_bytes)
        else:
            end = n_bytes
    return f"promises {end} bytes, there are {n_bytes}" if end > n_bytes else ""


def _boxes_end(file: BinaryIO, n_bytes: int) -> int:
    """Where the last box of an MP4 file ends: (length, kind, content), or a length of 64 bits."""
    at = 0
    while at + 8 <= n_bytes:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1 and len(more := file.read(8)) == 8:
            (length,) = struct.unpack(">Q", more)
        if length < 8 or not kind.isascii():  # up to the end of the file, or no box
            return n_bytes
        at += length
    return at


def _flv_end(file: BinaryIO, n_bytes: int) -> int:
    """Where the last tag of an FLV file ends: (kind, length, 7 bytes, content, 4 bytes)."""
    file.seek(5)
    at = struct.unpack(">I", file.read(4))[0] + 4
    while at + 11 <= n_bytes:
        file.seek(at)
        word = struct.unpack(">I", file.read(4))[0]
        if word >> 24 not in _FLV_TAGS:
            return n_bytes
        at += 15 + (word & 0xFFFFFF)
    if at < n_bytes:  # the beginning of a tag
        return int(at + 11)
    return int(max(at - 4, n_bytes))  # some writers leave out the last 4 bytes
