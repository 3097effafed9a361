"""Backups while the daemon writes, restoring one, the copy before a migration."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from guardian import backup as backups
from guardian import schema
from guardian.cli import cli
from guardian.const import NS
from guardian.incidents import IncidentEvent
from guardian.migrations import MIGRATIONS
from guardian.store import Store, StoreError
from tests.test_store import (
    NOW,
    conns,
    device,
    incident,
    killed,
    path,
    rows,
    sentence,
    step,
    writer,
)

__all__ = ["path", "writer"]  # fixtures


def test_a_copy_is_of_one_moment_while_the_daemon_writes(
    path: Path, writer: subprocess.Popen[str]
) -> None:
    counts = []
    for _ in range(5):
        copy, _ = backups.backup(path, path.parent / "backups", keep=3)
        incidents = rows(copy, "SELECT count(*) FROM incidents")[0][0]
        assert rows(copy, "SELECT sum(count) FROM connections")[0][0] == 20 * incidents
        assert rows(copy, "SELECT count(*) FROM outbox")[0][0] == incidents
        counts.append(incidents)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert writer.poll() is None
    kept = [f.name for f in copy.parent.iterdir()]
    assert len(kept) == 3
    assert copy.name in kept
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640


def test_a_large_copy_does_not_hold_up_the_writer(path: Path) -> None:
    store = Store(path, commit_s=0.0)
    for i in range(20):
        step(store, conns(500, 500 * i), now=NOW + i)
    thread = threading.Thread(target=backups.backup, args=(path, path.parent / "b"))
    thread.start()
    i = 0
    while thread.is_alive():
        assert step(store, conns(1, 100_000 + i), now=NOW + 100 + i)
        i += 1
    thread.join()
    assert i
    store.close(NOW)


def test_restoring_as_the_document_says(path: Path) -> None:
    """Stop, put the copy in its place without the old WAL, start."""
    store = Store(path)
    step(store, conns(10), devices=[device()], events=[IncidentEvent("opened", incident())])
    store.name_device(device().key, "Hall camera")
    copy, _ = backups.backup(path, path.parent / "backups")
    step(store, conns(10, 100), now=NOW + 60 * NS)
    wal = path.with_name(path.name + "-wal")
    left = wal.read_bytes()
    killed(store)
    wal.write_bytes(left)  # as a kill leaves it; it does not belong to the copy
    for name in (path.name + "-wal", path.name + "-shm"):
        path.with_name(name).unlink(missing_ok=True)
    shutil.copyfile(copy, path)
    with Store(path) as again:
        assert again.installation == store.installation
        assert again.names() == {device().key: "Hall camera"}
        assert [i.id for i in again.open_incidents()] == ["i1"]
        step(again, conns(1, 500), now=NOW + 90 * NS)
    assert rows(path, "SELECT count(*) FROM connections")[0][0] == 11


def test_the_command(path: Path) -> None:
    Store(path).close(NOW)
    done = CliRunner().invoke(cli, ["backup", "--db", str(path)])
    assert done.exit_code == 0, done.output
    assert (path.parent / "backups").is_dir()
    assert done.output.startswith(str(path.parent / "backups" / "guardian-"))
    again = CliRunner().invoke(cli, ["backup", "--db", str(path), "--keep", "1"])
    assert "1 older removed" in again.output
    assert len(list((path.parent / "backups").iterdir())) == 1


def test_what_is_no_backup_stays(path: Path) -> None:
    Store(path).close(NOW)
    folder = path.parent / "b"
    folder.mkdir()
    for name in ("guardian-1.db", "other-20260101-000000.db", "guardian-20260101-000000.db"):
        (folder / name).write_text("x")
    (folder / "guardian-20260101-000001.db.part").write_text("cut off")
    backups.backup(path, folder, keep=1)
    left = {f.name for f in folder.iterdir()}
    assert {"guardian-1.db", "other-20260101-000000.db"} <= left
    assert len(left) == 3


def test_where_it_cannot_be_is_one_sentence_and_leaves_nothing(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        backups.backup(path, tmp_path / "b")
    sentence(error, "there is no database")
    Store(path).close(NOW)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        backups.backup(path, tmp_path / "file")
    sentence(error, "cannot back up", "--to")
    full = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with path.open("r+b") as file:
        file.truncate(full + (1 << 40))  # a file with a hole: larger than any disk
    with pytest.raises(StoreError) as error:
        backups.backup(path, tmp_path / "b")
    sentence(error, "no room", "--to")
    assert list((tmp_path / "b").iterdir()) == []


def test_a_damaged_database_makes_no_backup(path: Path) -> None:
    store = Store(path)
    step(store, conns(400))
    store.close(NOW)
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * (path.stat().st_size - 4_096))
    with pytest.raises(StoreError) as error:
        backups.backup(path, path.parent / "b")
    sentence(error, "cannot back up")
    assert list((path.parent / "b").iterdir()) == []


def test_a_database_of_version_1_is_copied_and_converted(path: Path) -> None:
    """It may hold a capture twice, which then stands there once."""
    with closing(schema.open_writer(path, MIGRATIONS[:1])) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(connections)")][1:]
        values = dict.fromkeys(columns, 0) | {"uid": "C1", "ts": 5}
        for n in (1, 2):
            values |= {"orig_pkts": n}
            db.execute(
                f"INSERT INTO connections ({', '.join(columns)}) "
                f"VALUES ({', '.join('?' * len(columns))})",
                [values[c] for c in columns],
            )
            db.execute(
                "INSERT INTO incidents VALUES ('i', 'd', '', '', '', 1, 2, NULL, 'low', 'scan', "
                "'scan', 'model', 1, 'x', 'y', '{}', 1, '', NULL) ON CONFLICT DO NOTHING"
            )
            db.execute("INSERT INTO incident_events VALUES (NULL, 'i', 1, 'opened', 'low', 1)")
    Store(path).close(NOW)
    assert [r["orig_pkts"] for r in rows(path, "SELECT * FROM connections")] == [2]
    assert len(rows(path, "SELECT * FROM incident_events")) == 1
    copy = path.with_name("guardian.db.v1.bak")
    with closing(sqlite3.connect(copy)) as old:
        assert old.execute("SELECT count(*) FROM connections").fetchone() == (2,)
        assert old.execute("PRAGMA user_version").fetchone() == (1,)


def test_no_migration_without_a_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.open_writer(path, MIGRATIONS[:1]).close()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(schema, "copy_to", full)
    with pytest.raises(StoreError) as error:
        Store(path)
    sentence(error, "disk is full")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_replay_twice_stands_there_once(tmp_path: Path) -> None:
    from guardian.simulate import SCENARIOS, simulate  # noqa: PLC0415

    home, db = tmp_path / "home.pcap", tmp_path / "g.db"
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.2), home)
    sums = (
        "SELECT count(*), sum(count), sum(orig_pkts), sum(threat) FROM connections",
        "SELECT count(*), sum(count), max(closed) FROM incidents",
        "SELECT count(*), sum(score), 0 FROM incident_events",
    )
    found = []
    for times in (1, 2):
        done = CliRunner().invoke(cli, ["replay", *[str(home)] * times, "--db", str(db)])
        assert done.exit_code == 0, done.output
        assert ("was given before and is read once" in done.output) is (times == 2)
        found.append([tuple(rows(db, sql)[0]) for sql in sums])
    assert found[0] == found[1]
    assert found[0][0][0] > 100
    assert found[0][1][0] == 1
