"""The third law: at every stage `in + made = out + dropped + held`, as exact integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.errors import AccountError

__all__ = ["DROP_REASONS", "Account", "Stage"]

DROP_REASONS = {"stale", "overrun", "duplicate", "late", "nonfinite", "gap", "refused"} | {
    "infer_error",
    "shutdown",
}


class Stage:
    """The counters of one stage. `held` measures what is inside right now; it is never counted."""

    __slots__ = ("dropped", "held", "made", "n_in", "n_out")

    def __init__(self, held: Callable[[], int]) -> None:
        self.n_in = 0
        self.n_out = 0
        self.made: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self.held = held

    def make(self, reason: str, n: int) -> None:
        """Count `n` items that this stage itself brought into being."""
        self.made[reason] = self.made.get(reason, 0) + n

    def drop(self, reason: str, n: int) -> None:
        """Count `n` items that end here, for one of the known reasons."""
        assert reason in DROP_REASONS, reason
        self.dropped[reason] = self.dropped.get(reason, 0) + n

    def balance(self) -> int:
        """Zero while the law holds."""
        made, dropped = sum(self.made.values()), sum(self.dropped.values())
        return self.n_in + made - self.n_out - dropped - self.held()

    def snapshot(self) -> dict[str, Any]:
        """The counters as the wire's health message carries them."""
        return {
            "in": self.n_in,
            "made": dict(self.made),
            "out": self.n_out,
            "held": self.held(),
            "dropped": dict(self.dropped),
        }


class Account:
    """All stages of a session, by stream (or "session"), and the laws between them."""

    def __init__(self) -> None:
        self._stages: dict[str, dict[str, Stage]] = {}
        self._laws: list[tuple[str, Callable[[], int], Callable[[], int]]] = []

    def stage(self, stream: str, name: str, held: Callable[[], int]) -> Stage:
        """Open the stage `name` of `stream`."""
        stages = self._stages.setdefault(stream, {})
        assert name not in stages, f"{stream}.{name} is counted twice"
        stages[name] = Stage(held)
        return stages[name]

    def equal(self, law: str, one: Callable[[], int], other: Callable[[], int]) -> None:
        """Demand that two independently kept numbers agree whenever the account is checked."""
        self._laws.append((law, one, other))

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """{stream: {stage: counters}}, balanced at this instant."""
        return {
            stream: {name: stage.snapshot() for name, stage in stages.items()}
            for stream, stages in self._stages.items()
        }

    def check(self) -> None:
        """Raise AccountError, naming stage and numbers, if any law is broken."""
        for stream, stages in self._stages.items():
            for name, stage in stages.items():
                if stage.balance() != 0:
                    raise AccountError(
                        f"{stream}.{name}: in + made differs from out + dropped + held by "
                        f"{stage.balance():+d}: {stage.snapshot()}"
                    )
        for law, one, other in self._laws:
            if one() != other():
                raise AccountError(f"{law}: {one()} is not {other()}")
