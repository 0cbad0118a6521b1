"""The options that several commands of the offline module share."""

from __future__ import annotations

import typer

__all__ = ["CALIBRATE", "DATA", "JSON", "OPTION", "SET", "SPLIT"]

DATA = typer.Option("--data", help="The folder with the data set's files.")
JSON = typer.Option("--json", help="As one JSON object.")
OPTION = typer.Option("--option", help="key=value: an option of its reader; may be repeated.")
SET = typer.Option("--set", help="key=value: override one key of the config.")
SPLIT = typer.Option("--split", help="FILE:PART, for example split.json:test")
CALIBRATE = typer.Option(
    "--calibrate", help="Seconds of each subject's rest that a bundle learns on."
)
