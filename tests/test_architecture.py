"""The arrows between the packages, read out of the source: who imports whom, and what is loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "sources", "sinks", "offline", "configs")
OURS = {*PACKAGES, "benchmarks", "tests"}
MAY_IMPORT = {
    "engine": {"engine"},
    "sources": {"sources", "engine"},
    "sinks": {"sinks", "engine"},
    "offline": {"offline", "engine", "sources"},
    "configs": set(),
}
WITH_TORCH = ("engine/networks/", "engine/runtime_torch.py", "offline/")
OFFLINE_ONLY = {"librosa", "matplotlib", "mne", "sklearn"}
DEVICES = {"cv2", "pylsl", "sounddevice"}
MAX_LINES = 350

FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MODULES = [path for path in FILES if path.read_text().strip()]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name_of(path))


def imports(node: ast.AST, *, inside_functions: bool = True) -> Iterator[str]:
    """The top-level packages that `node` imports; relative imports give nothing."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.level == 0:
            yield (child.module or "").partition(".")[0]
        elif inside_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(child, inside_functions=inside_functions)


def bound(module: ast.Module) -> set[str]:
    """The names that a module has once it is imported; those for type checkers load lazily."""
    names: set[str] = set()
    checked = [n for n in module.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n)]
    for node in [*module.body, *(inner for block in checked for inner in block.body)]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return names


def exported(module: ast.Module) -> list[str] | None:
    """What `__all__` says, if it is there and spelled out."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def test_the_packages_are_where_these_tests_look() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} >= {"engine", "configs"}


@each_module
def test_imports_follow_the_arrows(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert set(imports(tree(path))) & OURS <= MAY_IMPORT[package]


@each_module
def test_torch_is_imported_only_where_networks_live(path: Path) -> None:
    if not name_of(path).startswith(WITH_TORCH):
        assert "torch" not in set(imports(tree(path)))


@each_module
def test_heavy_readers_are_not_loaded_by_importing_a_live_module(path: Path) -> None:
    if not name_of(path).startswith("offline/"):
        assert not OFFLINE_ONLY & set(imports(tree(path), inside_functions=False))


@each_module
def test_device_libraries_are_not_loaded_by_importing_a_module(path: Path) -> None:
    assert not DEVICES & set(imports(tree(path), inside_functions=False))


@each_module
def test_imports_are_absolute(path: Path) -> None:
    relative = [n for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and n.level]
    assert not relative


@each_module
def test_the_first_line_says_what_the_file_knows(path: Path) -> None:
    assert ast.get_docstring(tree(path))
    assert path.read_text().startswith('"""')


@each_module
def test_no_file_is_too_long_to_be_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@each_module
def test_public_names_stand_in_all_and_exist(path: Path) -> None:
    module = tree(path)
    public = {
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    if not public and exported(module) is None:
        return
    names = exported(module)
    assert names is not None, "a module with public names needs an explicit __all__"
    assert len(names) == len(set(names))
    assert set(names) <= bound(module)
    assert public <= set(names)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", {"torch"}),
        ("def f():\n    from mne.io import read", {"mne"}),
        ("if True:\n    import cv2", {"cv2"}),
        ("from . import x", set()),
    ],
)
def test_the_reader_of_imports_sees_them_at_any_depth(source: str, found: set[str]) -> None:
    assert set(imports(ast.parse(source))) == found


def test_the_reader_of_imports_tells_lazy_ones_apart() -> None:
    module = ast.parse("class A:\n    import mne\n    def f(self):\n        import cv2")
    assert set(imports(module, inside_functions=False)) == {"mne"}
