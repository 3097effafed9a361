"""What a kill or a power cut lost is counted, once, and said at the next start."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from guardian import lock
from guardian.const import NS
from guardian.store import Store
from tests.test_store import NOW, conns, killed, step


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of seven connections whose writer was killed with five more in its hands."""
    path = tmp_path / "g.db"
    store = Store(path)
    step(store, conns(7), now=NOW)
    assert step(store, now=NOW + 3_600 * NS)
    step(store, conns(5, start=7), now=NOW + 3_600 * NS + 1)
    killed(store)
    return path


def lost_in_all(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT value FROM meta WHERE key = 'lost_connections'").fetchall()
    return str(rows[0][0]) if rows else ""


def test_a_kill_is_told_to_the_last_connection(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Store(path) as store:
        assert store.lost == 5
        step(store, conns(2, start=20), now=NOW)
    assert "5 connections of its last seconds were not yet written" in caplog.text
    assert lost_in_all(path) == "5"
    caplog.clear()
    again = Store(path)
    assert again.lost == 0  # it ended well in between
    assert step(again, now=NOW + 7_200 * NS)
    step(again, conns(3, start=30), now=NOW + 7_200 * NS + 1)
    killed(again)
    with Store(path) as store:
        assert store.lost == 3
    assert lost_in_all(path) == "8"


def test_what_a_power_cut_lost_is_not_known_and_that_is_said(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_boot", lambda: b"another boot".ljust(36, b"\0"))
    with Store(path) as store:
        assert store.lost is None
    assert "cut off with the machine" in caplog.text
    assert lost_in_all(path) == "0"


@pytest.mark.parametrize("content", [b"", b"short", bytes(44), b"\xff" * 200])
def test_a_note_that_is_none_is_not_believed(path: Path, content: bytes) -> None:
    note = path.with_name(path.name + ".lock")
    note.write_bytes(content)
    with Store(path) as store:
        assert store.lost is None


def test_a_start_and_an_end_without_a_packet_change_nothing(path: Path) -> None:
    with Store(path) as store:
        before = store.last_commit
    assert before > NOW
    with Store(path) as store:
        assert store.last_commit == before


def test_the_log_says_nothing_after_a_clean_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for k in range(3):
        with Store(tmp_path / "clean.db") as store:
            assert store.lost == 0
            step(store, conns(4, start=4 * k), now=NOW + k)
    assert "cut off" not in caplog.text
