"""The notice for the people observed: who, what is measured, inferred and kept, and their rights.

Emotion recognition has to be told to those it watches: Regulation (EU) 2024/1689 (AI Act),
Article 50(3); what else a notice says follows Regulation (EU) 2016/679 (GDPR), Article 13.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.config.model import Config
from engine.config.purpose import observing
from engine.config.settings import StreamConfig

if TYPE_CHECKING:
    from engine.bundle import Bundle
    from engine.plan import SessionPlan

__all__ = ["notice"]

_MEASURED = {
    "eeg": "electrical signals of your brain (EEG)",
    "physio": "signals of your body, such as pulse and skin conductance",
    "voice": "the sound of your voice",
    "face": "pictures of your face",
    "marker": "when something happens, as other programs mark it",
}
_SOURCES = {
    "lsl": "the Lab Streaming Layer (sensors that are worn, programs that mark)",
    "microphone": "a microphone",
    "camera": "a camera",
    "browser": "the microphone or camera of your browser, after you allowed it",
}
_KINDS = {"microphone": "voice", "camera": "face"}  # what those sources measure without a bundle
_FOR = {"art": "an artwork", "personal": "personal use"}
_FILES = {"jsonl": "path", "table": "path"}  # sinks that write files, and the key that says where


def notice(config: Config, plan: SessionPlan) -> str:
    """The notice that belongs to `config`, as Markdown; `plan` is what it resolves to.

    What the config does not say is a [placeholder] to be filled in.
    """
    parts = [
        "# You are being observed by a system that recognises emotions",
        _who(config),
        "## What is measured\n\n" + "\n".join(_measured(config, plan)),
        "## What is inferred, and how far that can be trusted\n\n" + _inferred(plan),
        "## What is stored, and for how long\n\n" + "\n".join(_stored(config)),
        "## Your rights\n\n" + _rights(config),
    ]
    return "\n\n".join(parts) + "\n"


def _who(config: Config) -> str:
    told = config.notice
    purpose = config.purpose or "[purpose]"
    basis = f" ({config.basis} reasons)" if config.basis else ""
    return (
        f"Responsible: {told.controller or '[name and address of whoever is responsible]'}  \n"
        f"Contact: {told.contact or '[e-mail or telephone]'}  \n"
        f"Purpose: {_FOR.get(purpose, purpose)}{basis}  \n"
        f"Session: {config.session}"
    )


def _measured(config: Config, plan: SessionPlan) -> Iterator[str]:
    live = set(observing(stream.source.type for stream in config.streams.values()))
    for name, stream in config.streams.items():
        if stream.source.type in live:
            what = _MEASURED.get(_kind(stream, plan.streams[name].bundle), "signals")
            by = _SOURCES.get(stream.source.type, f"the device '{stream.source.type}'")
            yield f"- {what}, by {by}"
    if not live:
        yield "- nobody now: all streams are recorded or simulated"


def _kind(stream: StreamConfig, bundle: Bundle | None) -> str:
    if bundle is None:
        told = stream.source.args.get("kind")
        return told if isinstance(told, str) else _KINDS.get(stream.source.type, "")
    return next(iter(bundle.inputs.values())).kind


def _inferred(plan: SessionPlan) -> str:
    bundles = {s.bundle.id: s.bundle for s in plan.streams.values() if s.bundle is not None}
    if not bundles:
        return "Nothing: the signals are shown or recorded, no emotion is inferred."
    lines = [_limits(bundle) for bundle in bundles.values()]
    return (
        f"A computer estimates, every {plan.hop_s:g} s:\n\n" + "\n".join(lines) + "\n\n"
        "These are probabilities, not facts. What a face, a voice or a body shows is not the same "
        "as what a person feels; the estimate is often wrong, and more often for people who are "
        "unlike those it was trained on. No decision about you may rest on it alone."
    )


def _limits(bundle: Bundle) -> str:
    shown = "what is felt" if bundle.felt_or_expressed == "felt" else "what is expressed"
    line = f"- {shown}, as one of: {', '.join(bundle.labels)}"
    right = bundle.metrics.get("uar")
    if not isinstance(right, float):
        return f"{line} (model {bundle.id}, of unknown accuracy)"
    return (
        f"{line} (model {bundle.id}: on people it had not seen it was right in {100 * right:.0f} % "
        f"of the cases, each label counting alike; chance is {100 / len(bundle.labels):.0f} %)"
    )


def _stored(config: Config) -> Iterator[str]:
    files = [s for s in config.sinks if s.type in _FILES and _FILES[s.type] in s.args]
    recording = config.recording
    if recording is None and not files:
        yield "- nothing: estimates are shown and sent on, no file is written"
        return
    if recording is not None:
        what = "the signals themselves and the estimates" if recording.raw else (
            "the estimates with their times; not the signals themselves"
        )  # fmt: skip
        yield f"- in a recording: {what}"
    if files:
        yield f"- in {len(files)} further file{'s'[: len(files) > 1]}: the estimates"
    days = config.retention_days
    yield f"- deleted after {'[number]' if days is None else days} day{'s'[: days != 1]}"


def _rights(config: Config) -> str:
    told = config.notice
    return (
        "You may refuse, and stop at any time, without giving a reason and without disadvantage. "
        "You may ask to see, correct, take with you or have deleted what is stored about you, "
        "object to its use, and complain to a data protection authority. "
        f"Turn to: {told.contact or '[e-mail or telephone]'}"
    )
