"""How a session looks in a terminal: a panel, a row of a table, or one plain line a message."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engine.types import Event, Health, Marker, Message, Prediction, Schema
from sinks.strip import Tick, strip, told

__all__ = ["Marks", "SessionState", "draw", "overview", "plain"]

_EVENTS = 4  # lines of the last events and markers
_TICKS = 60  # in the strip of what was true and what was said
_BAR = 30  # columns
_ALL, _NAMED = "all", 4  # stands for every channel; so many are named one by one
_GOOD, _BAD, _FAINT = "green", "red", "dim"


@dataclass(frozen=True, slots=True)
class Marks:
    """The characters that a terminal can show."""

    eighths: str = "▏▎▍▌▋▊▉█"
    right: str = "✓"
    wrong: str = "✗"
    dot: str = "·"
    none: str = "–"

    @classmethod
    def ascii(cls) -> Marks:
        """For terminals without Unicode."""
        return cls(eighths="#", right="+", wrong="x", dot="|", none="-")

    def bar(self, share: float, width: int = _BAR) -> str:
        """A bar for 0 to 1, of at most `width` columns."""
        steps = len(self.eighths)
        n = round(min(max(share, 0.0), 1.0) * width * steps)
        return self.eighths[-1] * (n // steps) + (self.eighths[n % steps - 1] if n % steps else "")


@dataclass(slots=True)
class SessionState:
    """What the messages of one session have told so far."""

    name: str
    schema: Schema | None = None
    prediction: Prediction | None = None
    health: Health | None = None
    recent: deque[Event | Marker] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    ticks: deque[Tick] = field(default_factory=lambda: deque(maxlen=_TICKS))
    fresh: dict[str, tuple[tuple[int, int], float]] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Learn from one more message."""
        if isinstance(message, Schema):
            self.schema = message
        elif isinstance(message, Health):
            self.health = message
        elif isinstance(message, Prediction):
            self.prediction = message
            self.ticks.append(told(message))
            for name, about in message.modalities.items():
                end = (about.get("segment", 0), about.get("last", -1))
                if about.get("used") and self.fresh.get(name, (None, 0.0))[0] != end:
                    self.fresh[name] = end, message.t
        else:
            self.recent.append(message)

    def age_s(self, modality: str) -> float:
        """How long the last prediction's window of `modality` has stood already."""
        assert self.prediction is not None
        return self.prediction.t - self.fresh.get(modality, (None, self.prediction.t))[1]


def draw(state: SessionState, marks: Marks) -> RenderableType:
    """The session as a panel."""
    title, subtitle = Text(_clean(state.name), "bold"), None
    if state.schema is not None:
        what = [state.schema.engine, f"run {state.schema.run}", f"hop {state.schema.hop_s:g} s"]
        subtitle = Text(_clean(f" {marks.dot} ".join(what)), _FAINT)
    parts = [*_prediction(state, marks), *_health(state.health, marks)]
    parts += [_event(message) for message in state.recent]
    body = Group(*parts) if parts else Text("waiting for the first prediction", _FAINT)
    return Panel(body, title=title, title_align="left", subtitle=subtitle, subtitle_align="right")


def overview(states: Iterable[SessionState], marks: Marks) -> RenderableType:
    """Many sessions: a row for each."""
    names = ("session", "label", "", "", "truth", "missing", "total")
    table = Table(*names, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=_FAINT)
    for state in states:
        p = state.prediction
        if p is None:
            table.add_row(_clean(state.name), Text("waiting", _FAINT))
            continue
        confidence = p.confidence or 0.0
        table.add_row(
            Text(_clean(state.name), "bold", no_wrap=True),
            _label(p),
            Text(marks.bar(confidence, _BAR // 2), "cyan"),
            _percent(p.confidence),
            _truth(p, marks),
            Text(_clean(", ".join(p.missing)), "yellow"),
            f"{p.latency_ms['total']:.1f} ms" if "total" in p.latency_ms else "",
        )
    return table


def plain(message: Message, state: SessionState) -> str | None:
    """One line for a prediction, an event or a marker; None for what has no line of its own."""
    if isinstance(message, Prediction):
        truth = f" (truth {message.truth})" if message.truth is not None else ""
        parts = [f"{_label(message).plain} {_percent(message.confidence)}".rstrip() + truth]
        for name, about in message.modalities.items():
            if about.get("used"):
                shares = f"quality {_percent(about.get('quality'))}"
                shares += f" filled {_percent(about.get('filled'))}"
                parts.append(f"{name} {shares} age {state.age_s(name):.1f} s")
            else:
                parts.append(f"{name} missing ({about.get('reason', 'unknown')})")
            if wrong := _faults(about):
                parts[-1] += f" [{wrong}]"
        if "total" in message.latency_ms:
            parts.append(f"{message.latency_ms['total']:.1f} ms")
        text = f"tick {message.tick}: {', '.join(parts)}"
    elif isinstance(message, Event | Marker):
        text = _told(message)
    else:
        return None
    return _clean(f"{message.session} {_when(message)} {text}")


def _prediction(state: SessionState, marks: Marks) -> Iterator[RenderableType]:
    p = state.prediction
    if p is None:
        return
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(ratio=1)
    head.add_column(ratio=1)
    head.add_column(justify="right")
    where = f"tick {p.tick} {marks.dot} {_when(p)}"
    label = Text.assemble(_label(p), "  ", (_percent(p.confidence), "bold"))
    head.add_row(label, _truth(p, marks), Text(where, _FAINT, no_wrap=True))
    yield head
    if p.probabilities:
        bars = Table.grid(padding=(0, 2))
        top = max(p.probabilities.values())
        for name, share in p.probabilities.items():
            style = "cyan" if share == top else _FAINT
            bar = Text(marks.bar(share).ljust(_BAR), style)
            bars.add_row(Text(_clean(name), no_wrap=True), bar, _percent(share).rjust(5))
        yield bars
    if p.dimensions:
        yield Text(_clean("  ".join(f"{k} {v:.2f}" for k, v in p.dimensions.items())))
    if p.probabilities:
        yield strip(state.ticks, list(p.probabilities))
    yield _modalities(state, p, marks)
    for name, about in p.modalities.items():
        if wrong := _faults(about):
            yield Text(_clean(f"{name}: {wrong}"), "yellow")
    if p.latency_ms:
        yield Text(_latency(p.latency_ms, state.health), no_wrap=True, overflow="ellipsis")


def _modalities(state: SessionState, p: Prediction, marks: Marks) -> Table:
    names = ("stream", "bundle", "share", "quality", "filled", "age", "alone")
    n_used = sum(bool(about.get("used")) for about in p.modalities.values())
    table = Table(*names, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=_FAINT)
    for column in table.columns[2:6]:
        column.justify = "right"
    for name, about in p.modalities.items():
        stream = Text(_clean(name))
        if not about.get("used"):
            reason = Text(_clean(f"missing: {about.get('reason', 'unknown')}"), "yellow")
            table.add_row(stream, reason, *[marks.none] * 4, "")
            continue
        table.add_row(
            stream,
            _clean(str(about.get("bundle", ""))),
            _percent(1.0 / n_used),
            _percent(about.get("quality")),
            _percent(about.get("filled")),
            f"{state.age_s(name):.1f} s",
            _alone(about.get("probabilities")),
        )
    return table


def _faults(about: Mapping[str, Any]) -> str:
    """What is wrong with which channels of a modality: `flat T3, F7; line noise`."""
    where: dict[str, list[str]] = {}
    for channel, names in (about.get("faults") or {}).items():
        for name in names:
            where.setdefault(name, []).append(channel)
    return "; ".join(
        name if _ALL in channels
        else f"{name} on {len(channels)} channels" if len(channels) > _NAMED
        else f"{name} {', '.join(channels)}"
        for name, channels in where.items()
    )  # fmt: skip


def _health(health: Health | None, marks: Marks) -> Iterator[RenderableType]:
    if health is None:
        return
    yield Text(_account(health.counters, marks), _FAINT)
    dropped = list(_drops(health.counters))
    if dropped:
        yield Text("dropped " + _clean(f" {marks.dot} ".join(dropped)), "yellow")
    if health.degraded:
        yield Text("degraded " + _clean(f" {marks.dot} ".join(health.degraded)), _BAD)
    if not health.ready:
        yield Text("not ready: streams are missing", "yellow")


def _account(counters: Mapping[str, Mapping[str, Mapping[str, Any]]], marks: Marks) -> str:
    """Items that came in over all streams, and whether every stage accounts for all of its own."""
    stages = [stage for found in counters.values() for stage in found.values()]
    balanced = all(
        s["in"] + sum(s["made"].values()) == s["out"] + sum(s["dropped"].values()) + s["held"]
        for s in stages
    )
    n_in = sum(found["timeline"]["in"] for found in counters.values() if "timeline" in found)
    verdict = f"every one accounted for {marks.right}" if balanced else "does NOT balance"
    return f"account {n_in:,} samples in, {verdict}"


def _drops(counters: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """ "voice inbox: 12 overrun" for each stage that dropped something."""
    for stream, stages in counters.items():
        for stage, counts in stages.items():
            told = ", ".join(f"{n} {why}" for why, n in counts.get("dropped", {}).items() if n)
            if told:
                yield f"{stream} {stage}: {told}"


def _event(message: Event | Marker) -> Text:
    bad = isinstance(message, Event) and message.code.endswith(
        ("lost", "stalled", "refused", "frozen", "degraded", "full", "rejected", "overrun")
    )
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(_when(message) + "  ", _FAINT)
    return text.append(_clean(_told(message)), _BAD if bad else "")


def _told(message: Event | Marker) -> str:
    if isinstance(message, Marker):
        return f"marker '{message.value}' ({message.stream})"
    detail = ", ".join(f"{key} {value}" for key, value in message.detail.items())
    return " ".join(part for part in (message.code, message.stream, detail) if part)


def _label(p: Prediction) -> Text:
    if p.label is not None:
        return Text(_clean(p.label), "bold cyan", no_wrap=True)
    return Text("abstains" if p.probabilities else "no usable stream", "yellow", no_wrap=True)


def _truth(p: Prediction, marks: Marks) -> Text:
    if p.truth is None:
        return Text()
    right = p.truth == p.label
    text = f"truth {_clean(p.truth)} {marks.right if right else marks.wrong}"
    return Text(text, _GOOD if right else _BAD, no_wrap=True)


def _alone(probabilities: Mapping[str, float] | None) -> str:
    """What a modality would say without the others."""
    if not probabilities:
        return ""
    label = max(probabilities, key=lambda name: probabilities[name])
    return _clean(f"{label} {_percent(probabilities[label])}")


def _latency(latency_ms: Mapping[str, float], health: Health | None) -> str:
    stages = ", ".join(f"{k} {v:.1f}" for k, v in latency_ms.items() if k != "total")
    text = f"latency {latency_ms.get('total', 0.0):.1f} ms ({stages})"
    total = health.latency_ms.get("total") if health is not None else None
    return f"{text}, p99 {total['p99']:.1f} ms" if total and "p99" in total else text


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _when(message: Prediction | Event | Marker) -> str:
    if message.t_wall is None:
        return f"{message.t:.1f} s"
    return time.strftime("%H:%M:%S", time.localtime(message.t_wall))


def _clean(text: str) -> str:
    """Without control characters: names come from devices, and a terminal obeys them."""
    return "".join(c if c.isprintable() else "?" for c in text)
