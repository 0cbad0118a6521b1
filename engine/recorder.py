"""The recording of one session: begun at its start or in its middle, stopped, or failed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from engine.clock import Clock
from engine.config import Config
from engine.log import LogHeader, LogWriter, expand_name
from engine.plan import SessionPlan

__all__ = ["Ending", "Recorder"]

_PATIENCE_S = 2.0  # for the end of a recording, before whoever asked for it is answered

Words = Iterable[tuple[str, Mapping[str, Any]]]


class Ending:
    """A recording that was told to end, until its file is closed."""

    def __init__(self, log: LogWriter, told: Mapping[str, Any]) -> None:
        self._log, self._told = log, told
        self._until_s = time.monotonic() + _PATIENCE_S

    def ready(self) -> bool:
        """Whether the file is closed, or is not within two seconds."""
        return self._log.state != "closing" or time.monotonic() > self._until_s

    def result(self) -> dict[str, Any]:
        """What became of the file."""
        log = self._log
        told = {"path": str(log.path), "records": log.records, "state": log.state}
        return {**self._told, **told, "lost": log.lost}


class Recorder:
    """At most one recording at a time of the session that `plan` and `config` describe.

    `log` is the one under way. `failed` says why the last one ended before its time, until
    another begins.
    """

    def __init__(self, config: Config, plan: SessionPlan, clock: Clock) -> None:
        self._config, self._plan, self._clock = config, plan, clock
        self._asked = ("", False)
        self._ending: list[LogWriter] = []
        self.log: LogWriter | None = None
        self.failed: str | None = None

    def begin(self, template: str, raw: bool, past: Words = (), middle: bool = False) -> LogWriter:
        """Open the file that `template` names; `past` are the commands that lead to where the
        session is, `middle` says whether an item came before. Raises ConfigError or ResourceError
        where there can be no such file.
        """
        plan, wall_s = self._plan, time.time()
        path = expand_name(template, plan.session, wall_s)
        header = LogHeader(
            run=plan.run,
            session=plan.session,
            config=self._config.model_dump_json(exclude_none=True),
            origin_s=plan.origin_s,
            wall_offset_s=plan.wall_offset_s,
            bundles={n: s.bundle.sha256 for n, s in plan.streams.items() if s.bundle},
            middle=middle,
        )
        log = LogWriter(path, header, raw=raw, clock=self._clock)
        for verb, args in past:
            log.command(verb, args)
        self._asked, self.failed = (template, raw), None
        self.log = log
        return log

    def is_on(self, template: str, raw: bool) -> bool:
        """Whether the recording under way is the one that such a request asked for."""
        return self.log is not None and self._asked == (template, raw)

    def end(self, account: Mapping[str, Any], **told: Any) -> Ending:
        """End the recording under way; its thread closes the file."""
        log = self.log
        assert log is not None
        self.log = None
        log.finish(account)
        self._ending = [one for one in self._ending if one.state == "closing"] + [log]
        return Ending(log, told)

    def look(self) -> LogWriter | None:
        """The recording that broke since the last look; it is not under way any more."""
        log = self.log
        if log is None or log.failed is None:
            return None
        self.log, self.failed = None, log.failed
        return log

    def close(self, account: Mapping[str, Any]) -> None:
        """End what is under way and wait for all files, two seconds each at most."""
        if self.log is not None:
            self.end(account)
        for log in self._ending:
            log.join()

    def status(self) -> dict[str, Any] | None:
        """What the control socket tells of it; None where nothing is recorded."""
        if self.log is None:
            return None if self.failed is None else {"failed": self.failed}
        log, raw = self.log, self._asked[1]
        return {"path": str(log.path), "raw": raw, "records": log.records, "written": log.written}
