"""The store when its disk is full, read-only, locked or spoiled: it says so and goes on."""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from guardian import commands, connrows, daemon, schema
from guardian.const import NS
from guardian.incidents import IncidentEvent
from guardian.outbox import MAX_WAITING, Message
from guardian.store import Store, StoreError
from tests.test_store import (
    MAC,
    NOW,
    ROOT,
    conns,
    device,
    incident,
    killed,
    rows,
    scored,
    step,
)

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guardian.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    if libc.mount(b"none", str(disk).encode(), b"tmpfs", 0, b"size=3m"):
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield disk
    finally:
        libc.umount2(str(disk).encode(), 2)


def remount(disk: Path, *, read_only: bool) -> None:
    flags = 32 | (1 if read_only else 0)  # MS_REMOUNT, MS_RDONLY
    assert not ctypes.CDLL(None).mount(b"none", str(disk).encode(), b"tmpfs", flags, b"size=3m")


def waiting_ids(store: Store) -> list[str]:
    return [json.loads(w.message.payload)["id"] for w in store.outbox.pending(0, 1 << 20)]


def told(name: str) -> dict[str, Any]:
    return {
        "events": [IncidentEvent("opened", incident(name))],
        "messages": [Message("t", json.dumps({"id": name}), "incident")],
    }


# --- no room ------------------------------------------------------------------------


def test_a_full_disk_is_told_and_what_waits_comes_when_there_is_room(small_disk: Path) -> None:
    path = small_disk / "guardian.db"
    store = Store(path, commit_s=5.0)
    step(store, devices=[device()])
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    said: list[str] = []
    for i in range(20):  # two minutes of packet time
        try:
            step(store, conns(100, 100 * i), now=NOW + 6 * (i + 1) * NS, **told(f"i{i}"))
        except StoreError as error:
            said.append(str(error))
    with pytest.raises(StoreError):
        store.commit(NOW + 200 * NS)
    assert said
    assert all("disk has room" in one and "\n" not in one for one in said)
    filler.unlink()
    store.commit(NOW + 201 * NS)
    assert waiting_ids(store) == [f"i{i}" for i in range(20)]
    assert len(store.open_incidents()) == 20
    assert rows(path, "SELECT sum(count) FROM connections")[0][0] == 2_000
    assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close(NOW + 202 * NS)


LIMITED = """
    import json, resource, signal, sys
    from pathlib import Path
    from tests.test_store_faults import *
    store = Store(Path(sys.argv[1]))
    step(store, devices=[device()])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    refused = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, most))
    for i in range(10):
        try:
            step(store, conns(200, 200 * i), now=NOW + 6 * (i + 1) * NS, **told(f"i{i}"))
        except StoreError:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    store.commit(NOW + 100 * NS)
    print(json.dumps([refused, waiting_ids(store)]))
    store.close(NOW)
"""


def test_a_limit_on_the_file_is_survived_too(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(path)],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, ids = json.loads(done.stdout)
    assert refused
    assert ids == [f"i{i}" for i in range(10)]
    assert rows(path, "SELECT sum(count) FROM connections")[0][0] == 2_000


def test_what_waits_for_a_disk_that_never_has_room_is_bounded(path: Path) -> None:
    store = Store(path)
    step(store)
    store._db.execute(
        f"PRAGMA max_page_count = {store._db.execute('PRAGMA page_count').fetchone()[0]}"
    )
    many = [Message("t", json.dumps({"id": i}), "event") for i in range(4_000)]
    for i in range(6):
        events = [IncidentEvent("opened", incident(f"i{4_000 * i + k}")) for k in range(4_000)]
        with pytest.raises(StoreError):
            step(store, conns(5_000, 5_000 * i), scored=scored(conns(5_000, 5_000 * i), 0.9, 2),
                 now=NOW + 6 * (i + 1) * NS, events=events, messages=many)  # fmt: skip
    assert len(store._messages) <= MAX_WAITING
    assert len(store._events) <= MAX_WAITING
    assert len(store._incidents) <= MAX_WAITING
    assert len(store._conns.rows) <= connrows.MAX_ROWS
    killed(store)


def test_the_file_never_passes_its_limit_and_keeps_the_newest(path: Path) -> None:
    """Twice what fits comes in; the limit is for the file and its WAL together."""
    store = Store(path, max_mib=24)
    store._conns = connrows.ConnRows(rows_per_device=10**9)
    largest = 0
    for i in range(40):
        part = conns(2_000, 2_000 * i)
        part.ts[:] += i * NS
        step(store, part, now=NOW + 6 * (i + 1) * NS, **told(f"i{i}"))
        sizes = (path, path.with_name(path.name + "-wal"))
        largest = max(largest, sum(f.stat().st_size for f in sizes))
        if i % 10 == 9:
            store.prune(NOW)
    assert largest <= 24 * MIB
    assert path.stat().st_size > 4 * MIB  # it is used, too
    kept = rows(path, "SELECT min(ts), max(ts), count(*) FROM connections")[0]
    assert kept[1] == NOW + 39 * NS + 1_999
    assert kept[0] > NOW
    assert 10_000 < kept[2] < 70_000
    assert len(store.open_incidents()) == 40
    store.close(NOW)
    smaller = Store(path, max_mib=20)
    while smaller.prune(NOW):
        pass
    smaller._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size <= 4 * MIB
    smaller.close(NOW)


# --- no right to write ---------------------------------------------------------------


def test_a_disk_that_is_read_only_at_the_start_is_one_sentence(small_disk: Path) -> None:
    path = small_disk / "guardian.db"
    Store(path).close(NOW)
    remount(small_disk, read_only=True)
    with pytest.raises(StoreError) as error:
        Store(path, rescue=True)
    assert "ead-only" in str(error.value)
    assert "\n" not in str(error.value)
    remount(small_disk, read_only=False)
    assert not list(small_disk.glob("*damaged*"))
    Store(path).close(NOW)


# --- locked --------------------------------------------------------------------------


def test_a_minute_of_another_writer_holds_nothing_up_and_loses_nothing(path: Path) -> None:
    store = Store(path, commit_s=30.0)
    step(store, devices=[device()], **told("before"))
    said: list[str] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        for second in range(1, 61):
            try:
                step(store, conns(5, 5 * second), now=NOW + second * NS, **told(f"i{second}"))
            except StoreError as error:
                said.append(str(error))
        with pytest.raises(StoreError, match="locked"):
            store.outbox.tried([1])
        with pytest.raises(StoreError, match="locked"):
            store.outbox.sent([1], NOW)
        # The ring's 8 MiB last for seconds, not for the wait of each step.
        assert time.monotonic() - begun < 10
        other.execute("ROLLBACK")
    assert 1 <= len(said) <= 4
    assert all("locked" in one for one in said)
    store.commit(NOW + 61 * NS)
    store.outbox.tried([1])
    store.outbox.sent([1], NOW + 62 * NS)
    assert waiting_ids(store) == [f"i{i}" for i in range(1, 61)]
    assert rows(path, "SELECT sum(count) FROM connections")[0][0] == 300
    store.close(NOW)


def test_a_reader_that_stays_for_a_minute_holds_nobody_up(path: Path) -> None:
    store = Store(path, max_mib=64)
    with closing(schema.open_reader(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM connections").fetchone()
        for i in range(12):
            assert step(store, conns(500, 500 * i), now=NOW + 6 * (i + 1) * NS)
        assert reader.execute("SELECT count(*) FROM connections").fetchone() == (0,)
    step(store, conns(1, 9_000), now=NOW + 100 * NS)
    assert rows(path, "SELECT sum(count) FROM connections")[0][0] == 6_001
    store.close(NOW)
    assert not path.with_name(path.name + "-wal").exists()


# --- spoiled -------------------------------------------------------------------------


def filled(path: Path, *, clean: bool = True) -> Store:
    """A database that knows a device by the user's name, a rule, an incident and connections."""
    store = Store(path, drop_box=True)
    step(store, conns(2_000), devices=[device()], **told("kept"))
    store.name_device(MAC, "Hall camera")
    wish = commands.new("allow", {"device": MAC, "peer": None, "cause": "c2", "until": None}, NOW)
    commands.give(path, wish)
    store.poll_commands(NOW)
    store.mark_done(wish.id, NOW)
    if clean:
        store.close(NOW)
    return store


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_none_goes_aside_and_watching_goes_on(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    with Store(path, rescue=True) as store:
        assert store.ended == "damaged"
        step(store, conns(3))
    assert rows(path, "SELECT count(*) FROM connections")[0][0] == 3
    aside = next(path.parent.glob("guardian.db.damaged-*"))
    assert aside.read_bytes() == content
    assert str(aside) in caplog.text
    assert "a new database was begun" in caplog.text
    assert "move it aside" not in caplog.text


@pytest.mark.parametrize("clean", [True, False])
def test_what_can_be_read_of_a_torn_file_is_taken_over(path: Path, clean: bool) -> None:
    first = filled(path, clean=False)
    installation = first.installation
    first._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with closing(sqlite3.connect(path)) as db:
        root = dict(db.execute("SELECT name, rootpage FROM sqlite_master").fetchall())
    if clean:
        first.close(NOW)
    else:
        killed(first)
    with path.open("r+b") as file:  # the connections' pages and their index are lost
        for name in ("connections", "connections_once"):
            file.seek((root[name] - 1) * 4_096)
            file.write(b"\xff" * 4_096)
    with Store(path, rescue=True) as store:
        # A clean end is believed; the tear shows when the next connection is to be written.
        assert (store.ended == "damaged") is not clean
        step(store, conns(10, 5_000), devices=[device()])
        assert store.ended == "damaged"
        assert store.names() == {MAC: "Hall camera"}
        assert [rule.cause for rule in store.rules(NOW + NS)] == ["c2"]
        assert [i.id for i in store.open_incidents()] == ["kept"]
        assert store.installation == installation
    assert rows(path, "SELECT count(*) FROM connections")[0][0] == 10
    assert len(list(path.parent.glob("guardian.db.damaged-*"))) == 1


def test_nonsense_in_a_damaged_file_is_not_taken_over(path: Path) -> None:
    store = filled(path, clean=False)
    db = store._db
    db.execute("INSERT INTO devices VALUES ('x', 'zz', 'Evil', '', '{', 0, 1, 1)")
    db.execute("UPDATE incidents SET evidence = '{}'")
    db.execute("INSERT INTO commands VALUES ('z', 1, 'x', 'allow', '[', 1, 'ok')")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    killed(store)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 40_960)
        file.write(b"\xff" * 40_960)
    with Store(path, rescue=True) as again:
        assert again.ended == "damaged"
        assert [d.key for d in again.devices()] == [MAC]
        assert again.open_incidents() == []
        assert len(again.rules(NOW + NS)) == 1


def test_damage_at_work_begins_anew_with_what_waits(path: Path) -> None:
    store = filled(path, clean=False)
    store._rescue = True
    store.add_bundle("digest", "default", {}, NOW)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store._db.execute("PRAGMA cache_size = 1")
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * (path.stat().st_size - 4_096))
    for i in range(3):
        step(store, conns(400, 10_000 + 400 * i), now=NOW + 6 * (i + 1) * NS, **told(f"i{i}"))
    assert store.ended == "damaged"
    assert {"i0", "i1", "i2"} <= {i.id for i in store.open_incidents()}
    assert [d.key for d in store.devices()] == [MAC]
    assert rows(path, "SELECT digest FROM bundles")[0][0] == "digest"
    assert rows(path, "SELECT sum(count) FROM connections")[0][0] == 1_200
    store.close(NOW)


def test_who_does_not_hold_the_lock_moves_nothing_aside(path: Path) -> None:
    store = filled(path, clean=False)
    path.write_bytes(b"spoiled" * 1_000)
    with pytest.raises(StoreError, match="another guardian writes"):
        Store(path, rescue=True)
    assert path.exists()
    assert not list(path.parent.glob("*damaged*"))
    killed(store)


def test_another_programs_database_is_never_moved_aside(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="not a database of Guardian's"):
        Store(path, rescue=True)
    assert not list(path.parent.glob("*damaged*"))


def test_what_the_disk_refuses_is_told_once_and_not_each_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(5):
        with daemon.kept_going():
            raise StoreError("no room on the disk of this test")
    with daemon.kept_going():
        raise StoreError("and now it is locked")
    assert [r.getMessage() for r in caplog.records] == [
        "no room on the disk of this test", "and now it is locked",
    ]  # fmt: skip
