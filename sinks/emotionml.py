"""Predictions as EmotionML 1.0 (W3C 2014): one <emotion> per prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from xml.sax.saxutils import escape, quoteattr

from engine.types import Prediction
from engine.version import __version__

__all__ = ["emotionml"]

_NAMESPACE = "http://www.w3.org/2009/10/emotionml"
_PAD = "http://www.w3.org/TR/emotion-voc/xml#pad-dimensions"
_BIG6 = "http://www.w3.org/TR/emotion-voc/xml#big6"
_BIG6_NAMES = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprise": "surprise",
}
_OWN = "vagus"
_PAD_NAMES = {"valence": "pleasure", "arousal": "arousal", "dominance": "dominance"}


def emotionml(predictions: Iterable[Prediction], labels: Iterable[str]) -> Iterator[str]:
    """The lines of a document of `predictions` over `labels`.

    Where all labels are among the six of the vocabulary `big6`, its names are used, else the
    document defines its own vocabulary with the canonical labels. Times are Unix milliseconds
    where the wall clock is known, else left out; the confidence of a category is its probability.
    Scales are [0, 1], as EmotionML asks.
    """
    names = tuple(labels)
    six = all(name in _BIG6_NAMES for name in names)
    words = _BIG6_NAMES if six else {name: name for name in names}
    categories = _BIG6 if six else f"#{_OWN}"
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<emotionml version="1.0" xmlns="{_NAMESPACE}" category-set={quoteattr(categories)} '
        f'dimension-set="{_PAD}">'
    )
    yield f"  <info><generator>vagus {escape(__version__)}</generator></info>"
    if not six:
        yield f'  <vocabulary type="category" id="{_OWN}">'
        yield from (f"    <item name={quoteattr(name)}/>" for name in names)
        yield "  </vocabulary>"
    for prediction in predictions:
        if prediction.probabilities is not None:
            yield from _emotion(prediction, words)
    yield "</emotionml>"


def _emotion(prediction: Prediction, words: Mapping[str, str]) -> Iterator[str]:
    at = ""
    if prediction.t_wall is not None:
        at = f' start="{round(1e3 * prediction.t_wall)}"'
    yield f'  <emotion id="p{prediction.seq}"{at}>'
    for label, p in (prediction.probabilities or {}).items():
        name = quoteattr(words.get(label, label))
        yield f'    <category name={name} value="{p:.6f}" confidence="{p:.6f}"/>'
    for name, value in (prediction.dimensions or {}).items():
        if name in _PAD_NAMES:
            yield f'    <dimension name="{_PAD_NAMES[name]}" value="{value:.6f}"/>'
    yield "  </emotion>"
