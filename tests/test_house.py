"""The house as a whole: the command starts anywhere, stays light, and the text names no machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VAGUS = Path(sys.executable).parent / "vagus"
TIMEOUT_S = 120

# Written so that this file does not hold what it looks for.
REGISTRIES = re.compile(r"py[p]i\.org|python[h]osted|ana[c]onda\.org|download\.pyt[o]rch\.org")
MACHINE_PATHS = re.compile(r"(?<![\w.~$}-])/(?:r[o]ot|h[o]me|w[o]rk|U[s]ers)/\w")
TEXT = {"", ".cfg", ".md", ".py", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ".html", ".js"}


def files() -> list[Path]:
    """The files of the repository: what git keeps or would keep, else all that is visible."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(part in (".git", ".venv") for part in path.relative_to(ROOT).parts)
        ]
    return [path for path in paths if path.is_file() and path.suffix in TEXT]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder whose own packages have the names of ours."""
    for name in ("engine", "sources", "sinks", "offline", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    return tmp_path


def test_the_command_starts_in_a_folder_with_packages_of_the_same_names(crowded: Path) -> None:
    told = run(VAGUS, "--version", cwd=crowded)
    assert (told.returncode, told.stdout) == (0, f"vagus {version('vagus')}\n")
    helped = run(VAGUS, "--help", cwd=crowded)
    assert helped.returncode == 0, helped.stderr
    for entry in entry_points(group="vagus.commands"):
        assert re.search(rf"^  {entry.name}\b", helped.stdout, re.MULTILINE), entry.name
    assert "not available" not in helped.stdout


def test_a_shipped_config_is_found_from_anywhere(crowded: Path) -> None:
    checked = run(VAGUS, "check", "demo", cwd=crowded)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("package", ["engine", "sources", "sinks"])
def test_live_commands_load_without_torch_and_the_heavy_readers(
    package: str, tmp_path: Path
) -> None:
    code = f"""
import sys
from engine import cli, plugins
from importlib.metadata import entry_points
for entry in entry_points(group="vagus.commands"):
    if entry.module.partition(".")[0] == {package!r}:
        plugins.load("vagus.commands", entry.name)
heavy = {{"torch", "mne", "sklearn", "matplotlib", "librosa", "cv2", "offline"}}
print(sorted(heavy & sys.modules.keys()))
"""
    loaded = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (loaded.returncode, loaded.stdout) == (0, "[]\n"), loaded.stderr


def test_starting_the_command_loads_neither_numpy_nor_pydantic(tmp_path: Path) -> None:
    code = "import sys, engine.cli; print(sorted({'numpy', 'pydantic', 'typer'} & {*sys.modules}))"
    assert run(sys.executable, "-c", code, cwd=tmp_path).stdout == "[]\n"


def test_no_file_names_a_package_registry_or_a_path_of_some_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{n}: {line.strip()}"
        for path in files()
        for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if REGISTRIES.search(line) or MACHINE_PATHS.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"see https://example.org/{'home'}/page", False),
        (f"open('/{'home'}/me/x')", True),
        (f"path: /{'work'}/x", True),
        (f"../{'work'}/x", False),
    ],
)
def test_the_search_for_machine_paths_knows_them_from_addresses(line: str, found: bool) -> None:
    assert bool(MACHINE_PATHS.search(line)) is found


def test_constraints_hold_nothing_but_versions() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9_.-]+(==|>=)[\w.,<!]+", line), line


def test_every_python_block_of_the_documents_compiles() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        for block in blocks:
            compile(block, path.name, "exec")


def test_every_command_that_make_and_ci_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert {"demo", "test", "check", "bench", "soak", "bundles"} <= targets
    used = set(re.findall(r"\$\(BIN\)/vagus (\w+)", makefile))
    assert used <= {entry.name for entry in entry_points(group="vagus.commands")}
    ci = ROOT / ".ci" / "run"
    assert os.access(ci, os.X_OK)
    assert "make test" in ci.read_text()
