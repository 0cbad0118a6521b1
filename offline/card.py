"""The model card that travels in a bundle: data, protocol, figures, limits, licence, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["card"]

_NAMED = 100  # subjects; more are counted only


def card(
    description: Mapping[str, Any], evaluation: Mapping[str, Any], limits: Sequence[str]
) -> str:
    """CARD.md of the bundle `description` (bundle.json).

    `evaluation` is what `vagus evaluate --json` prints, on subjects that training never saw.
    """
    parts = [
        f"# {description['id']}",
        _purpose(description),
        f"## Data\n\n{description['data']} Licence: {description['licence']}. Trained on "
        f"{_subjects(description['seen_subjects'])}.",
        f"## Signal\n\n{_signal(description)}",
        f"## Protocol\n\n{evaluation['protocol']}",
        f"## Results\n\n{_results(evaluation)}",
        f"### Confusion\n\n{_confusion(evaluation['labels'], evaluation['confusion'])}",
        f"### Groups\n\n{_groups(evaluation.get('per_group', {}))}",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits),
    ]
    return "\n\n".join(parts) + "\n"


def _purpose(description: Mapping[str, Any]) -> str:
    labels = ", ".join(description["labels"])
    induced = description["felt_or_expressed"] == "felt"
    what = "a state that was induced" if induced else "an expression that was shown"
    return (
        f"Tells {labels} apart ({description['vocabulary']}): {what}. "
        f"Network: {description['network']['name']}. A prediction every "
        f"{description['hop_s']:g} s; below a probability of {description['abstain_below']:g} "
        "it gives no label."
    )


def _subjects(seen: Sequence[str]) -> str:
    what = f"{len(seen)} subjects"
    return f"{what}: {', '.join(seen)}" if len(seen) <= _NAMED else f"{what}, named in bundle.json"


def _signal(description: Mapping[str, Any]) -> str:
    lines = []
    for name, spec in description["inputs"].items():
        steps = ", ".join(_entry(s) for s in spec["steps"]) or "none"
        features = ", ".join(_entry(f) for f in spec["features"]) or "none: the window itself"
        lines.append(
            f"- `{name}`: {spec['kind']}, {len(spec['channels'])} channels "
            f"({', '.join(spec['channels'])}) in {spec['unit']} at {spec['rate_hz']:g} Hz; "
            f"windows of {spec['window_s']:g} s. Steps: {steps}. Features: {features}."
        )
    return "\n".join(lines)


def _entry(spec: Mapping[str, Any]) -> str:
    args = ", ".join(f"{key} {_value(value)}" for key, value in spec.items() if key != "name")
    return f"{spec['name']} ({args})" if args else str(spec["name"])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "-".join(_value(inner) for inner in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _results(evaluation: Mapping[str, Any]) -> str:
    low, high = evaluation["uar_ci95"]
    return (
        f"Unweighted average recall **{evaluation['uar']:.3f}**, 95 % interval {low:.3f} to "
        f"{high:.3f} (bootstrap over {len(evaluation['subjects'])} subjects), chance "
        f"{1 / len(evaluation['labels']):.3f}. Accuracy {evaluation['accuracy']:.3f}, where always "
        f"saying the most frequent label has {evaluation['majority']:.3f}. Macro F1 "
        f"{evaluation['macro_f1']:.3f}, expected calibration error {evaluation['ece']:.3f}. "
        f"Unit: {evaluation['unit']}, {evaluation['n']} of them."
    )


def _confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    rows = [
        f"| truth \\ predicted | {' | '.join(labels)} | recall |",
        "|---" * (len(labels) + 2) + "|",
    ]
    for i, (label, row) in enumerate(zip(labels, counts, strict=True)):
        share = f"{row[i] / sum(row):.3f}" if sum(row) else "none"
        rows.append(f"| {label} | {' | '.join(str(n) for n in row)} | {share} |")
    return "\n".join(rows)


def _groups(per_group: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    rows = [
        f"| {group} | {value} | {told['n']} | {told['uar']:.3f} | {told['accuracy']:.3f} |"
        for group, values in per_group.items()
        for value, told in values.items()
    ]
    if not rows:
        return "The data names no groups: differences between groups of people were not measured."
    return "\n".join(["| group | value | n | UAR | accuracy |", "|---|---|---|---|---|", *rows])
