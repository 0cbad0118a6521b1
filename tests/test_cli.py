"""The command: which module is loaded for it, and which exit code an error becomes."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from engine import cli, plugins
from engine.errors import AccountError, ConfigError, DataError, ResourceError

sub = typer.Typer(help="Sub-commands of one.")


@sub.command()
def show(name: str) -> None:
    """Show one."""
    print(f"shown {name}")


@sub.command()
def verify(name: str) -> None:
    """Verify one."""
    raise DataError(f"{name} is broken")


def greet(name: str, loud: Annotated[bool, typer.Option(help="Shout.")] = False) -> None:
    """Greet somebody."""
    print(f"hello {name}{'!' if loud else ''}")


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        """Go wrong."""
        raise error

    return command


def lazy() -> None:
    """Import what is not there."""
    raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The commands there are; a value that is an exception is raised on loading."""
    there: dict[str, Any] = {"greet": greet, "bundle": sub}

    def load(group: str, name: str) -> Any:
        assert group == "vagus.commands"
        if isinstance(there[name], Exception):
            raise there[name]
        return there[name]

    monkeypatch.setattr(plugins, "names", lambda group: tuple(sorted(there)))
    monkeypatch.setattr(plugins, "load", load)
    return there


def offer(monkeypatch: pytest.MonkeyPatch, *offers: EntryPoint) -> None:
    """Make `offers` the only entry points of the group vagus.things."""
    table: dict[str, tuple[EntryPoint, ...]] = {}
    for one in offers:
        table[one.name] = (*table.get(one.name, ()), one)
    monkeypatch.setattr(plugins, "_entries", lambda group: table)


def test_a_function_becomes_a_command(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["greet", "Ada", "--loud"]) == 0
    assert capsys.readouterr().out == "hello Ada!\n"


def test_an_app_becomes_a_command_with_sub_commands(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bundle", "show", "x"]) == 0
    assert capsys.readouterr().out == "shown x\n"
    assert cli.main(["bundle", "verify", "x"]) == 2
    assert capsys.readouterr().err == "x is broken\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a"), 2),
        (DataError("a"), 2),
        (ResourceError("a"), 3),
        (AccountError("a"), 1),
        (typer.Exit(7), 7),
        (KeyboardInterrupt(), 130),
        (SystemExit("a"), 1),
    ],
)
def test_errors_become_exit_codes_and_one_message(
    commands: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    commands["fail"] = raising(error)
    assert cli.main(["fail"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ("a\n" if str(error) == "a" else "")


def test_an_unknown_exception_is_our_fault_and_hints_at_the_traceback(
    commands: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VAGUS_TRACEBACK", raising=False)
    commands["fail"] = raising(ValueError("odd"))
    assert cli.main(["fail"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("internal error: ValueError: odd (test_cli.py:")
    assert "Traceback" not in err
    monkeypatch.setenv("VAGUS_TRACEBACK", "1")
    assert cli.main(["fail"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_long_message_is_cut_to_one_screen(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    commands["fail"] = raising(DataError("\n".join("x" * 100)))
    assert cli.main(["fail"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 24
    assert lines[-1] == "... and 77 more lines"


def test_an_unknown_command_names_the_nearest(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["gret"]) == 2
    assert capsys.readouterr().err == "no command is called 'gret'; did you mean 'greet'?\n"
    assert cli.main(["--loud"]) == 2
    assert "no option '--loud'" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["greet"], ["greet", "a", "--lod"], ["bundle", "sho"]])
def test_wrong_arguments_exit_with_2_and_say_so(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    assert cli.main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: vagus" in captured.err
    assert len(captured.err.splitlines()) < 10


def test_only_the_module_of_the_asked_command_is_loaded(commands: dict[str, Any]) -> None:
    commands["broken"] = ImportError("nothing here")
    assert cli.main(["greet", "Ada"]) == 0
    assert cli.main(["broken"]) == 1


def test_help_lists_every_command_and_names_what_one_of_them_lacks(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    commands["train"] = ResourceError("command 'train' needs x: pip install 'vagus[offline]'")
    assert cli.main(["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "greet Greet somebody." in out
    assert "bundle Sub-commands of one." in out
    assert "pip install 'vagus[offline]'" in out
    assert "--version" in out


def test_help_of_a_command_shows_its_options(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["greet", "--help"]) == 0
    assert "Shout." in capsys.readouterr().out


def test_no_command_at_all_shows_the_help_and_is_a_mistake(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([]) == 2
    assert "Usage: vagus" in capsys.readouterr().out


def test_version_tells_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vagus {version('vagus')}\n"


def test_threads_are_calm_unless_the_user_says_otherwise(
    commands: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cli.main(["greet", "Ada"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_a_package_missing_while_a_command_runs_names_the_extra(
    commands: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (train,) = entry_points(group="vagus.commands", name="train")
    monkeypatch.setattr(plugins, "_entries", lambda group: {"train": (train,)})
    monkeypatch.setattr(plugins, "find_spec", lambda name: None)
    commands["train"] = lazy
    assert cli.main(["train"]) == 3
    assert capsys.readouterr().err == (
        "command 'train' needs the package 'scikit-learn': pip install 'vagus[offline]'\n"
    )


def test_every_declared_plug_in_is_known_by_name() -> None:
    assert {"run", "check", "demo", "train"} <= set(plugins.names("vagus.commands"))
    assert {"replay", "simulate"} <= set(plugins.names("vagus.sources"))
    assert plugins.names("vagus.nothing") == ()


def test_an_unknown_plug_in_names_the_nearest_and_the_known() -> None:
    with pytest.raises(ConfigError) as told:
        plugins.load("vagus.sources", "simulat")
    assert str(told.value).startswith("no source is called 'simulat' (known: ")
    assert str(told.value).endswith("simulate); did you mean 'simulate'?")


def test_a_plug_in_that_lacks_a_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, EntryPoint("x", "no_such_package_here.module:x", "vagus.things"))
    with pytest.raises(ResourceError, match="thing 'x' needs the package 'no-such-package-here'"):
        plugins.load("vagus.things", "x")


def test_a_broken_installation_is_not_taken_for_a_missing_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, EntryPoint("x", "engine.no_such_module:x", "vagus.things"))
    with pytest.raises(ModuleNotFoundError):
        plugins.load("vagus.things", "x")


def test_two_packages_that_offer_one_name_differently_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = [EntryPoint("x", f"engine.{m}:main", "vagus.things") for m in ("cli", "config")]
    offer(monkeypatch, *offers)
    with pytest.raises(ConfigError, match="two packages offer a thing 'x'"):
        plugins.load("vagus.things", "x")
    offer(monkeypatch, offers[0], offers[0])
    assert plugins.load("vagus.things", "x") is cli.main


def test_a_plug_in_of_another_package_is_found_once_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vagus.things]\nmine = other_things:Mine\n")
    (tmp_path / "other_things.py").write_text('"""Another package."""\n\n\nclass Mine: ...\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.load("vagus.things", "mine").__name__ == "Mine"
