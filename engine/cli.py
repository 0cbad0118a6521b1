"""The command `vagus`: finds the command that was asked for, and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from engine import plugins
from engine.errors import ConfigError, UserError, VagusError

if TYPE_CHECKING:
    import typer

__all__ = ["main"]

COMMANDS = "vagus.commands"
MAX_LINES = 24  # one screen
INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run `vagus ARGS...` (default: the process's) and return its exit code.

    0 done, 1 our fault, 2 the user's mistake, 3 a resource is missing or busy, 130 interrupted.
    """
    _calm_threads()
    try:
        return _dispatch(list(sys.argv[1:] if args is None else args))
    except VagusError as error:
        _tell(str(error))
        return error.exit_code
    except SystemExit as stop:  # how typer ends, also after --help and wrong options
        if isinstance(stop.code, str):
            _tell(stop.code)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("VAGUS_TRACEBACK"):
            traceback.print_exception(error)
        else:
            _tell(_our_fault(error))
        return 1


def _calm_threads() -> None:
    """One thread per runtime that does not spin, set before anything heavy reads it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _dispatch(args: list[str]) -> int:
    first = args[0] if args else None
    if first == "--version":
        print(f"vagus {version('vagus')}")
        return 0
    if first is None or first in ("--help", "-h"):
        _overview()(["--help"], prog_name="vagus", standalone_mode=False)
        return 0 if args else UserError.exit_code
    if first.startswith("-"):
        raise ConfigError(f"no option {first!r} before the command; try: vagus --help")
    known = plugins.names(COMMANDS)
    if first not in known:
        hint = plugins.nearest(first, known) or "; vagus --help lists them"
        raise ConfigError(f"no command is called {first!r}{hint}")
    app = _empty()
    _add(app, first, plugins.load(COMMANDS, first))
    try:
        app(args, prog_name="vagus")
    except ModuleNotFoundError as error:  # commands import what is heavy when they need it
        lack = plugins.lacking(COMMANDS, first, error)
        if lack is None:
            raise
        raise lack from error
    return 0


def _empty() -> typer.Typer:
    """An app without commands, which stays a group when it gets only one."""
    import typer

    app = typer.Typer(
        name="vagus", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )

    def vagus(
        version: bool = typer.Option(False, "--version", help="Show the version and exit."),
    ) -> None:
        """Streaming emotion recognition: EEG, physiology, voice and face."""

    app.callback()(vagus)
    return app


def _overview() -> typer.Typer:
    """The app with every command, for --help; a command that cannot be loaded says why."""
    app = _empty()
    for name in plugins.names(COMMANDS):
        try:
            _add(app, name, plugins.load(COMMANDS, name))
        except Exception as error:  # one broken package must not hide the other commands
            why = " ".join(str(error).split()) or type(error).__name__
            app.command(name, short_help=f"(not available: {why})")(_nothing)
    return app


def _add(app: typer.Typer, name: str, command: Any) -> None:
    import typer

    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _nothing() -> None: ...


def _tell(text: str) -> None:
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        lines[MAX_LINES - 1 :] = [f"... and {len(lines) - MAX_LINES + 1} more lines"]
    print("\n".join(lines), file=sys.stderr)


def _our_fault(error: Exception) -> str:
    """What broke and where, in two lines."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return (
        f"internal error: {type(error).__name__}: {error}{where}\n"
        "This is a fault of vagus, not yours. VAGUS_TRACEBACK=1 shows where it comes from."
    )
