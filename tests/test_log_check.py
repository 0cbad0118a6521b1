"""The proof of a log: what it counts, and which broken laws it finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.clock import SettableClock
from engine.errors import DataError
from engine.log import LogWriter
from engine.log.check import check_log
from tests.logs import HEADER, STAGE, body, chunk, record


def test_the_report_counts_kinds_items_gaps_and_repeats(tmp_path: Path) -> None:
    big = 2**31 - 3

    def tell(log: LogWriter) -> None:
        log.chunk(chunk(big, 4))
        log.chunk(chunk(big + 4, 4))
        log.chunk(chunk(big + 11, 4))  # 3 items are missing
        log.chunk(chunk(big + 13, 4))  # 2 items come again
        log.chunk(chunk(0, 4, segment=1))
        log.chunk(chunk(0, 0, stream="bvp"))
        log.message("prediction", body(5, tick=9))
        log.message("prediction", body(6, tick=12))

    report = check_log(record(tmp_path / "a.mcap", tell))
    assert report.clean
    assert report.counts == {"header": 1, "chunk": 6, "prediction": 2, "end": 1}
    eeg, bvp = report.streams["eeg"], report.streams["bvp"]
    assert (eeg.n_chunks, eeg.n_items, eeg.n_segments) == (5, 20, 2)
    assert (eeg.n_gaps, eeg.n_missing, eeg.n_repeated) == (1, 3, 2)
    assert (bvp.n_chunks, bvp.n_items, bvp.n_gaps) == (1, 0, 0)
    assert (report.first_s, report.last_s) == (11.0, 12.0)
    assert report.account == {"eeg": {"steps": STAGE}}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([("prediction", body(0, tick=1)), ("prediction", body(0, tick=1))], "0 is doubled"),
        ([("prediction", body(0, tick=1)), ("prediction", body(1, tick=1))], "1 of tick 1"),
        ([("prediction", body(0, tick=1)), ("prediction", body(2, tick=2))], "2 follows 0"),
        ([("prediction", body(1, tick=1)), ("prediction", body(0, tick=2))], "0 follows 1"),
        ([("event", body(3)), ("event", body(3))], "event 3 is doubled"),
        ([("health", body(0, counters={"eeg": {"steps": {**STAGE, "in": 5}}}))], "not balance"),
        ([("health", body(0, counters={"eeg": {"steps": {}}}))], "no account"),
        ([("marker", b"\xc1")], "marker"),
    ],
)
def test_a_broken_law_of_the_messages_is_found(
    told: list[tuple[str, bytes]], why: str, tmp_path: Path
) -> None:
    def tell(log: LogWriter) -> None:
        for kind, one in told:
            log.message(kind, one)

    with pytest.raises(DataError, match=why):
        check_log(record(tmp_path / "a.mcap", tell))


def test_a_final_account_that_does_not_balance_is_found(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "a.mcap", HEADER, clock=SettableClock())
    log.close({"eeg": {"steps": {**STAGE, "held": 0}}})
    with pytest.raises(DataError, match=r"final account: eeg.steps does not balance: .* 5, .* 4"):
        check_log(log.path)
