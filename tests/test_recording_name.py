"""The names of recordings: LabRecorder's placeholders, UTC, nothing overwritten."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.errors import ConfigError, ResourceError
from engine.log import expand_name


def test_names_take_labrecorders_placeholders_in_utc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    name = expand_name(f"{tmp_path}/sub-%p/ses-%s/%t_100%%_%n.mcap", "p01", 1769903999.9)
    monkeypatch.undo()
    time.tzset()
    assert name == tmp_path / "sub-p01/ses-001/20260131T235959Z_100%_001.mcap"
    assert not name.parent.exists()


def test_a_counter_goes_on_to_the_next_free_name_and_a_fixed_name_is_refused(
    tmp_path: Path,
) -> None:
    for n in (1, 2):
        (tmp_path / f"run-{n:03d}.mcap").touch()
    assert expand_name(f"{tmp_path}/run-%n.mcap", "p", None) == tmp_path / "run-003.mcap"
    with pytest.raises(ResourceError, match=r"run-001\.mcap exists.*put %t or %n"):
        expand_name(f"{tmp_path}/run-001.mcap", "p", 0.0)


@pytest.mark.parametrize("template", ["a_%q.mcap", "a_%", "a_%t.mcap"])
def test_a_name_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="recording name 'a_%"):
        expand_name(template, "p", None)
