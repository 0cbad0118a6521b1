"""The options that several commands of the offline module share, and key=value."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from engine.errors import ConfigError

__all__ = ["CALIBRATE", "DATA", "JSON", "OPTION", "SET", "SPLIT", "pairs"]

DATA = typer.Option("--data", help="The folder with the data set's files.")
JSON = typer.Option("--json", help="As one JSON object.")
OPTION = typer.Option("--option", help="key=value: an option of its reader; may be repeated.")
SET = typer.Option("--set", help="key=value: override one key of the config.")
SPLIT = typer.Option("--split", help="FILE:PART, for example split.json:test")
CALIBRATE = typer.Option(
    "--calibrate", help="Seconds of each subject's rest that a bundle learns on."
)


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """["key=value", ...] as a map; raises ConfigError for what is none."""
    made = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{text}: expected key=value, for example folds.seed=3")
        made[key] = value
    return made
