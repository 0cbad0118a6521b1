"""Runs side by side in processes of their own, one thread each; how far they are is told."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from engine.errors import ResourceError

__all__ = ["Named", "Watch", "complete_all", "n_jobs"]

Watch: TypeAlias = Callable[[str, int, int, str], None]  # whose, steps done, of all, a remark
_POLL_S = 0.1


class Named(Protocol):
    """Something to do that has a name."""

    @property
    def name(self) -> str: ...


Job = TypeVar("Job", bound=Named)
Complete: TypeAlias = Callable[[Any, Callable[[int, int, str], None]], None]
_told: Any = None  # in a worker: the queue to its parent, which only a new process can be given


def n_jobs(wanted: int | None, n_runs: int, on_gpu: bool) -> int:
    """How many processes: as wanted, else one for each core; a GPU is not shared."""
    if wanted is not None:
        return max(1, min(wanted, n_runs))
    return 1 if on_gpu else max(1, min(len(os.sched_getaffinity(0)), n_runs))


def complete_all(complete: Complete, jobs: Sequence[Job], n: int, watch: Watch) -> None:
    """Call `complete(job, tell)` for all `jobs`, `n` at a time; here, where `n` is 1.

    The first failure ends the others and is raised. `complete` must be a function of a module.
    """
    if n == 1:
        for job in jobs:
            complete(job, partial(watch, job.name))
        return
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    pool = ProcessPoolExecutor(n, context, initializer=_begin, initargs=(told,))
    try:
        pending: set[Future[None]] = {pool.submit(_complete, complete, job) for job in jobs}
        while pending:
            done, pending = wait(pending, _POLL_S, FIRST_EXCEPTION)
            _pass_on(told, watch)
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise ResourceError(
            "a training process was killed, perhaps for want of memory; the same command goes on "
            "where it was (--jobs 1 takes less)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        _pass_on(told, watch)
        told.close()


def _pass_on(told: Any, watch: Watch) -> None:
    while True:
        try:
            watch(*told.get_nowait())
        except queue.Empty:
            return


def _begin(told: Any) -> None:
    import torch

    global _told
    _told = told
    torch.set_num_threads(1)


def _complete(complete: Complete, job: Named) -> None:
    complete(job, lambda done, total, text: _told.put((job.name, done, total, text)))
