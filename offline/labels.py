"""What each data set's own codes mean: the one registry of canonical labels.

Data sets of the same emotions number them in different orders; a code is therefore never a
position. Sources: the data sets' documents, as `docs` and the readers name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from engine.errors import DataError
from engine.plugins import nearest

__all__ = ["CANONICAL", "CODES", "EMOTIONS", "canonical", "canonical_label"]

EMOTIONS = (
    *("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise", "contempt"),
)
CANONICAL = (
    *EMOTIONS,
    *("rest", "task", "baseline", "stress"),
    *("valence-low", "valence-high", "arousal-low", "arousal-high"),
    *("hvha", "hvla", "lvha", "lvla"),
)


def _numbered(*labels: str, first: int = 0, width: int = 1) -> dict[str, str]:
    return {f"{code:0{width}d}": label for code, label in enumerate(labels, first)}


_CODES: dict[str, dict[str, str]] = {
    # ratings cut at a threshold: v and a are valence and arousal, h and l high and low
    "deap": {
        "lv": "valence-low",
        "hv": "valence-high",
        "la": "arousal-low",
        "ha": "arousal-high",
        **{quadrant: quadrant for quadrant in ("hvha", "hvla", "lvha", "lvla")},
    },
    "seed-v": _numbered("disgust", "fear", "sad", "neutral", "happy"),
    "ravdess": _numbered(
        *("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise"),
        first=1,
        width=2,
    ),
    "crema-d": {
        "ANG": "angry",
        "DIS": "disgust",
        "FEA": "fear",
        "HAP": "happy",
        "NEU": "neutral",
        "SAD": "sad",
    },
    "savee": {
        "a": "angry",
        "d": "disgust",
        "f": "fear",
        "h": "happy",
        "n": "neutral",
        "sa": "sad",
        "su": "surprise",
    },
    "emodb": {
        "N": "neutral",
        "F": "happy",  # Freude
        "T": "sad",  # Trauer
        "W": "angry",  # Wut
        "A": "fear",  # Angst
        "E": "disgust",  # Ekel
    },
    "nemo": {
        "neutral": "neutral",
        "happiness": "happy",
        "sadness": "sad",
        "anger": "angry",
        "fear": "fear",
        "surprised": "surprise",
    },
    # the csv of 48x48 crops; the original release has another order
    "ck-plus": _numbered(
        *("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"),
    ),
    "fer2013": _numbered("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
    # the columns of votes; `unknown` and `NF`, no face, are no emotions
    "ferplus": {
        "neutral": "neutral",
        "happiness": "happy",
        "surprise": "surprise",
        "sadness": "sad",
        "anger": "angry",
        "disgust": "disgust",
        "fear": "fear",
        "contempt": "contempt",
    },
    # 8 none, 9 uncertain, 10 no face: no labels
    "affectnet": _numbered(
        *("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
    ),
    "eegmat": _numbered("rest", "task", first=1),
    "stress-predict": _numbered("baseline", "stress"),
    "faces": {
        label: label
        for label in ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
    },
}
CODES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {dataset: MappingProxyType(codes) for dataset, codes in _CODES.items()}
)


def canonical(dataset: str, code: str) -> str:
    """The canonical label of a data set's own `code`; raises DataError for one without meaning."""
    codes = CODES[dataset]
    if code not in codes:
        raise DataError(f"the code {code!r} of {dataset} is none of {', '.join(codes)}")
    return codes[code]


def canonical_label(label: str) -> str:
    """`label` itself if it is canonical; raises DataError that names the nearest one if not."""
    if label not in CANONICAL:
        hint = nearest(label, CANONICAL) or f"; known: {', '.join(CANONICAL)}"
        raise DataError(f"'{label}' is no canonical label{hint}")
    return label
