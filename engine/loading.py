"""Bundles on their way into running sessions: loaded beside the loop, they take over in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.bundle import Bundle, shipped_names
from engine.config import Config
from engine.control import ControlError
from engine.errors import BundleError
from engine.prepare import bundle_for
from engine.seat import Seat

__all__ = ["Loading", "Swaps"]

_LEAVES = ControlError("not_found", "the session left while its bundle was loaded")


class Loading(threading.Thread):
    """Loads one bundle: every hash and golden value held, its graph run warm at each batch size.

    `wake` is called when that is done, well or not. The rest belongs to the loop: `settle` once
    the bundle has taken over or was refused, then `ready` and `result` for whoever asked.
    """

    def __init__(self, config: Config, stream: str, name: str, wake: Callable[[], None]) -> None:
        super().__init__(name=f"load {name}", daemon=True)
        self.config, self.stream, self.bundle_name = config, stream, name
        self.bundle: Bundle | None = None
        self.error: Exception | None = None
        self.done = False
        self._wake = wake
        self._result: dict[str, Any] | ControlError | None = None

    def run(self) -> None:
        try:
            self.bundle = bundle_for(self.config, self.stream, self.bundle_name)
        except Exception as error:  # whatever is wrong with it, the old one goes on
            self.error = error
        self.done = True
        self._wake()

    def settle(self, result: dict[str, Any] | ControlError) -> None:
        """This came of it."""
        self._result = result

    def ready(self) -> bool:
        """Whether it is settled."""
        return self._result is not None

    def result(self) -> Mapping[str, Any]:
        """What to answer; raises ControlError where the bundle was refused."""
        assert self._result is not None
        if isinstance(self._result, ControlError):
            raise self._result
        return self._result


class Swaps:
    """The bundles that are being loaded, at most one for each modality of each session."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loading: dict[tuple[str, str], Loading] = {}

    def begin(self, seat: Seat, stream: str, name: str) -> Loading:
        """Load the bundle `name` for the modality that `stream` feeds.

        Raises ControlError `busy` while another one is on its way there.
        """
        modality = seat.session.predictor_of(stream).name
        under_way = self._loading.get((seat.name, modality))
        if under_way is not None:
            raise ControlError(
                "busy", f"'{modality}' is about to get the bundle {under_way.bundle_name}"
            )
        loading = Loading(seat.config, stream, name, self._wake)
        self._loading[seat.name, modality] = loading
        loading.start()
        return loading

    def serve(self, seats: Mapping[str, Seat]) -> None:
        """Let what is loaded take over; call it between two ticks."""
        for key, loading in list(self._loading.items()):
            if loading.done:
                del self._loading[key]
                seat = seats.get(key[0])
                loading.settle(_LEAVES if seat is None else _take_over(seat, key[1], loading))


def _take_over(seat: Seat, modality: str, loading: Loading) -> dict[str, Any] | ControlError:
    stream, name, bundle = loading.stream, loading.bundle_name, loading.bundle
    told = {"session": seat.name, "stream": stream}
    try:
        if bundle is None:
            raise BundleError(_why(loading.error))
        before = seat.session.predictor_of(stream).bundle
        changed = (bundle.sha256, bundle.inputs) != (before.sha256, before.inputs)
        if changed:
            seat.swap(stream, bundle, _where(name, bundle))
        return {**told, "bundle": bundle.id, "sha256": bundle.sha256, "changed": changed}
    except BundleError as error:
        seat.event("bundle.refused", stream, bundle=name, why=str(error))
        return ControlError("refused", f"{modality}: {error}")


def _why(error: Exception | None) -> str:
    if isinstance(error, BundleError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _where(name: str, bundle: Bundle) -> str:
    """How a replay finds the bundle again, from whatever folder it is started in."""
    shipped = name in shipped_names() and not Path(name).is_dir()
    return name if shipped else str(bundle.path.resolve())
