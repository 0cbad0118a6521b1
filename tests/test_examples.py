"""What the documentation shows runs as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.test_speech import SMALL, clips  # noqa: F401 (a fixture)

ROOT = Path(__file__).resolve().parents[1]


def cells(notebook: Path) -> list[str]:
    """The code of a notebook, cell by cell."""
    told = json.loads(notebook.read_text())
    return ["".join(c["source"]) for c in told["cells"] if c["cell_type"] == "code"]


@pytest.mark.slow
def test_the_speech_notebook_runs_from_top_to_bottom(
    clips: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VAGUS_DATA", str(clips))
    monkeypatch.setenv("VAGUS_OUT", str(tmp_path))
    monkeypatch.setenv("VAGUS_CHANGES", json.dumps(SMALL | {"speech.seeds": "[0]"}))
    names: dict[str, object] = {}
    for cell in cells(ROOT / "docs" / "examples" / "speech.ipynb"):
        exec(compile(cell, "speech.ipynb", "exec"), names)
    assert re.search(r"UAR \d\.\d{3} \[", capsys.readouterr().out)
    assert (tmp_path / "speech-4" / "confusion.png").stat().st_size > 1000


def test_the_first_python_example_predicts() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    names: dict[str, object] = {}
    exec(compile(blocks[0], "python.md", "exec"), names)
    assert names["player"].session.done  # type: ignore[attr-defined]
