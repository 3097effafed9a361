"""The database: batches, crashes, readers beside the writer, rights, migrations, retention."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import commands, connrows, retention, schema
from guardian.addresses import mac_pack, pack
from guardian.const import NS
from guardian.devices import Device
from guardian.incidents import (
    DeviceRef,
    Example,
    FeatureEvidence,
    Incident,
    IncidentEvent,
    Peer,
)
from guardian.outbox import Message
from guardian.store import SEEN_NS, Scored, Store, StoreError
from guardian.tables import Conns

ROOT = Path(__file__).resolve().parent.parent
NOW = 1_700_000_000 * NS
DAY = 24 * 3600 * NS
MAC = "02:00:00:00:00:01"
CLASSES = ("benign", "scan", "c2")


def device(key: str = MAC, **changes: Any) -> Device:
    plain = Device(0, key, key, ("192.168.1.20",), "camera", False, NOW - DAY, NOW)
    return replace(plain, **changes)


def incident(name: str = "i1", **changes: Any) -> Incident:
    plain = Incident(
        id=name,
        device=DeviceRef(MAC, "192.168.1.20", "camera"),
        opened=NOW,
        updated=NOW,
        closed=None,
        severity="high",
        cause="scan",
        label="scan",
        speaker="model",
        score=0.97,
        explanation="camera called 214 addresses on port 23",
        advice="Unplug it.",
        features=(FeatureEvidence("peers", "new addresses a minute", 214.0, 0.0, 3.0, 0.6),),
        peers=(Peer("10.9.9.9", 23, "tcp", "", 4),),
        connections=(Example("C1", 1.5, MAC, 1, "10.9.9.9", 23, "tcp", "telnet", "S0", 0, 0, 0.0),),
        count=3,
    )
    return replace(plain, **changes)


def conns(n: int, start: int = 0, mac: str = MAC) -> Conns:
    out = Conns.blank(n)
    out.uid[:] = [f"C{start + i:06d}" for i in range(n)]
    out.ts[:] = NOW + np.arange(n)
    out.orig[:] = pack("192.168.1.20")
    out.orig_mac[:] = mac_pack(mac)
    out.local_orig[:] = True
    out.resp[:] = [pack(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}") for i in range(n)]
    out.resp_p[:] = 23
    out.proto[:] = 6
    out.conn_state[:] = 1
    out.orig_bytes[:] = 10
    out.resp_bytes[:] = -1
    out.orig_pkts[:] = 2
    return out


def scored(records: Conns, threat: float = 0.1, verdict: int = 0, key: str = MAC) -> Scored:
    n = len(records)
    return Scored(
        records.uid,
        np.zeros(n, "i4"),
        np.full(n, 0.5, "f4"),
        np.full(n, threat, "f4"),
        np.full(n, min(verdict, 1), "u1"),
        np.full(n, verdict, "u1"),
        (key,),
        CLASSES,
    )


def step(store: Store, records: Conns | None = None, now: int = NOW, **rest: Any) -> bool:
    found = Conns.empty() if records is None else records
    return store.add(records=found, scored=rest.pop("scored", Scored.empty()), now=now, **rest)


def rows(path: Path, sql: str) -> list[Any]:
    with closing(schema.open_reader(path)) as db:
        db.row_factory = sqlite3.Row
        return db.execute(sql).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guardian.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(path)
    yield made
    made.close(NOW + DAY)


def test_pragmas(store: Store, path: Path) -> None:
    db = store._db
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (1,)
    assert db.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert db.execute("PRAGMA busy_timeout").fetchone() == (1000,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_batches_and_the_incident_that_does_not_wait(store: Store, path: Path) -> None:
    assert step(store)  # the first is due
    assert not step(store, conns(3), now=NOW + NS)
    assert rows(path, "SELECT * FROM connections") == []
    assert step(store, conns(2, 3), now=NOW + 6 * NS)
    assert len(rows(path, "SELECT * FROM connections")) == 5
    message = Message("guardian/x", "{}", "incident")
    event = IncidentEvent("opened", incident())
    assert step(store, conns(1, 9), now=NOW + 7 * NS, events=[event], messages=[message])
    assert len(rows(path, "SELECT * FROM connections")) == 6
    assert [r["topic"] for r in rows(path, "SELECT * FROM outbox")] == ["guardian/x"]
    assert [r["change"] for r in rows(path, "SELECT * FROM incident_events")] == ["opened"]


def test_a_clock_set_back_still_commits(store: Store, path: Path) -> None:
    step(store)
    assert step(store, conns(1), now=NOW - 3600 * NS)
    assert len(rows(path, "SELECT * FROM connections")) == 1


def test_nothing_to_write_spares_the_card(store: Store, path: Path) -> None:
    step(store)
    wal = path.with_name("guardian.db-wal").stat().st_size
    assert not any(step(store, now=NOW + n * NS) for n in range(1, 60))
    assert path.with_name("guardian.db-wal").stat().st_size == wal
    assert step(store, now=NOW + 60 * NS)
    assert store.last_commit == NOW + 60 * NS


def test_the_row_of_a_connection(store: Store, path: Path) -> None:
    records = conns(1)
    records.service[:] = b"ssl"
    records.host[:] = b"example.org"
    records.duration[:] = 1.25
    records.history[:] = b"ShADad"
    step(store, records, scored=scored(records, threat=0.75, verdict=2))
    row = rows(path, "SELECT * FROM connections")[0]
    assert dict(row) == {
        "id": 1, "uid": "C000000", "ts": NOW, "device": MAC, "orig_h": "192.168.1.20", "orig_p": 0,
        "resp_h": "10.0.0.0", "resp_p": 23, "proto": 6, "service": "ssl", "host": "example.org",
        "conn_state": "S0", "history": "ShADad", "local_orig": 1, "local_resp": 0,
        "duration": 1.25, "orig_bytes": 10, "resp_bytes": None, "missed_bytes": 0, "orig_pkts": 2,
        "orig_ip_bytes": 0, "resp_pkts": 0, "resp_ip_bytes": 0, "anomaly": 0.5, "threat": 0.75,
        "label": "scan", "verdict": "attack", "count": 1,
    }  # fmt: skip


def test_scores_of_the_living_wait_for_their_record(store: Store, path: Path) -> None:
    record = conns(1)
    step(store, scored=scored(record, 0.2))
    assert rows(path, "SELECT * FROM scores") == []  # benign: not worth a page
    step(store, scored=scored(record, 0.9, verdict=2), now=NOW + 5 * NS)
    living = rows(path, "SELECT * FROM scores")
    assert [(r["uid"], r["verdict"], r["label"]) for r in living] == [("C000000", "attack", "scan")]
    step(store, record, scored=scored(record, 0.9, verdict=2), now=NOW + 15 * NS)
    assert rows(path, "SELECT * FROM scores") == []
    ended = rows(path, "SELECT * FROM connections")
    assert [(r["verdict"], round(r["threat"], 3)) for r in ended] == [("attack", 0.9)]


def test_what_lived_when_a_run_was_cut_off_lives_no_more(path: Path) -> None:
    store = Store(path)
    step(store, scored=scored(conns(3), 0.9, verdict=2))
    assert len(rows(path, "SELECT * FROM scores")) == 3
    killed(store)
    with Store(path):
        assert rows(path, "SELECT * FROM scores") == []


def test_a_record_nobody_judged(store: Store, path: Path) -> None:
    unknown = conns(1, 1, mac="02:00:00:00:00:99")
    by_address = conns(1, 2)
    by_address.orig_mac[:] = 0
    step(
        store,
        Conns.concat([conns(1), unknown, by_address]),
        devices=[device(), device("ip:192.168.1.20", mac="")],
    )
    found = [
        (r["device"], r["verdict"], r["threat"]) for r in rows(path, "SELECT * FROM connections")
    ]
    assert found == [(MAC, "", None), ("", "", None), ("ip:192.168.1.20", "", None)]


@pytest.mark.parametrize("cap", [7, 500])
def test_a_flood_is_summed_and_others_keep_their_rows(path: Path, cap: int) -> None:
    store = Store(path)
    store._conns = connrows.ConnRows(rows_per_device=cap)
    step(store, devices=[device(), device("02:00:00:00:00:02")])
    flood = conns(4_000)
    quiet = conns(5, 5_000, mac="02:00:00:00:00:02")
    all_at_once = Conns.concat([flood, quiet])
    step(store, all_at_once, scored=scored(flood, 0.9, 2), now=NOW + NS)
    step(store, conns(4_000, 10_000), now=NOW + 2 * NS)
    store.close(NOW + 3 * NS)
    found = rows(path, "SELECT device, verdict, sum(count), count(*), sum(orig_bytes), "
                 "sum(orig_pkts), max(resp_bytes) FROM connections GROUP BY 1, 2")  # fmt: skip
    assert [tuple(r) for r in found] == [
        (MAC, "", 4_000, 1, 40_000, 8_000, None),
        (MAC, "attack", 4_000, cap + 1, 40_000, 8_000, None),
        ("02:00:00:00:00:02", "", 5, 5, 50, 10, None),
    ]


@pytest.mark.parametrize("steps", [8, pytest.param(62, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_million_slices_stay_small(store: Store, path: Path, steps: int) -> None:
    part = conns(16_000)
    step(store)
    for _ in range(steps):
        step(store, part, scored=scored(part, 0.9, 2), now=NOW + NS)
    assert len(store._conns.rows) <= connrows.MAX_ROWS_PER_DEVICE + 1
    store.commit(NOW + 2 * NS)
    assert rows(path, "SELECT sum(count) FROM connections")[0][0] == steps * 16_000
    assert path.stat().st_size < 1 << 20


def test_devices(store: Store, path: Path) -> None:
    step(store, devices=[device()])
    seen = "SELECT learned, addresses, last_seen, first_seen FROM devices"
    assert [tuple(r) for r in rows(path, seen)] == [("camera", '["192.168.1.20"]', NOW, NOW - DAY)]
    start = NOW // SEEN_NS * SEEN_NS + SEEN_NS
    step(store, devices=[device(last_seen=start)], now=start)
    step(store, devices=[device(last_seen=start + 290 * NS)], now=start + 290 * NS)
    assert rows(path, seen)[0]["last_seen"] == start  # spared writing
    late = start + 301 * NS
    step(store, devices=[device(last_seen=late, name="")], now=late)
    assert tuple(rows(path, seen)[0])[::2] == ("camera", late)
    assert store.name_device(MAC, "Hall\x1b[31m camera\n")
    assert store.names() == {MAC: "Hall[31m camera"}
    assert not store.name_device("nobody", "x")
    assert store.name_device(MAC, "")
    assert store.names() == {}


def test_an_incident_comes_back_as_it_was(store: Store) -> None:
    told = incident()
    step(store, events=[IncidentEvent("opened", told)])
    grown = replace(told, updated=NOW + NS, severity="low", count=9, peers=())
    step(store, events=[IncidentEvent("updated", grown)], now=NOW + 6 * NS)
    assert store.open_incidents() == [grown]
    assert store.set_feedback("i1", "fine")
    over = replace(grown, closed=NOW + 2 * NS)
    step(store, events=[IncidentEvent("closed", over)], now=NOW + 7 * NS)
    assert store.open_incidents() == []
    row = rows(store.path, "SELECT * FROM incidents")[0]
    assert (row["closed"], row["feedback"], row["device"]) == (NOW + 2 * NS, "fine", MAC)


@given(st.text(), st.floats(), st.text(alphabet=st.characters(categories=["Cs", "Cc", "Cf"])))
@settings(max_examples=50)
@pytest.mark.slow
def test_hostile_text_and_numbers_are_stored(text: str, number: float, worse: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "g.db")
        i = incident(
            explanation=text + worse,
            device=DeviceRef("", "192.168.1.9", worse),
            features=(FeatureEvidence("x", text, number, -number, number, 1.0),),
            peers=(Peer("10.0.0.1", 1, "tcp", text + worse, 1),),
        )
        step(store, events=[IncidentEvent("opened", i)], devices=[device(name=worse)])
        back = store.open_incidents()[0]
        assert back.explanation.replace("?", "").isascii() or "\ud800" not in back.explanation
        store.close(NOW)
        found = json.loads(rows(store.path, "SELECT evidence FROM incidents")[0][0])
        assert set(found) == {"features", "peers", "connections"}


def test_bundles(store: Store, path: Path) -> None:
    store.add_bundle("d1", "default", {"classes": list(CLASSES)}, NOW)
    store.add_bundle("d1", "default", {}, NOW + NS)
    step(store, events=[IncidentEvent("opened", incident())])
    assert rows(path, "SELECT bundle FROM incidents")[0][0] == "d1"
    assert tuple(rows(path, "SELECT first_used, last_used FROM bundles")[0]) == (NOW, NOW + NS)


# --- crashes and faults ------------------------------------------------------


def killed(store: Store) -> None:
    """End a store as kill -9 does: the kernel closes its files, and nothing more is said."""
    store._db.close()
    if store._drop is not None:
        store._drop.close()
    store._lock.release()


def test_two_writers_of_one_database_are_one_too_many(path: Path) -> None:
    with Store(path), pytest.raises(StoreError, match="another guardian writes"):
        Store(path)
    Store(path).close(NOW)


def test_a_new_device_is_written_soon(path: Path) -> None:
    """Its user wants to name it; what is known already may wait for the next commit."""
    with Store(path, commit_s=30.0) as store:
        store.commit(NOW)
        assert not step(store, devices=[device()], now=NOW + NS)
        assert step(store, devices=[device()], now=NOW + 3 * NS)
        assert [d.key for d in store.devices()] == [device().key]
        assert not step(store, devices=[device()], now=NOW + 6 * NS)


def test_how_the_last_run_ended(path: Path) -> None:
    first = Store(path)
    assert first.ended == "new"
    installation = first.installation
    first.close(NOW)
    second = Store(path)
    assert (second.ended, second.last_commit, second.installation) == ("clean", NOW, installation)
    killed(second)
    third = Store(path)
    assert third.ended == "unclean"
    third.close(NOW)


WRITER = """
    import sys
    from pathlib import Path
    from guardian.incidents import IncidentEvent
    from guardian.outbox import Message
    from guardian.store import Store
    from tests.test_store import NOW, NS, conns, device, incident, step
    store = Store(Path(sys.argv[1]), drop_box=True)
    for i in range(100_000):
        event = IncidentEvent("opened", incident(f"i{i}"))
        message = Message("t", '{"id":"i%d"}' % i, "incident")
        step(store, conns(20, 20 * i), NOW + i * NS, events=[event], messages=[message],
             devices=[device()])
        print(i, flush=True)
"""


@pytest.fixture
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that commits one incident after the other and prints each committed number."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_readers_beside_a_writer(path: Path, writer: subprocess.Popen[str]) -> None:
    last = 0
    for _ in range(30):
        with closing(schema.open_reader(path)) as db:
            db.execute("BEGIN")
            count = db.execute("SELECT count(*) FROM incidents").fetchone()[0]
            assert db.execute("SELECT count(*) FROM outbox").fetchone()[0] == count
            assert db.execute("SELECT sum(count) FROM connections").fetchone()[0] == 20 * count
            assert count >= last
            last = count
    assert writer.poll() is None


@pytest.mark.parametrize("after", [0, 3, 17])
def test_kill_9_loses_no_incident(path: Path, writer: subprocess.Popen[str], after: int) -> None:
    assert writer.stdout
    told = 0
    for _ in range(after):
        told = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    told = max([told] + [int(line) for line in writer.stdout if line.endswith("\n")])
    store = Store(path, drop_box=True)
    assert store.ended == "unclean"
    ids = [i.id for i in store.open_incidents()]
    waiting = [json.loads(w.message.payload)["id"] for w in store.outbox.pending(0, 1 << 20)]
    assert waiting == [f"i{n}" for n in range(len(ids))]
    assert set(waiting) == set(ids)
    assert len(ids) >= told + 1
    assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close(NOW)


def test_a_full_disk_keeps_what_waits(store: Store, path: Path) -> None:
    step(store)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    event = IncidentEvent("opened", incident())
    for i in range(3):  # more than the free space of the last pages
        with pytest.raises(StoreError, match=r"disk has room") as error:
            step(store, conns(400, 400 * i), now=NOW + (6 + 6 * i) * NS, events=[event])
        assert "\n" not in str(error.value)
        event = IncidentEvent("updated", incident())
    assert not step(store, now=NOW + 19 * NS)  # no try at each step
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert step(store, now=NOW + 24 * NS)
    assert len(rows(path, "SELECT * FROM incident_events")) == 1
    assert rows(path, "SELECT sum(count) FROM connections")[0][0] == 1_200


def test_a_locked_database_keeps_what_waits(store: Store, path: Path) -> None:
    step(store)
    store._db.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            step(store, events=[IncidentEvent("opened", incident())])
        other.execute("ROLLBACK")
    store.commit(NOW)
    assert [i.id for i in store.open_incidents()] == ["i1"]


def sentence(error: pytest.ExceptionInfo[StoreError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_file_is_one_sentence(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for opener in (Store, schema.open_reader):
        with pytest.raises(StoreError) as error:
            opener(path)
        sentence(error, str(path), "damaged", "move it aside")
    assert path.read_bytes() == content


def test_a_page_torn_in_the_middle_is_one_sentence(path: Path) -> None:
    store = Store(path)
    step(store, conns(400))
    store.close(NOW)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StoreError) as error:
        Store(path)
    sentence(error, "malformed")


def test_another_programs_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    for opener in (Store, schema.open_reader):
        with pytest.raises(StoreError) as error:
            opener(path)
        sentence(error, "not a database of Guardian's")
    assert path.read_bytes() == before


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        Store(tmp_path)
    sentence(error, "is no file")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        Store(tmp_path / "file" / "g.db")
    sentence(error, "cannot open", "--db")
    with pytest.raises(StoreError) as error:
        schema.open_reader(tmp_path / "none.db")
    sentence(error, "start the daemon", "--db")
    with pytest.raises(StoreError) as error:
        schema.open_reader(tmp_path)
    sentence(error, "is a folder", "--db")


# --- versions ------------------------------------------------------------------


def test_migration_copies_first_and_is_all_or_nothing(path: Path) -> None:
    store = Store(path)
    step(store, events=[IncidentEvent("opened", incident())])
    store.close(NOW)
    broken = (*schema.MIGRATIONS, "CREATE TABLE extra (x); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(StoreError):
        schema.open_writer(path, broken).close()
    assert rows(path, "SELECT name FROM sqlite_master WHERE name = 'extra'") == []
    good = (
        *schema.MIGRATIONS,
        "CREATE TABLE extra (x); INSERT INTO extra SELECT id FROM incidents;",
    )
    with closing(schema.open_writer(path, good)) as db:
        assert schema.version(db) == len(good)
        assert db.execute("SELECT x FROM extra").fetchall() == [("i1",)]
    copy = path.with_name(f"guardian.db.v{len(schema.MIGRATIONS)}.bak")
    assert [r["id"] for r in rows(copy, "SELECT id FROM incidents")] == ["i1"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    for opener in (Store, schema.open_reader):
        with pytest.raises(StoreError) as error:
            opener(path)
        sentence(error, f"version {len(good)}")


def test_the_document_is_in_step_with_the_tables() -> None:
    text = (ROOT / "docs" / "database.md").read_text()
    assert text.endswith(schema.MARK + "\n" + schema.document()), (
        "run: python -m guardian.schema docs/database.md"
    )


def test_every_column_is_explained() -> None:
    for line in schema.document().splitlines():
        if line.startswith("| "):
            assert len(line.split("|")[3].strip()) > 1, line


# --- age -----------------------------------------------------------------------


def test_retention(store: Store, path: Path) -> None:
    old, new = conns(3), conns(2, 10)
    old.ts[:] = NOW - 31 * DAY
    events = [
        IncidentEvent("closed", incident("old", updated=NOW - 366 * DAY, closed=NOW - 366 * DAY)),
        IncidentEvent("opened", incident("open", updated=NOW - 366 * DAY)),
        IncidentEvent("closed", incident("new", closed=NOW)),
    ]
    gone = device("02:00:00:00:00:03", last_seen=NOW - 400 * DAY)
    named = device("02:00:00:00:00:04", last_seen=NOW - 400 * DAY)
    step(store, Conns.concat([old, new]), events=events, devices=[device(), gone, named])
    store.name_device(named.key, "Attic")
    assert store.prune(NOW) == 5
    assert store.prune(NOW) == 0
    assert [r["uid"] for r in rows(path, "SELECT uid FROM connections")] == ["C000010", "C000011"]
    assert {r["id"] for r in rows(path, "SELECT id FROM incidents")} == {"open", "new"}
    assert {r[0] for r in rows(path, "SELECT incident FROM incident_events")} == {"open", "new"}
    assert {r["key"] for r in rows(path, "SELECT key FROM devices")} == {MAC, named.key}
    store.keep = retention.Retention(connections=0)
    assert store.prune(NOW) == 0
    assert store.prune(NOW + 2) == 2


def test_retention_gives_the_disk_back(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP_PAGES", 100)
    store._conns = connrows.ConnRows(rows_per_device=10**9, rows=10**9)
    step(store, conns(30_000))
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    full = path.stat().st_size
    steps = 0
    while store.prune(NOW + 40 * DAY):
        steps += 1
    for _ in range(10):
        store.prune(NOW)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert steps == 30_000 / retention.STEP_ROWS
    assert path.stat().st_size < 0.6 * full


def test_invented_devices_are_capped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MAX_DEVICES", 10)
    step(store, devices=[device(f"d{i}", last_seen=NOW + i) for i in range(30)])
    assert store.prune(NOW) == 20
    assert {r["key"] for r in rows(store.path, "SELECT key FROM devices")} == {
        f"d{i}" for i in range(20, 30)
    }


# --- commands --------------------------------------------------------------------


def test_commands_go_through_the_drop_box_once(path: Path) -> None:
    store = Store(path, drop_box=True)
    wish = commands.new("snooze", {"device": MAC, "until": NOW + NS}, NOW)
    commands.give(path, wish)
    assert store.poll_commands(NOW) == [wish]
    assert store.poll_commands(NOW) == [wish]  # until it is done
    store.mark_done(wish.id, NOW)
    assert store.poll_commands(NOW) == []
    assert [rule.id for rule in store.rules(NOW)] == [wish.id]
    assert store.rules(NOW + NS) == []
    store.close(NOW)
    again = Store(path, drop_box=True)
    assert [rule.id for rule in again.rules(NOW)] == [wish.id]
    again.close(NOW)


def taken(store: Store, kind: commands.Kind, at: int, **args: object) -> str:
    """Give a command, and take it as the daemon does."""
    wish = commands.new(kind, dict(args), at)
    commands.give(store.path, wish)
    store.poll_commands(at)
    if kind == "feedback":
        store.set_feedback(str(args["incident"]), str(args["answer"]))
    store.mark_done(wish.id, at)
    return wish.id


def test_the_last_word_holds_and_undoing_it_brings_back_the_one_before(store: Store) -> None:
    events = [IncidentEvent("opened", incident("a")), IncidentEvent("opened", incident("b"))]
    step(store, devices=[device()], events=events)
    allow = taken(store, "allow", NOW, device=MAC, peer=None, cause=None, until=None)
    other = taken(store, "allow", NOW + 1, device=None, peer="8.8.8.8", cause=None, until=None)
    taken(store, "feedback", NOW + 2, incident="a", answer="fine")
    taken(store, "snooze", NOW + 3, device=MAC, until=NOW + 9 * NS)
    short = taken(store, "snooze", NOW + 4, device=MAC, until=NOW + 2 * NS)
    bad = taken(store, "feedback", NOW + 5, incident="b", answer="bad")
    # `bad` outweighs what was allowed to this device; others and the snooze are untouched.
    assert [rule.id for rule in store.rules(NOW + NS)] == [other, short, bad]
    assert [rule.id for rule in store.rules(NOW + 3 * NS)] == [other, bad]
    assert store.rules(NOW + 3 * NS)[1].until == NOW + 5 + 30 * DAY
    assert store.undo(bad)
    assert not store.undo(bad)
    assert [rule.kind for rule in store.rules(NOW + 3 * NS)] == ["allow", "allow", "feedback"]
    assert store.undo(allow)
    assert store.undo(short)  # and with it the longer one before
    assert [rule.kind for rule in store.rules(NOW + NS)] == ["allow", "feedback"]
    assert [rule.kind for rule in store.rules(NOW + 31 * DAY)] == ["allow"]
    feedback = dict(store._db.execute("SELECT id, feedback FROM incidents"))
    assert feedback == {"a": "fine", "b": None}
    assert not store.undo("nothing")


def test_rules_for_good_outlive_their_year_and_nonsense_does_not(store: Store) -> None:
    forever = taken(store, "allow", NOW, device=MAC, peer=None, cause=None, until=None)
    taken(store, "allow", NOW, device=None, peer="10.0.0.1", cause=None, until=NOW + NS)
    taken(store, "name", NOW, device=MAC, name="x")
    store._db.execute("INSERT INTO commands VALUES ('z', 1, 'x', 'allow', '{', 1, 'refused: x')")
    assert store.prune(NOW + 400 * DAY) == 3
    assert [rule.id for rule in store.rules(NOW + 400 * DAY)] == [forever]


def test_commands_without_a_drop_box(store: Store, path: Path) -> None:
    wish = commands.new("name", {"device": MAC, "name": "Hall"}, NOW)
    commands.give(path, wish)
    assert store.poll_commands(NOW) == [wish]


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("reboot", "{}"),
        ("snooze", "[1]"),
        ("snooze", "{"),
        ("snooze", "[" * 3_000),
        ("snooze", '{"device": "x", "until": 1e300}'),
        ("snooze", '{"device": "x", "until": true}'),
        ("snooze", '{"device": "x", "until": null}'),
        ("snooze", json.dumps({"device": "x" * 5_000, "until": 5})),
        ("allow", '{"device": null, "peer": "", "cause": null, "until": null}'),
        ("feedback", '{"incident": "x", "answer": "maybe"}'),
        ("name", '{"device": 5, "name": "x"}'),
    ],
)
def test_commands_from_outside_are_checked(path: Path, kind: str, args: str) -> None:
    store = Store(path, drop_box=True)
    drop = commands.drop_path(path)
    with closing(sqlite3.connect(drop)) as db, db:
        db.execute("INSERT INTO commands VALUES ('a', 1, 'x', ?, ?, NULL, NULL)", (kind, args))
    assert store.poll_commands(NOW) == []
    assert rows(path, "SELECT result FROM commands")[0][0].startswith("refused: ")
    with closing(sqlite3.connect(drop)) as db:
        assert db.execute("SELECT count(*) FROM commands").fetchone() == (0,)
    store.close(NOW)


def test_a_spoiled_drop_box_does_not_stop_the_daemon(path: Path) -> None:
    store = Store(path, drop_box=True)
    drop = commands.drop_path(path)
    drop.write_bytes(b"x" * 8_192)
    assert store.poll_commands(NOW) == []
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO commands VALUES (1, x'00ff', x'ff', 'name', x'ff', NULL, NULL)")
    assert store.poll_commands(NOW) == []
    store.close(NOW)


def test_a_link_in_place_of_the_drop_box_is_refused(path: Path) -> None:
    (path.parent / "guardian-commands.db").symlink_to(path)
    with pytest.raises(StoreError) as error:
        Store(path, drop_box=True)
    sentence(error, "no plain file")


def as_user(user: int, group: int, work: Callable[[], object]) -> str:
    """Run `work` in a child that is this user; return what it returned, or its error."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.umask(0o077)
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            answer = str(work())
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("running", [True, False])
def test_the_group_reads_and_leaves_commands_without_writing_the_folder(running: bool) -> None:
    daemon, person, group = 54_320, 54_321, 54_322
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        folder = Path(top) / "guardian"
        folder.mkdir(mode=0o750)
        os.chown(folder, daemon, group)
        db = folder / "guardian.db"
        held: list[Store] = []

        def write() -> None:
            store = Store(db, drop_box=True)
            step(store, events=[IncidentEvent("opened", incident())])
            if running:  # -wal and -shm stay, as a running daemon has them
                held.append(store)
            else:
                store.close(NOW)

        def read() -> str:
            with closing(schema.open_reader(db)) as reader:
                return str(reader.execute("SELECT id FROM incidents").fetchone()[0])

        def leave() -> None:
            for _ in range(2):
                commands.give(db, commands.new("name", {"device": "x", "name": "Hall"}, NOW))

        def spoil() -> None:
            with closing(sqlite3.connect(db, isolation_level=None)) as other:
                other.execute("DELETE FROM incidents")

        def poll() -> int:
            store = Store(db, drop_box=True)
            found = len(store.poll_commands(NOW))
            store.close(NOW)
            return found

        assert as_user(daemon, group, write) == "None"
        assert db.with_name("guardian.db-wal").exists() is running
        assert as_user(person, group, read) == "i1"
        assert as_user(person, group, leave) == "None"
        assert "readonly" in as_user(person, group, spoil)
        assert "join the group guardian" in as_user(55_000, 55_000, read)
        assert "join the group guardian" in as_user(55_000, 55_000, leave)
        read()  # root's own reading leaves nothing that the daemon could not write
        assert as_user(daemon, group, poll) == "2"
