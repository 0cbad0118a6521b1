"""The command `vagus bench`: side by side with peers, in one run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import ConfigError

__all__ = ["bench"]


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="streaming, latency, training_small ...; none is all of them."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for a JSON file per benchmark.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON list.")] = False,
) -> None:
    """Measure this machine: speeds beside peers and floors, as ratios within one run."""
    from benchmarks.__main__ import NAMES, run_all

    if unknown := [name for name in names or [] if name not in NAMES]:
        raise ConfigError(
            f"no benchmark is called {', '.join(unknown)}; there are {', '.join(NAMES)}"
        )
    run_all(names or [], shlex.join(["vagus", *sys.argv[1:]]), out, as_json)
