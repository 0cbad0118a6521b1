"""CREMA-D: 91 actors speak twelve sentences in six emotions (Cao et al. 2014).

Names are `1001_IEO_ANG_HI`: actor, sentence, the emotion that was asked for, and how strongly.
Some 2400 people said which emotion they hear, see, or both: `tabulatedVotes.csv` counts them,
`summaryTable.csv` has the winners. `VideoDemographics.csv` tells of the actors.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from engine.errors import DataError
from offline.datasets import Broken, LabelledRecording
from offline.datasets.clips import (
    AUDIO,
    VIDEO,
    Clip,
    broken_clips,
    labelled_clips,
    left_out_clips,
    nearby,
    speaker_folds,
)
from offline.labels import CODES
from offline.splits import Split

__all__ = ["LABELS", "LICENCE", "OPTIONS", "broken", "left_out", "official", "recordings"]

LABELS = tuple(CODES["crema-d"].values())
LICENCE = "ODbL 1.0"
# `media`: the sound (AudioWAV, AudioMP3) or the videos (VideoFlash); `label_source`: what was
# asked of the actor, or what most people heard, saw, or both
OPTIONS = {
    "media": ("audio", "video"),
    "label_source": ("intended", "voice_vote", "face_vote", "multimodal_vote"),
}
_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX|X)")
_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high"}
_SUFFIXES = {"audio": AUDIO, "video": VIDEO}
# HiCMAE (2024) leaves these out: no sound, or no picture, that could be used
_UNUSABLE = frozenset(("1076_MTI_NEU_XX", "1076_MTI_SAD_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD"))
_FIRST, _LAST, _EACH = 1001, 1091, 18  # actors; how many a fold of HiCMAE tests, the last one more
_VOTED = {code[0]: label for code, label in CODES["crema-d"].items()}  # A D F H N S
# Of a row in tabulatedVotes.csv the number tells what people were given: 1 and five digits the
# voice, 2 the face, 3 both. In summaryTable.csv it is a column.
_GIVEN = {"voice_vote": ("1", "voicevote"), "face_vote": ("2", "facevote")} | {
    "multimodal_vote": ("3", "multimodalvote")
}
_AGES = ((30, "under 30"), (45, "30 to 44"), (200, "45 and over"))
_Votes = Mapping[str, tuple[str, Mapping[str, float] | None]]  # {clip: (winners, shares)}


def recordings(
    root: str | Path, *, media: str = "audio", label_source: str = "intended"
) -> list[LabelledRecording]:
    """The clips below `root`, by actor; raises DataError if there is none, or no table of votes.

    Those whose votes are a tie are left out. Of sound that is there as WAV and MP3, the WAV.
    """
    suffixes = _SUFFIXES[media]
    told = {"media": media, "label_source": label_source}
    example = f"1001_IEO_ANG_HI{suffixes[0] if media == 'audio' else '.flv'}"
    parse = _parser(root, label_source)
    return labelled_clips(root, "crema-d", parse, example, suffixes, told)


def broken(root: str | Path) -> list[Broken]:
    """Damaged clips of both media, git-LFS pointers, and names whose code has no meaning."""
    parse = _parser(root, "intended")
    return [f for suffixes in _SUFFIXES.values() for f in broken_clips(root, parse, suffixes)]


def left_out(
    root: str | Path, *, media: str = "audio", label_source: str = "intended"
) -> list[Broken]:
    """The four clips that cannot be used, and those whose votes are a tie or missing."""
    return left_out_clips(root, _parser(root, label_source), _SUFFIXES[media])


def official(recordings: Sequence[LabelledRecording]) -> list[Split]:
    """HiCMAE's five folds, disjoint in actors: 1001 to 1018, and so on."""
    actors = [f"crema-d-{actor}" for actor in range(_FIRST, _LAST + 1)]
    edges = [*range(0, len(actors) - _EACH, _EACH), len(actors)]
    tests = [actors[a:b] for a, b in pairwise(edges)]
    return speaker_folds(recordings, "HiCMAE, 5 folds of actors", tests)


def _parser(root: str | Path, label_source: str) -> partial[Clip | None]:
    votes = None if label_source == "intended" else _votes(root, label_source)
    return partial(_parse, _people(root), votes)


def _parse(
    people: Mapping[str, Mapping[str, str]], votes: _Votes | None, path: Path
) -> Clip | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    actor, _, emotion, level = match.groups()
    if emotion not in CODES["crema-d"]:
        known = ", ".join(CODES["crema-d"])
        return Clip(actor, "", fault=f"the emotion {emotion} is none of {known}")
    groups = {**people.get(actor, {}), "intensity": _INTENSITIES.get(level, "unspecified")}
    if path.stem in _UNUSABLE:
        return Clip(actor, "", left_out="cannot be used: without sound or picture (HiCMAE)")
    if votes is None:
        return Clip(actor, CODES["crema-d"][emotion], groups)
    winners, shares = votes.get(path.stem, ("", None))
    if winners not in _VOTED:
        why = f"a tie of votes: {winners}" if ":" in winners else "nobody voted on it"
        return Clip(actor, "", left_out=why)
    return Clip(actor, _VOTED[winners], groups, soft=shares)


def _people(root: str | Path) -> dict[str, dict[str, str]]:
    """{actor: gender, age, race, ethnicity}, where the table of the actors is there."""
    return {
        row["actorid"]: {
            "gender": row["sex"][:1].lower(),
            "age": next(words for below, words in _AGES if int(row["age"]) < below),
            "race": row["race"],
            "ethnicity": row["ethnicity"],
        }
        for path in nearby(root, "VideoDemographics.csv")[:1]
        for _, row in _rows(path, "actorid", "age", "sex", "race", "ethnicity")
    }


def _votes(root: str | Path, label_source: str) -> dict[str, tuple[str, dict[str, float] | None]]:
    """{clip: (winners such as A or A:D, {label: share})}; DataError if a table is not there."""
    given, column = _GIVEN[label_source]
    summary = nearby(root, "summaryTable.csv", "processedResults/summaryTable.csv")
    if not summary:
        raise DataError(
            f"{root}: no summaryTable.csv in or near this folder; label_source {label_source} "
            "needs the folder processedResults of CREMA-D"
        )
    shares: dict[str, dict[str, float]] = {}
    for path in nearby(root, "tabulatedVotes.csv", "processedResults/tabulatedVotes.csv")[:1]:
        for number, row in _rows(path, "filename", *(letter.lower() for letter in _VOTED)):
            if number.startswith(given):
                counts = {label: float(row[letter.lower()]) for letter, label in _VOTED.items()}
                n = sum(counts.values())
                shares[row["filename"]] = {k: v / n for k, v in counts.items()} if n else {}
    return {
        row["filename"]: (row[column].strip().upper(), shares.get(row["filename"]) or None)
        for _, row in _rows(summary[0], "filename", column)
    }


def _rows(path: Path, *columns: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(the first field, {column in lower case: value}) of every row of a table."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [name.strip().lower() for name in next(reader, [])]
        if missing := [name for name in columns if name not in header]:
            raise DataError(f"{path}:1: no column {', '.join(missing)}; is the table whole?")
        for fields in reader:
            if len(fields) != len(header):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(fields)} fields; need {len(header)}"
                )
            yield fields[0].strip(), dict(zip(header, map(str.strip, fields), strict=True))
