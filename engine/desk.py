"""What the control socket may ask of a running engine, verb by verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from engine.config import Config, config_from, load_config
from engine.control import ControlError, Later
from engine.errors import ConfigError, ResourceError, UserError
from engine.loading import Swaps
from engine.predictor import Predictor
from engine.preview import RENEW_S, Previews
from engine.publish import Publisher
from engine.seat import Seat
from engine.version import __version__

__all__ = ["Desk", "House"]


class House(Protocol):
    """The engine as the desk sees it."""

    run_id: str
    seats: dict[str, Seat]
    publisher: Publisher
    previews: Previews
    swaps: Swaps

    def join(self, config: Config) -> None: ...
    def leave(self, name: str) -> None: ...
    def stop(self) -> None: ...


class Desk:
    """Answers checked requests; every verb is idempotent or says why it does nothing."""

    def __init__(self, engine: House) -> None:
        self._engine = engine
        self._verbs: dict[str, Callable[..., Mapping[str, Any] | Later]] = {
            "status": self._status,
            "join": self._join,
            "leave": self._leave,
            "fetch": self._fetch,
            "shutdown": self._shutdown,
            "mark": self._mark,
            "calibrate": self._calibrate,
            "preview": self._preview,
            "swap": self._swap,
            "record": self._record,
            "stop_record": self._stop_record,
        }

    def __call__(self, verb: str, args: dict[str, Any]) -> Mapping[str, Any] | Later:
        """Do what is asked; raises ControlError with one of the stable codes."""
        if verb in ("pause", "resume", "mute", "unmute"):
            return self._command(verb, args)
        return self._verbs[verb](**args)

    def _seat(self, session: str | None) -> Seat:
        seats = self._engine.seats
        if session is None and len(seats) == 1:
            return next(iter(seats.values()))
        if session is None:
            raise ControlError("bad_argument", f"which session? there are {', '.join(seats)}")
        if session not in seats:
            raise ControlError("not_found", f"no session '{session}'; there are {', '.join(seats)}")
        return seats[session]

    def _status(self) -> dict[str, Any]:
        seats = self._engine.seats.values()
        return {
            "engine": f"vagus {__version__}",
            "run": self._engine.run_id,
            "sessions": {s.name: _told_of(s) for s in seats},
        }

    def _command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        seat = self._seat(args.pop("session", None))
        if "stream" in args:  # before it is logged: a replay must not meet the same refusal
            _predictor(seat, args["stream"])
        seat.command(verb, **args)
        return {"session": seat.name}

    def _mark(self, value: str, session: str | None = None) -> dict[str, Any]:
        seat = self._seat(session)
        seat.command("mark", value=value, t=seat.now())
        return {"session": seat.name}

    def _calibrate(self, stream: str, seconds: float, session: str | None = None) -> dict[str, Any]:
        seat = self._seat(session)
        predictor = _predictor(seat, stream)
        try:
            refusal = predictor.adapter(stream).refusal(seconds)
        except ConfigError as error:
            refusal = str(error)
        if refusal:
            raise ControlError("refused", f"{stream}: {refusal}")
        seat.command("calibrate", stream=stream, seconds=seconds, t=seat.now())
        return {"session": seat.name}

    def _join(self, config: str | dict[str, Any]) -> dict[str, Any]:
        try:
            joined = load_config(config) if isinstance(config, str) else config_from(config)
            seat = self._engine.seats.get(joined.session)
            if seat is None:
                self._engine.join(joined)
            elif seat.config.model_dump() != joined.model_dump():
                raise ControlError(
                    "busy", f"session '{seat.name}' runs already, and not with this config"
                )
        except ControlError:
            raise
        except UserError as error:
            raise ControlError("bad_argument", str(error)) from error
        return {"session": joined.session}

    def _leave(self, session: str | None = None) -> dict[str, Any]:
        name = self._seat(session).name
        self._engine.leave(name)
        return {"session": name}

    def _fetch(
        self, kind: str, first: int, last: int, session: str | None = None
    ) -> dict[str, Any]:
        name = self._seat(session).name
        messages, missing = self._engine.publisher.fetch(name, kind, first, last)
        return {"messages": messages, "missing": missing}

    def _swap(self, stream: str, bundle: str, session: str | None = None) -> Later:
        seat = self._seat(session)
        _predictor(seat, stream)
        return self._engine.swaps.begin(seat, stream, bundle)

    def _record(self, path: str, raw: bool, session: str | None = None) -> dict[str, Any]:
        seat = self._seat(session)
        log = seat.log
        if log is not None and not seat.recorder.is_on(path, raw):
            raise ControlError("busy", f"'{seat.name}' is being recorded to {log.path}")
        if log is None:
            try:
                log = seat.record(path, raw)
            except ConfigError as error:
                raise ControlError("bad_argument", str(error)) from error
            except ResourceError as error:
                raise ControlError("refused", str(error)) from error
        return {"session": seat.name, "path": str(log.path), "raw": raw}

    def _stop_record(self, session: str | None = None) -> Mapping[str, Any] | Later:
        seat = self._seat(session)
        nothing = {"session": seat.name, "path": None}
        return nothing if seat.log is None else seat.stop_recording()

    def _preview(self, on: bool, session: str | None = None) -> dict[str, Any]:
        seat = self._seat(session)
        self._engine.previews.switch(seat.name, on, seat.now())
        return {"session": seat.name, "seconds": RENEW_S if on else 0.0, "sensors": seat.offers()}

    def _shutdown(self) -> dict[str, Any]:
        self._engine.stop()
        return {}


def _told_of(seat: Seat) -> dict[str, Any]:
    """What the status says of a session."""
    session = seat.session
    return {
        "streams": session.streams,
        "degraded": session.degraded(),
        "paused": session.paused,
        "muted": [p.name for p in session.predictors if p.muted],
        "bundles": {
            p.name: {"id": p.bundle.id, "sha256": p.bundle.sha256, "where": seat.where(p)}
            for p in session.predictors
        },
        "calibrations": {s: c for p in session.predictors for s, c in p.calibrations().items()},
        "recording": seat.recorder.status(),
    }


def _predictor(seat: Seat, stream: str) -> Predictor:
    try:
        return seat.session.predictor_of(stream)
    except ConfigError as error:
        raise ControlError("not_found", str(error)) from error
