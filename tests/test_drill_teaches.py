"""What a fire drill leaves in the database teaches nobody: rows of a device that does not exist."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from guardian import bundle as bundles
from guardian import firedrill, quietdays, rehearsal
from guardian.discovery import DRILL_MAC
from guardian.errors import InputError
from guardian.schema import open_reader
from guardian.store import Store
from guardian.storedconns import lived
from tests.test_handover import fill
from tests.test_hub import run
from tests.test_store import MAC, NOW
from trainer.sets import guardiandb


@pytest.fixture
def drilled(tmp_path: Path) -> Path:
    """The database of a daemon that rang its alarm, and then watched on until all was written."""
    path = tmp_path / "state" / "guardian.db"
    path.parent.mkdir()
    with Store(path) as store:
        running = run(bundles.load(bundles.default_path()), store)
        running.hub.drill.start()
        running.tick(200)
        assert running.hub.drill.last
    return path


def test_a_drill_teaches_nothing(drilled: Path, tmp_path: Path) -> None:
    with closing(open_reader(drilled)) as db:
        rows = db.execute("SELECT device, orig_h, count FROM connections").fetchall()
        assert sum(count for _, _, count in rows) == firedrill.SYNS
        assert {row[:2] for row in rows} == {(DRILL_MAC, firedrill.ADDRESS)}
        assert lived(db).fetchall() == []
    with pytest.raises(InputError, match="no connections yet"):
        guardiandb.stream_of(drilled)
    with closing(sqlite3.connect(drilled, isolation_level=None)) as db:
        fill(db, "connections", device=MAC, orig_h="192.168.1.5", resp_h="9.9.9.9", ts=NOW, count=1,
             uid="C1", local_orig=1)  # fmt: skip
    with closing(open_reader(drilled)) as db:
        db.row_factory = sqlite3.Row
        assert db.execute("SELECT device FROM incidents").fetchone()["device"] == DRILL_MAC
        kept = rehearsal._kept(db, 0)
        assert kept.records.uid.tolist() == [b"C1"]
        assert kept.incidents == []
    assert guardiandb.stream_of(drilled).slices.uid.tolist() == [b"C1"]
    copy = quietdays.lay_out(drilled, tmp_path / "handover", NOW)
    assert copy is not None
    with closing(open_reader(copy)) as db:
        assert db.execute("SELECT uid FROM connections").fetchall() == [("C1",)]
