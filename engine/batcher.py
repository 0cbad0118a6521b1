"""Windows of all sessions to probabilities: one run per bundle, however many people there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from engine.account import Stage
from engine.errors import InferenceError
from engine.plan import Request, Tick
from engine.session import Session
from engine.types import Array, Prediction, Runtime

__all__ = ["Batcher"]


@dataclass(slots=True)
class _Job:
    """A tick under way: its arrays until they are run, its results after."""

    session: Session
    tick: Tick
    arrived_s: float
    results: dict[str, Array | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Row:
    job: _Job
    request: Request
    arrays: dict[str, Array]
    valid: dict[str, Array]


class Batcher:
    """Collects the ticks of many sessions and runs each bundle once over all their windows.

    A tick is copied when it is added; the results come out in the order of adding. Counts the
    stage `batch` of each session's streams. `on_error` hears of a bundle whose run failed: its
    windows count as infer_error, the others are not touched.
    """

    def __init__(self, on_error: Callable[[Session, str, str], None]) -> None:
        self._on_error = on_error
        self._jobs: list[_Job] = []
        self._rows: dict[tuple[str, str], list[_Row]] = {}  # by the bundle's hash and device
        self._stages: dict[tuple[int, str], Stage] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def join(self, session: Session) -> None:
        """Open the stage `batch` for each stream that `session` predicts from."""
        for stream in session.predicting:
            key = (id(session), stream)
            stage = session.account.stage(stream, "batch", lambda key=key: self._held(*key))  # type: ignore[misc]
            self._stages[key] = stage
            session.account.equal(
                f"{stream}: out of windows = in of batch",
                lambda stream=stream: session.windows_out(stream),  # type: ignore[misc]
                lambda stage=stage: stage.n_in,  # type: ignore[misc]
            )

    def leave(self, session: Session) -> None:
        """Forget a session; its ticks under way are dropped, counted as shutdown."""
        for rows in self._rows.values():
            for row in [r for r in rows if r.job.session is session]:
                rows.remove(row)
                self._count(row, "shutdown")
        self._jobs = [job for job in self._jobs if job.session is not session]
        self._stages = {k: s for k, s in self._stages.items() if k[0] != id(session)}

    def add(self, session: Session, tick: Tick, arrived_s: float = 0.0) -> None:
        """Take a tick's windows, copied; `arrived_s` is when its newest sample came."""
        job = _Job(session, tick, arrived_s)
        self._jobs.append(job)
        for request, arrays, valid in session.take(tick):
            for window in request.windows.values():
                self._stages[id(session), window.stream].n_in += 1
            which = request.bundle.sha256, request.bundle.device
            rows = self._rows.setdefault(which, [])
            rows.append(_Row(job, request, arrays, valid))

    def run(self) -> list[tuple[Session, Prediction, float]]:
        """Run all that was added: (session, prediction, arrived_s) in the order of adding."""
        for rows in self._rows.values():
            if rows:
                self._run(rows)
                rows.clear()
        jobs, self._jobs = self._jobs, []
        return [(j.session, j.session.finish(j.tick, j.results), j.arrived_s) for j in jobs]

    def _run(self, rows: list[_Row]) -> None:
        runtime: Runtime = rows[0].request.bundle.runtime
        try:
            out = runtime.run(_stack([r.arrays for r in rows]), _stack([r.valid for r in rows]))
        except InferenceError as error:
            if len(rows) > 1:  # one person's window must not cost the others theirs
                for row in rows:
                    self._run([row])
                return
            row = rows[0]
            row.job.results[row.request.modality] = None
            self._count(row, "infer_error")
            self._on_error(row.job.session, row.request.modality, str(error))
            return
        for row, p in zip(rows, out, strict=True):
            row.job.results[row.request.modality] = p
            self._count(row)

    def _count(self, row: _Row, dropped: str | None = None) -> None:
        for window in row.request.windows.values():
            stage = self._stages[id(row.job.session), window.stream]
            if dropped is None:
                stage.n_out += 1
            else:
                stage.drop(dropped, 1)

    def _held(self, session_id: int, stream: str) -> int:
        return sum(
            window.stream == stream
            for rows in self._rows.values()
            for row in rows
            if id(row.job.session) == session_id
            for window in row.request.windows.values()
        )


def _stack(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """n maps of (…) arrays -> one map of (n, …) arrays; a single one is not copied."""
    if len(parts) == 1:
        return {name: array[None] for name, array in parts[0].items()}
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
