"""The commands `export` and `purge`: recordings for others, and their end."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import ConfigError

__all__ = ["export", "purge"]

_KEY_FILE = Path("vagus-pseudonyms.json")


def export(
    recording: Annotated[Path, typer.Argument(help="A recording (.mcap).")],
    to: Annotated[str, typer.Option("--to", help="xdf, edf, bids, csv or emotionml.")],
    out: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT]", help="A folder, or the file; else beside it."),
    ] = None,
    pseudonymise: Annotated[
        bool, typer.Option("--pseudonymise", help="Other names, other days, no face, no voice.")
    ] = False,
    key: Annotated[
        Path, typer.Option("--key", help="Where names and pseudonyms are kept: not with the data.")
    ] = _KEY_FILE,
) -> None:
    """Write a recording in a format that others read.

    \b
    xdf        every stream with its own stamps and clock offsets, predictions, markers, events
    edf        a file per EEG or physiological stream, 16 bits, markers as annotations
    bids       a data set in OUT, to which more recordings may be added
    csv        tables of everything; sound as WAV, pictures as files
    emotionml  the predictions

    \b
    vagus export p01.mcap --to xdf
    vagus export p01.mcap out/study --to bids --pseudonymise --key ~/study.json

    What a format has no place for is said. With --pseudonymise the key file, made if it is
    missing, says which pseudonym is whose: keep it apart, and delete it to make the export
    anonymous as far as names go.
    """
    from sinks.export import Pseudonyms, Recorded
    from sinks.export import export as write

    where = out or _beside(recording, to, pseudonymise)
    hidden = None
    if pseudonymise:
        _demand_apart(key, where)
        hidden = Pseudonyms.load(key)
    recorded = Recorded.open(recording, hidden)
    if hidden is not None:
        hidden.save()  # before the first file exists that only the key can trace back
    for path in write(recorded, to, where):
        print(path)
    for warning in recorded.warnings:
        print(f"vagus: {warning}", file=sys.stderr)


def purge(
    session: Annotated[
        str | None, typer.Argument(help="A session's name, or one recording of it (.mcap).")
    ] = None,
    below: Annotated[
        Path, typer.Option("--in", help="The folder below which recordings are looked for.")
    ] = Path(),
    older: Annotated[
        bool,
        typer.Option(
            "--older-than-retention", help="Only what is kept longer than retention_days."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only list.")] = False,
) -> None:
    """Delete what a session stored: its recordings, and its lines in the files of its sinks.

    \b
    vagus purge p01                            # lists what would go
    vagus purge p01 --yes                      # and it is gone
    vagus purge --older-than-retention --yes   # all sessions, by the retention_days they declared

    Copies, backups and exports are not known to vagus: delete these yourself.
    """
    from sinks.purge import find, remove

    if session is None and not older:
        raise ConfigError("which session? vagus purge SESSION, or --older-than-retention for all")
    found = find(session, below, datetime.now(UTC).timestamp() if older else None)
    for why in found.unknown:
        print(f"vagus: not looked into: {why}", file=sys.stderr)
    for one in found.stored:
        print(f"{one.path}  {one.what}")
    n = len(found.stored)
    if not n:
        print("nothing to delete" if session is None else f"nothing of '{session}' to delete",
              file=sys.stderr)  # fmt: skip
    elif yes:
        remove(found.stored)
        print(f"{n} deleted; exports, copies and backups are yours to delete", file=sys.stderr)
    else:
        print(f"{n} to delete; give --yes to delete", file=sys.stderr)


def _beside(recording: Path, to: str, hidden: bool) -> Path:
    """Where an export goes that nobody gave a place; a data set has a folder of its own."""
    folder = recording.parent / "pseudonymised" if hidden else recording.parent
    return folder / "bids" if to == "bids" else folder


def _demand_apart(key: Path, out: Path) -> None:
    """The key beside the data would undo what it is for."""
    folder = out if out.suffix == "" else out.parent
    if key.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"--key {key} would lie with the export in {folder}: whoever gets the data must not "
            "get the names; choose another place for either"
        )
