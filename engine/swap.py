"""Another bundle for a modality that runs: whether it fits, and what of the old one goes on.

An input whose signal handling is the same in both bundles goes on as if nothing had happened: its
filters, its window and what was learnt of the person. Where any of that differs, that input begins
anew with the next item, as at a stream's start: filters settle on it, and the modality is
`filling` until the window holds `min_filled_s`. What the old bundle said stands until the new
one's first turn, or until that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from engine.errors import BundleError, ConfigError
from engine.lane import Lane, View, grid_hz
from engine.ordered import Ordered, teller
from engine.predictor import Fitted, Predictor, fitted_to, turn_of
from engine.slot import Slot

if TYPE_CHECKING:
    from engine.bundle import Bundle

__all__ = ["Swap", "prepare"]


@dataclass(frozen=True, slots=True)
class Swap:
    """A bundle that fits a running session, ready to take a modality over."""

    bundle: Bundle
    slots: Mapping[str, Slot]  # by the bundle's inputs
    turn: int
    fitted: Mapping[str, Fitted]  # the inputs whose features or signal handling are others
    renewed: tuple[tuple[Lane, View], ...]

    @property
    def anew(self) -> tuple[str, ...]:
        """The streams whose windows begin anew."""
        return tuple(lane.stream for lane, _ in self.renewed)


def prepare(session: Ordered, stream: str, bundle: Bundle) -> Swap:
    """Make `bundle` ready for the modality that `stream` feeds; the session is not changed.

    Raises BundleError for one that cannot read the streams as they are, has not the labels that
    the other modalities are fused on, or whose hop is no multiple of the session's.
    """
    predictor = session.predictor_of(stream)
    slots = _slots(predictor, bundle)
    _demand_labels(session, predictor, bundle)
    try:
        turn = turn_of(bundle, session.grid.hop_s)
    except ConfigError as error:
        raise BundleError(str(error)) from error
    fitted: dict[str, Fitted] = {}
    renewed: list[tuple[Lane, View]] = []
    for key, slot in slots.items():
        if slot.state in ("ended", "refused"):
            raise BundleError(f"stream '{slot.stream}' is {slot.state}; nothing is read from it")
        if not isinstance(slot.lane, Lane) or _goes_on(predictor.bundle, bundle, key):
            continue
        tell = teller(session, slot.stream)
        fitted[key] = fitted_to(bundle, key, slot, slot.lane.info, tell)
        if not _same_windows(predictor.bundle, bundle, key):
            _demand_grid(slot.lane, fitted[key].view, bundle)
            renewed.append((slot.lane, fitted[key].view))
    return Swap(bundle, slots, turn, fitted, tuple(renewed))


def _slots(predictor: Predictor, bundle: Bundle) -> dict[str, Slot]:
    """The modality's slots by the inputs of another bundle, in its order."""
    before = predictor.slots
    if len(before) == len(bundle.inputs) == 1:
        return dict(zip(bundle.inputs, before.values(), strict=True))
    if bundle.inputs.keys() != before.keys():
        raise BundleError(
            f"bundle {bundle.id} reads the inputs {', '.join(bundle.inputs)}; "
            f"'{predictor.name}' feeds {', '.join(before)}"
        )
    return {key: before[key] for key in bundle.inputs}


def _demand_labels(session: Ordered, predictor: Predictor, bundle: Bundle) -> None:
    """What was fused with the old bundle must be so with the new one; alone, all labels do."""
    was, now = predictor.bundle, (bundle.vocabulary, bundle.labels)
    for other in session.predictors:
        if other is predictor or other.bundle.labels != was.labels:
            continue
        if now != (other.bundle.vocabulary, other.bundle.labels):
            raise BundleError(
                f"bundle {bundle.id} has the labels {', '.join(bundle.labels)} "
                f"({bundle.vocabulary}); '{other.name}', with which it would be fused, has "
                f"{', '.join(other.bundle.labels)} ({other.bundle.vocabulary})"
            )


def _goes_on(was: Bundle, now: Bundle, key: str) -> bool:
    """Whether nothing in front of the graph differs, what is learnt of a person included."""
    return (
        _same_windows(was, now, key)
        and was.inputs[key] == now.inputs[key]
        and (was.hop_s == now.hop_s or now.inputs[key].adapt is None)
    )


def _same_windows(was: Bundle, now: Bundle, key: str) -> bool:
    if key not in was.inputs or key in was.encoders or key in now.encoders:
        return False
    one, other = (
        msgspec.structs.replace(b.inputs[key], features=(), adapt=None) for b in (was, now)
    )
    return one == other


def _demand_grid(lane: Lane, view: View, bundle: Bundle) -> None:
    """Pictures are held on a grid of the first bundle's rate, which goes on counting."""
    was, now = grid_hz(lane.info, lane.view), grid_hz(lane.info, view)
    if was != now:
        raise BundleError(
            f"bundle {bundle.id} reads '{lane.stream}' at {now:g} Hz; this session holds it at "
            f"{was:g} Hz. Join another session for it"
        )
