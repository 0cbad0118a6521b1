"""One modality of a session: a bundle, the streams that feed it, and its last result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.adapt import UNCALIBRATED, Adapter, State, Tell, adapter
from engine.errors import BundleError, ConfigError
from engine.plan import Request, SessionPlan
from engine.quality import named
from engine.slot import Slot
from engine.types import Array, StreamInfo, Window
from engine.view import Entry, fit

if TYPE_CHECKING:
    from engine.bundle import Bundle
    from engine.lane import View

__all__ = ["Fitted", "Predictor", "Standing", "fitted_to", "predictors", "turn_of"]

_EVERY_ITEM = 1.01  # items in a hop, with room for a hop that was rounded


class Standing(NamedTuple):
    """A result that counts until the next one: whose it is, and what the wire says of it."""

    bundle: Bundle
    p: Array  # (labels,)
    about: dict[str, Any]


class Fitted(NamedTuple):
    """How a bundle's input sees the stream that came for it."""

    view: View
    entry: Entry
    adapter: Adapter | None


class Predictor:
    """A bundle in use: `slots` holds the stream of each input, `turn` is its hop in ticks."""

    def __init__(self, name: str, bundle: Bundle, slots: Mapping[str, Slot], turn: int) -> None:
        self.name, self.bundle, self.slots, self.turn = name, bundle, slots, turn
        self.streams = [slot.stream for slot in slots.values()]
        self._entries: dict[str, Entry] = {}
        self._adapters: dict[str, Adapter] = {}  # of the inputs that adapt, once their stream came
        self.muted = False
        self.reason = "waiting"  # why there is no result
        self._standing: Standing | None = None

    @property
    def standing(self) -> Standing | None:
        """The last result; None without any."""
        return self._standing

    def input_of(self, stream: str) -> str:
        """Which of the bundle's inputs a stream feeds."""
        return next(name for name, slot in self.slots.items() if slot.stream == stream)

    def fit(self, stream: str, info: StreamInfo, tell: Tell) -> View:
        """Take a stream that came, as `info` declares it; `tell` hears how calibrations end.

        Raises BundleError where it cannot serve the bundle.
        """
        key = self.input_of(stream)
        fitted = fitted_to(self.bundle, key, self.slots[key], info, tell)
        self._take(key, fitted)
        return fitted.view

    def change(self, bundle: Bundle, slots: Mapping[str, Slot], turn: int,
               fitted: Mapping[str, Fitted]) -> None:  # fmt: skip
        """Go on with another bundle, which reads `slots`, as far as their streams came `fitted`.

        What stands, stands until the new bundle's first turn. An input left out of `fitted` goes
        on as it was.
        """
        kept = slots.keys() - fitted.keys()
        self._entries = {key: e for key, e in self._entries.items() if key in kept}
        self._adapters = {key: a for key, a in self._adapters.items() if key in kept}
        self.bundle, self.slots, self.turn = bundle, slots, turn
        for key, one in fitted.items():
            self._take(key, one)

    def _take(self, key: str, fitted: Fitted) -> None:
        self._entries[key] = fitted.entry
        if fitted.adapter is not None:
            self._adapters[key] = fitted.adapter

    def adapter(self, stream: str) -> Adapter:
        """What is learnt of a stream's person; raises ConfigError where nothing is."""
        found = self._adapters.get(self.input_of(stream))
        if found is not None:
            return found
        if self.bundle.inputs[self.input_of(stream)].adapt is None:
            raise ConfigError(f"bundle {self.bundle.id} takes no calibration of '{stream}'")
        raise ConfigError(f"stream '{stream}' has not come yet; calibrate once it is there")

    def learnt(self, stream: str) -> State | None:
        """What was learnt of a stream's person; None where nothing is, or not enough yet."""
        found = self._adapters.get(self.input_of(stream))
        return None if found is None else found.state

    def calibrations(self) -> dict[str, bool]:
        """{stream: whether enough was learnt of its person}, of the streams that adapt."""
        return {
            slot.stream: self.learnt(slot.stream) is not None
            for key, slot in self.slots.items()
            if self.bundle.inputs[key].adapt is not None
        }

    def request(self, tick: int, t: float, hop_s: float) -> Request | str:
        """What is to be run at a tick that is being fired, or why nothing is.

        Adapters learn here, whether or not the tick is run in the end: what they know depends on
        the inputs alone.
        """
        windows = self._cut(tick, t, hop_s)
        if isinstance(windows, str):
            return windows
        entries: dict[str, Callable[[Window], tuple[Array, Array]]] = dict(self._entries)
        ready = True
        for key, adapt in self._adapters.items():
            x, valid = self._entries[key](windows[key])
            adapted = adapt(t, x)
            if adapted is None:
                ready = False
            else:
                entries[key] = partial(_made, adapted, valid)
        return Request(self.name, self.bundle, windows, entries) if ready else UNCALIBRATED

    def _cut(self, tick: int, t: float, hop_s: float) -> dict[str, Window] | str:
        """The windows of all inputs, or why there are none."""
        for slot in self.slots.values():
            slot.signal = None
        if self.muted:
            return "muted"
        windows: dict[str, Window] = {}
        for key, slot in self.slots.items():
            window = slot.window(tick, t, hop_s)
            if isinstance(window, str):
                return window
            windows[key] = window
        return windows

    def faults(self) -> dict[str, list[str]]:
        """{channel: what is wrong with it} at the tick that is being fired."""
        return named(slot.signal for slot in self.slots.values() if slot.signal is not None)

    def describe(self) -> dict[str, Any]:
        """The bundle as the schema message names it."""
        bundle = self.bundle
        return {
            "id": bundle.id,
            "sha256": bundle.sha256,
            "labels": list(bundle.labels),
            "vocabulary": bundle.vocabulary,
            "window_s": max(spec.window_s for spec in bundle.inputs.values()),
            "hop_s": bundle.hop_s,
        }

    def fail(self, reason: str) -> None:
        """There is no result at this turn."""
        self._standing, self.reason = None, reason

    def stand(self, request: Request, p: Array) -> None:
        """This is the result until the next turn."""
        windows = request.windows.values()
        main, bundle = next(iter(windows)), request.bundle
        filled = min(window.filled for window in windows)
        faults = named(window.signal for window in windows if window.signal is not None)
        about = {
            "used": True,
            "bundle": bundle.id,
            "segment": main.segment,
            "first": main.first,
            "last": main.last,
            "filled": filled,
            "quality": min(window.quality for window in windows),
            **({"faults": faults} if faults else {}),
            **({"notes": dict(main.notes)} if main.notes else {}),
            "probabilities": dict(zip(bundle.labels, p.tolist(), strict=True)),
        }
        self._standing = Standing(bundle, p, about)


def fitted_to(bundle: Bundle, key: str, slot: Slot, info: StreamInfo, tell: Tell) -> Fitted:
    """Fit the stream `info` of a slot to the bundle's input `key`; `tell` hears how calibrations
    end. Raises BundleError where it cannot serve the bundle."""
    spec, encoder = bundle.inputs[key], bundle.encoders.get(key)
    view, entry = fit(slot.stream, info, spec, bundle.id, slot.plan.channels, encoder)
    if spec.adapt is None:
        return Fitted(view, entry, None)
    try:
        learns = adapter(spec.adapt, view.info, entry.n_features, spec.window_s, bundle.hop_s, tell)
    except (ConfigError, BundleError) as error:
        raise BundleError(f"bundle {bundle.id}, input '{key}': {error}") from error
    return Fitted(view, entry, learns)


def _made(x: Array, valid: Array, window: Window) -> tuple[Array, Array]:
    """An entry whose window was looked at before."""
    return x, valid


def predictors(plan: SessionPlan, slots: Mapping[str, Slot]) -> list[Predictor]:
    """Group a session's streams by bundle: one predictor per modality.

    Streams that name the same bundle of several inputs feed it together; the modality is then
    called by their names joined with "+". Raises ConfigError where inputs stay open.
    """
    found: list[Predictor] = []
    groups: dict[str, list[str]] = {}
    for stream, part in plan.streams.items():
        if part.bundle is not None:
            alone = len(part.bundle.inputs) == 1
            groups.setdefault(stream if alone else part.bundle.sha256, []).append(stream)
    for streams in groups.values():
        bundle = plan.streams[streams[0]].bundle
        assert bundle is not None
        fed = {_input(plan, stream, bundle): stream for stream in streams}
        if fed.keys() != bundle.inputs.keys():
            raise ConfigError(
                f"bundle {bundle.id} needs the inputs {', '.join(bundle.inputs)}; "
                f"streams {', '.join(streams)} feed {', '.join(fed)}"
            )
        ordered = {name: slots[fed[name]] for name in bundle.inputs}
        name = "+".join(slot.stream for slot in ordered.values())
        found.append(Predictor(name, bundle, ordered, turn_of(bundle, plan.hop_s)))
    return found


def turn_of(bundle: Bundle, hop_s: float) -> int:
    """Every how many ticks a bundle is run; raises ConfigError where that is no whole number.

    One that is run at every item, such as a single picture, may be run at fewer: at every tick.
    """
    turn = bundle.hop_s / hop_s
    if turn < 1 and all(bundle.hop_s * s.rate_hz < _EVERY_ITEM for s in bundle.inputs.values()):
        return 1
    if abs(turn - round(turn)) > 1e-6 or round(turn) < 1:
        raise ConfigError(
            f"hop_s: {hop_s:g} does not divide the hop of bundle {bundle.id}, "
            f"{bundle.hop_s:g} s; choose {bundle.hop_s:g} or a whole fraction of it"
        )
    return round(turn)


def _input(plan: SessionPlan, stream: str, bundle: Bundle) -> str:
    """Which input of its bundle a stream feeds: the one stated, of its name, or the only one."""
    stated = plan.streams[stream].input
    if stated is None:
        stated = stream if stream in bundle.inputs else next(iter(bundle.inputs))
    if stated not in bundle.inputs:
        raise ConfigError(
            f"streams.{stream}.input: bundle {bundle.id} has no input '{stated}'; "
            f"it has {', '.join(bundle.inputs)}"
        )
    return stated
