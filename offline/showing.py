"""How long work is shown in a terminal: a bar for each run, what was found above them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from offline.parallel import Watch

__all__ = ["bars"]


@contextmanager
def bars() -> Iterator[tuple[Callable[[str], None], Watch]]:
    """(say, watch): `say` prints a line, `watch` moves the bar of that name; both on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
        console=Console(stderr=True),
    )
    known: dict[str, int] = {}
    with progress:

        def watch(name: str, done: int, total: int, remark: str) -> None:
            if name not in known:
                known[name] = progress.add_task(name, total=total, remark=remark)
            task = known[name]
            progress.update(task, completed=done, total=total, remark=remark)  # type: ignore[arg-type]

        yield lambda text: progress.console.print(text, highlight=False), watch
