"""The pages in docs/ name everything there is, and point to what exists."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from engine.config.model import Config
from engine.config.settings import StreamConfig
from engine.control import ERROR_CODES, VERBS
from engine.wire import EVENT_CODES, KINDS
from offline.readers import DATASETS, reader
from sources.faults import KINDS as FAULTS
from sources.files import READABLE
from sources.replay import ReplaySource
from sources.simulate import SimulateSource

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def words(page: str) -> set[str]:
    """Every word that stands in a page as code, or anywhere in it in full."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return set(re.findall(r"[A-Za-z0-9_.-]*[A-Za-z0-9_]", text))


def plugged(group: str) -> list[str]:
    return sorted({e.name for e in entry_points(group=f"vagus.{group}")})


def keys(source: type) -> list[str]:
    """What a config may give to a source; the engine gives the rest."""
    return sorted(set(inspect.signature(source).parameters) - {"clock", "stream", "origin_s"})


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/wire.md", [*VERBS, *EVENT_CODES, *KINDS, *ERROR_CODES]),
        ("docs/configs.md", [*Config.model_fields, *StreamConfig.model_fields]),
        ("docs/configs.md", plugged("sources")),
        ("docs/training.md", plugged("steps")),
        ("docs/training.md", plugged("features")),
        ("docs/training.md", plugged("networks")),
        ("docs/training.md", list(DATASETS)),
        ("docs/files.md", [*plugged("datasets"), *READABLE, *FAULTS]),
        ("docs/files.md", [name for d in DATASETS for name in getattr(reader(d), "OPTIONS", {})]),
        ("docs/files.md", keys(ReplaySource)),
        ("docs/files.md", keys(SimulateSource)),
        ("docs/sinks.md", plugged("sinks")),
        ("README.md", plugged("commands")),
    ],
)
def test_a_page_names_all_there_is(page: str, names: list[str]) -> None:
    assert names
    missing = sorted(set(names) - words(page))
    assert not missing, f"{page} does not name {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if not link.startswith(("http:", "https:"))]
    gone = [link for link in inside if not (page.parent / link).exists()]
    assert not gone
