"""The weekly hand-over: the home's weeks out, a bundle in, and back where it cries wolf."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from guardian import bundle as bundles
from guardian import commands, handover, quietdays, schema
from guardian.bundlehome import BundleHome
from guardian.errors import GuardianError
from guardian.storedconns import is_database
from tests.broker import until
from tests.bundles import write

DAY = handover.DAY
NOW = 1_790_000_000 * 10**9


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A daemon's database with a device, some connections, a waiting message and a wish."""
    path = tmp_path / "state" / "guardian.db"
    path.parent.mkdir(mode=0o750)
    with closing(schema.open_writer(path)) as db:
        fill(db, "devices", key="02:00:00:00:00:01", mac="02:00:00:00:00:01", addresses="[]",
             first_seen=NOW - 40 * DAY, last_seen=NOW)  # fmt: skip
        for k in range(5):
            fill(db, "connections", uid=f"C{k}", ts=NOW - k * DAY, count=1)
        fill(db, "outbox", topic="guardian/a", payload=b"a secret of the broker's")
        fill(db, "commands", id="a", kind="allow", args="{}")
    return path


def fill(db: sqlite3.Connection, table: str, **values: object) -> None:
    """Insert a row; columns that must have a value and are not given get an empty one."""
    kinds = {"INTEGER": 0, "REAL": 0.0, "TEXT": "", "BLOB": b""}
    for _, name, kind, needed, default, key in db.execute(f"PRAGMA table_info({table})"):
        if needed and not key and default is None:
            values.setdefault(name, kinds[kind])
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


def incidents(database: Path, digest: str, *days: float, feedback: str | None = None) -> None:
    """Let the models open an incident on each of some days before now."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        for day in days:
            fill(db, "incidents", id=f"{digest[:6]}-{day}-{feedback}", speaker="model",
                 bundle=digest, opened=int(NOW - day * DAY), feedback=feedback)  # fmt: skip


# --- out ------------------------------------------------------------------------------------


def test_the_copy_teaches_and_tells_nothing_else(database: Path) -> None:
    folder = database.parent / "handover"
    copy = quietdays.lay_out(database, folder, NOW)
    assert copy is not None
    assert is_database(copy)
    assert copy.stat().st_mode & 0o777 == 0o640
    with closing(schema.open_reader(copy)) as db:
        assert db.execute("SELECT count(*) FROM connections").fetchone() == (5,)
        assert db.execute("SELECT count(*) FROM devices").fetchone() == (1,)
        for table in quietdays.LEFT_OUT:
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert b"a secret of the broker's" not in copy.read_bytes()  # nor in a page left free
    with closing(schema.open_reader(database)) as db:
        assert db.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


def test_there_is_one_a_week_and_two_stay(database: Path) -> None:
    folder = database.parent / "handover"
    made = [quietdays.lay_out(database, folder, NOW + day * DAY) for day in range(22)]
    assert [day for day, copy in enumerate(made) if copy] == [0, 7, 14, 21]
    assert sorted(folder.iterdir()) == [copy for copy in made if copy][-2:]


def test_a_folder_that_may_not_be_written_is_a_sentence(database: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(GuardianError, match="check its rights and the disk"):
        quietdays.lay_out(database, tmp_path / "file" / "x", NOW)


# --- in -------------------------------------------------------------------------------------


@contextmanager
def daemon(database: Path, obey: Callable[[BundleHome, str], None]) -> Iterator[list[str]]:
    """Stand in for a running daemon: take commands and obey them; yields their kinds."""
    taken: list[str] = []
    over = threading.Event()

    def work() -> None:
        with closing(sqlite3.connect(database, isolation_level=None)) as db:
            while not over.wait(0.01):
                for (kind,) in db.execute("SELECT kind FROM commands WHERE id <> 'a'").fetchall():
                    db.execute("DELETE FROM commands WHERE id <> 'a'")
                    taken.append(kind)
                    obey(BundleHome.beside(database), kind)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()


def installs(home: BundleHome, kind: str) -> None:
    """Do what the daemon does after a rehearsal that went well, or at a roll-back."""
    if kind == "rollback":
        home.rollback("asked")
        return
    digest = bundles.load(home.ready).digest
    home.note("installed", "", home.install(digest))


def refuses(home: BundleHome, _kind: str) -> None:
    home.note("refused", "it would miss what you called bad", bundles.load(home.ready))


def night(database: Path, now: int, wait_s: float = 10.0) -> tuple[int, str]:
    said: list[str] = []
    status = handover.handover(database, now=now, wait_s=wait_s, echo=said.append)
    return status, "\n".join(said)


def lay(database: Path, threat: float = 0.9) -> str:
    """Lay a bundle ready; return its digest."""
    home = BundleHome.beside(database)
    write(home.ready, threat=threat)
    return bundles.load(home.ready).digest


def test_a_bundle_is_taken_in_once(database: Path) -> None:
    assert "no bundle lies in" in night(database, NOW)[1]
    digest = lay(database)
    with daemon(database, installs) as taken:
        status, said = night(database, NOW)
        assert (status, taken) == (0, ["install"])
        assert "takes over, after its rehearsal" in said
        assert handover.current(BundleHome.beside(database)) == digest
        assert night(database, NOW + DAY)[0] == 0
        assert taken == ["install"]  # it is in use: nothing is asked


def test_a_refused_bundle_is_not_asked_for_again_by_itself(database: Path) -> None:
    lay(database)
    with daemon(database, refuses) as taken:
        status, said = night(database, NOW)
        assert status == 1
        assert "it would miss what you called bad" in said
        assert night(database, NOW + DAY)[0] == 0
        assert taken == ["install"]
        lay(database, threat=0.8)
        assert night(database, NOW + 2 * DAY)[0] == 1
        assert taken == ["install", "install"]


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(database: Path) -> None:
    lay(database)
    status, said = night(database, NOW, wait_s=0.05)
    assert status == 0
    assert "no word from the daemon yet" in said


def test_what_is_no_bundle_stays_where_it_is(database: Path) -> None:
    ready = BundleHome.beside(database).ready
    ready.mkdir(parents=True)
    (ready / "manifest.json").write_text("{}", encoding="ascii")
    status, said = night(database, NOW)
    assert status == 1
    assert "left where it is" in said


def test_the_settings_bundle_comes_first(database: Path) -> None:
    lay(database)
    said: list[str] = []
    assert handover.handover(database, fixed=True, now=NOW, echo=said.append) == 0
    assert "none is installed by itself" in said[-1]


# --- and back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "answers", "before", "back"),
    [
        ((1, 1.5, 2, 2.5), None, (20,), "it opened 4 incidents in 3 days, the one before 1 in 28"),
        ((1, 2, 2.5), None, (20,), ""),  # three prove nothing
        ((1, 1.5, 2, 2.5), None, tuple(range(4, 31, 2)), ""),  # it was so before
        ((1, 1.5, 2, 2.5, 2.6), "bad", (20,), ""),  # they were right
        ((1, 2, 2.5), "fine", tuple(range(4, 31)), "you called 3 of its 3 incidents nothing"),
    ],
)
def test_one_that_cries_wolf_goes_back(
    database: Path, after: tuple[float, ...], answers: str | None, before: tuple[float, ...],
    back: str,
) -> None:  # fmt: skip
    digest = lay(database)
    with daemon(database, installs) as taken:
        night(database, NOW - 3 * DAY)
        incidents(database, digest, *after, feedback=answers)
        incidents(database, "0" * 64, *(day + 3 for day in before))
        said = night(database, NOW)[1]
        assert ("taken back" in said) == bool(back), said
        assert back in said
        due = ["install"] + ["rollback"] * bool(back)
        until(lambda: len(taken) >= len(due), "the daemon is asked")
        assert taken == due
    if back:
        # What lies ready is the one that was taken back: it is not asked for again.
        with daemon(database, installs) as taken:
            night(database, NOW + DAY)
            assert not taken


def test_after_two_weeks_it_is_in_its_own_right(database: Path) -> None:
    digest = lay(database)
    with daemon(database, installs) as taken:
        night(database, NOW - 15 * DAY)
        incidents(database, digest, *(day / 4 for day in range(1, 40)))
        night(database, NOW)
        assert taken == ["install"]


@pytest.mark.parametrize("text", ["", "{", '{"asked": 3}', '{"asked": {"a": "b"}, "used": {}}'])
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bundles.json"
    path.write_text(text, encoding="ascii")
    found = handover.Memory.load(path)
    assert (found.asked, found.used) == ({}, {})
    found.asked |= {str(k): k for k in range(100)}
    found.save()
    assert len(handover.Memory.load(path).asked) == handover.MAX_KEPT


def test_the_commands_it_leaves_are_ones_that_the_daemon_takes() -> None:
    for kind in ("install", "rollback"):
        assert commands.check(kind, {}) is None
