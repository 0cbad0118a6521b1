"""The report as one HTML page that needs nothing else: no network, no script, light or dark."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from offline.ladder import RUNGS
from offline.report_plots import Line, colour, curves, intervals, reliability, scatter

__all__ = ["page"]

_SCORES = {
    "uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1",
    "kappa": "kappa", "mcc": "MCC", "auroc": "AUROC", "ece": "ECE", "brier": "Brier",
}  # fmt: skip
_DARK = 0.62  # share of a confusion's row from which on its cell needs light letters
_FEW = 5  # labels whose confusion is set in large letters
_PADDING = "padding "
_FEW_SUBJECTS = 6  # below it an interval over subjects says little
_BASELINES = ("linear", "majority", "prior")


def page(told: Mapping[str, Any]) -> str:
    """The page of a report.json: see `offline.report.write` for what is in it."""
    figures, about = told["figures"], told["bundle"]
    parts = [
        _header(figures, about),
        _protocol(figures, told["warnings"]),
        _headline(figures),
        _pair(_confusion(figures), _reliability(figures)),
        _per_class(figures),
        _compared(figures),
        _training(figures),
        _embeddings(told),
        _pair(_groups(figures), _time_and_place(figures)),
        _subsets(figures),
        _data(figures, about, told["limits"]),
    ]
    style = (importlib.resources.files("offline") / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(about['id'])}: report</title>\n<style>\n{style}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<footer>{escape(about['id'])} · bundle.json SHA-256 {about['sha256']}</footer>\n"
        "</body></html>\n"
    )


def _header(figures: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    labels = ", ".join(about["labels"])
    kinds = ", ".join(dict.fromkeys(spec["kind"] for spec in about["inputs"].values()))
    return (
        f"<header><h1>{escape(about['id'])}</h1><p>Tells {escape(labels)} apart from "
        f"{escape(kinds)}; judged on {escape(figures['dataset'])}.</p></header>"
    )


def _protocol(figures: Mapping[str, Any], warnings: Sequence[str]) -> str:
    level, n = figures.get("level"), len(figures["subjects"])
    steps = "".join(
        f'<li class="{"here" if rung == level else ""}{" leaky" if level == "L0" else ""}">'
        f"<b>{rung}</b>{name}<span>: {meaning}</span></li>"
        for rung, (name, meaning) in RUNGS.items()
    )
    told = list(warnings)
    if level == "L0":
        told.append("This split leaks: its figures say nothing of new people or new recordings.")
    elif level is None:
        told.append("On no rung: people who were trained on are among those who are judged.")
    cautions = "".join(f'<p class="warning">{escape(text)}</p>' for text in told)
    return _section(
        "Protocol",
        f'<ul class="ladder">{steps}</ul>{cautions}<p>{escape(figures["protocol"])}.</p>'
        f'<p class="note">{figures["n"]} {figures["unit"]}s of {n} '
        f"{'subject' if n == 1 else 'subjects'}; a {figures['unit']} is the unit of all that "
        "follows.</p>",
    )


def _headline(figures: Mapping[str, Any]) -> str:
    low, high = figures["uar_ci95"]
    big = (
        f'<div class="main"><b>{figures["uar"]:.3f}</b><span>unweighted average recall, 95 % '
        f"[{low:.3f}, {high:.3f}]</span></div>"
        f"<div><b>{figures['accuracy']:.3f}</b><span>accuracy</span></div>"
        f"<div><b>{figures['majority']:.3f}</b><span>majority share</span></div>"
        f"<div><b>{figures['macro_f1']:.3f}</b><span>macro F1</span></div>"
        f"<div><b>{figures['ece']:.3f}</b><span>calibration error</span></div>"
    )
    there = figures["baselines"]
    found = {"this bundle": figures} | {name: there[name] for name in _BASELINES if name in there}
    chance = 1 / sum(any(row) for row in figures["confusion"])
    picture = intervals([(n, one["uar"], one.get("uar_ci95")) for n, one in found.items()], chance)
    table, n = _scores_table(found), len(figures["subjects"])
    few = f"; of {n} it is no more than a hint" if n < _FEW_SUBJECTS else ""
    linear = (
        "linear is logistic regression on the mean and deviation of each channel, fitted on the "
        "training part."
        if "linear" in there
        else "A linear baseline needs a split whose training part it is fitted on."
    )
    return _section(
        "Result and baselines",
        f'<div class="headline">{big}</div>{picture}<div class="wide">{table}</div>'
        f'<p class="note">The interval draws whole subjects (2000 bootstrap samples){few}. '
        "majority always says the most frequent label; prior draws labels by their shares. "
        f"{linear}</p>",
    )


def _scores_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    known = {key for one in found.values() for key in one if one[key] is not None}
    told = {key: name for key, name in _SCORES.items() if key in known}
    head = "".join(f"<th>{name}</th>" for name in ("", *told.values()))
    rows = ""
    for i, (name, one) in enumerate(found.items()):
        cells = "".join(f"<td>{_number(one.get(key))}</td>" for key in told)
        rows += f"<tr{' class=ours' if i == 0 else ''}><th>{escape(name)}</th>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _confusion(figures: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{escape(label)}</th>" for label in figures["labels"])
    body = ""
    for label, row in zip(figures["labels"], figures["confusion"], strict=True):
        total = sum(row) or 1
        cells = "".join(_cell(n, total) for n in row)
        body += f"<tr><th>{escape(label)}</th>{cells}</tr>"
    kind = "confusion many" if len(figures["labels"]) > _FEW else "confusion"
    return _section(
        "Confusion",
        f'<div class="wide"><table class="{kind}"><thead><tr><th></th>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="note">Rows are the truth, columns what was '
        "said; the share of the row, and how many.</p>",
    )


def _reliability(figures: Mapping[str, Any]) -> str:
    return _section(
        "Calibration",
        reliability(figures["reliability"])
        + f'<p class="note">Expected calibration error {figures["ece"]:.3f} in 15 bins, Brier '
        f"score {figures['brier']:.3f}. A dark edge at the diagonal means what it says; above it "
        "the bundle is right more often than it claims, below it less often; red is the gap, a "
        "wide bar holds many.</p>",
    )


def _per_class(figures: Mapping[str, Any]) -> str:
    rows = ""
    for label, told in figures["per_class"].items():
        cells = "".join(f"<td>{_bar(told[key])}</td>" for key in ("precision", "recall", "f1"))
        rows += f"<tr><th>{escape(label)}</th><td>{told['n']}</td>{cells}</tr>"
    return _section(
        "Labels one by one",
        '<div class="wide"><table><thead><tr><th>label</th><th>n</th><th>precision</th>'
        f"<th>recall</th><th>F1</th></tr></thead><tbody>{rows}</tbody></table></div>",
    )


def _compared(figures: Mapping[str, Any]) -> str:
    found = figures.get("compared")
    if not found:
        return ""
    fills = all(name.startswith(_PADDING) for name in found)
    named = [(name.removeprefix(_PADDING) if fills else name, one) for name, one in found.items()]
    ranked = sorted(named, key=lambda item: -float(item[1]["uar"]))
    chance = 1 / sum(any(row) for row in figures["confusion"])
    picture = intervals([(n, one["uar"], one.get("uar_ci95")) for n, one in ranked], chance)
    note = (
        "what stands behind the end of shorter sequences differs. mask leaves it out, the others "
        "fill it with a value."
        if fills
        else "what is named differs."
    )
    return _section(
        "Paddings compared" if fills else "Compared",
        picture + f'<div class="wide">{_scores_table(dict(ranked))}</div>'
        f'<p class="note">The same network, data and split; only {note}</p>',
    )


def _training(figures: Mapping[str, Any]) -> str:
    runs = [run for run in figures.get("runs", ()) if run.get("losses") or run.get("scores")]
    if not runs:
        return ""
    shipped = figures.get("shipped", {})
    loss, val = [], []
    for run in runs:
        ours = all(run.get(key) == value for key, value in shipped.items())
        name, fold = f"fold {run['fold']}, seed {run['seed']}", int(run["fold"])
        losses = run.get("losses") or []
        if losses:
            loss.append(Line(name, range(1, len(losses) + 1), losses, fold, ours))
        if run.get("scores"):
            epochs, values = zip(*run["scores"], strict=True)
            val.append(Line(name, epochs, values, fold, ours))
    charts = [(lines, name) for lines, name in ((loss, "loss"), (val, "validation UAR")) if lines]
    drawn = "".join(f"<div>{curves(lines, name)}</div>" for lines, name in charts)
    rows = "".join(
        f"<tr><td>fold {run['fold']}, seed {run['seed']}</td>"
        f"<td>{_number(run.get('epoch'), 0)}</td>"
        f"<td>{_number(run.get('uar'))}</td><td>{_number(run.get('test_uar'))}</td></tr>"
        for run in runs
    )
    return _section(
        "Training",
        f'<div class="two">{drawn}</div><div class="wide"><table><thead><tr><th>run</th>'
        "<th>best epoch</th><th>validation UAR</th><th>test UAR</th></tr></thead>"
        f'<tbody>{rows}</tbody></table></div><p class="note">A colour is a fold; the bold line is '
        "the run that is shipped. Epoch and seed are chosen on validation alone.</p>",
    )


def _embeddings(told: Mapping[str, Any]) -> str:
    found = told["embeddings"]
    if not found:
        return ""
    labels = told["figures"]["labels"]
    pictures = []
    for name, points in found["points"].items():
        drawn = scatter(points, found["truth"], found["right"], f"embeddings, {name}")
        pictures.append(f'<div>{drawn}<p class="note">{escape(name)}</p></div>')
    legend = "".join(
        f'<li><i style="background:{colour(i)}"></i>{escape(label)}</li>'
        for i, label in enumerate(labels)
    )
    return _section(
        "Where windows lie in the network",
        f'<div class="two">{"".join(pictures)}</div>'
        f'<ul class="legend">{legend}<li><i class="ring"></i>said wrongly</li></ul>'
        f'<p class="note">What the last layer reads of {len(found["truth"])} windows that are '
        "judged, standardised; the colour is the truth. Distances between t-SNE's groups mean "
        "nothing.</p>",
    )


def _groups(figures: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(group)}</td><td>{escape(value)}</td><td>{told['n']}</td>"
        f"<td>{_bar(told['uar'])}</td><td>{told['accuracy']:.3f}</td></tr>"
        for group, values in figures["per_group"].items()
        for value, told in values.items()
    )
    inner = "<p>The data name no groups of people: differences were not measured.</p>"
    if rows:
        inner = (
            '<div class="wide"><table><thead><tr><th>group</th><th></th><th>n</th><th>UAR</th>'
            f"<th>accuracy</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return _section("Groups of people", inner)


def _time_and_place(figures: Mapping[str, Any]) -> str:
    told = figures["seconds_to_correct"]
    lines = []
    if told["n"]:
        median = "never" if told["median"] is None else f"{told['median']:.2f} s"
        lines.append(
            f"<dt>until right</dt><dd>{median}: the median from a recording's start until the "
            f"label is right and stays so; {told['reached']:.0%} of {told['n']} get there</dd>"
        )
    for axis, value in figures["ccc"].items():
        lines.append(f"<dt>CCC of {axis}</dt><dd>{value:.3f}</dd>")
    for name, key in (("windows", "per_window"), ("recordings", "per_recording")):
        part = figures[key]
        lines.append(
            f"<dt>{name}</dt><dd>UAR {part['uar']:.3f}, accuracy {part['accuracy']:.3f}, "
            f"n {part['n']}</dd>"
        )
    return _section("Time, and other units", f"<dl>{''.join(lines)}</dl>")


def _subsets(figures: Mapping[str, Any]) -> str:
    found = figures["subsets"]
    if not found:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name.replace('+', ' + '))}</td><td>{told['n']}</td>"
        f"<td>{_bar(told['uar'])}</td><td>{told['ece']:.3f}</td></tr>"
        for name, told in sorted(found.items(), key=lambda item: -float(item[1]["uar"]))
    )
    return _section(
        "Streams alone and together",
        '<div class="wide"><table><thead><tr><th>streams</th><th>n</th><th>UAR</th><th>ECE</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>",
    )


def _data(figures: Mapping[str, Any], about: Mapping[str, Any], limits: Sequence[str]) -> str:
    seen = about["seen_subjects"]
    entries = {
        "data": about["data"],
        "licence": about["licence"],
        "network": about["network"],
        "judged": ", ".join(figures["subjects"]),
        "trained on": f"{len(seen)} subjects: {', '.join(seen)}" if seen else "not told",
    }
    told = "".join(f"<dt>{n}</dt><dd>{escape(str(text))}</dd>" for n, text in entries.items())
    listed = "".join(f"<li>{escape(limit)}</li>" for limit in limits)
    below = f'<h2 style="margin-top:1rem">Limits</h2><ul class="limits">{listed}</ul>'
    return _section("Data, licence, limits", f"<dl>{told}</dl>{below if listed else ''}")


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{title}</h2>{inner}</section>"


def _pair(*sections: str) -> str:
    return f'<div class="two">{"".join(sections)}</div>'


def _cell(n: int, total: int) -> str:
    if not n:
        return '<td class="none" style="--share:0">·</td>'
    share = n / total
    kind = ' class="dark"' if share > _DARK else ""
    return f'<td{kind} style="--share:{share:.3f}">{share:.0%}<small>{n}</small></td>'


def _bar(share: float | None) -> str:
    if share is None:
        return "–"
    return f'{share:.3f}<span class="bar" style="--share:{share:.3f}"></span>'


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
