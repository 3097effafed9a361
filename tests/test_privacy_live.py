"""A privacy level that changes while the daemon runs: for what comes, and for what is there."""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from guardian import capture, scrub
from guardian.config import Settings, override
from guardian.connrows import Scored
from guardian.const import NS
from guardian.devices import Device
from guardian.kin import Guess
from guardian.parts import Parts
from guardian.privacy import COUNTERS, NO_HOSTS, NO_REMOTE
from guardian.reload import Reloader
from guardian.simulate import SCENARIOS, simulate
from guardian.tables import Conns
from tests.broker import until
from tests.namespaces import hosts, join
from tests.test_daemon import daemon, query, systemd
from tests.test_privacy import found, on_disk, secrets_of
from tests.test_status import parts as running

parts = running


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "home.pcap"
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.25), path)
    return path


def level_of(level: int) -> Settings:
    return override(Settings(), "privacy", level=level)


def names_of(parts: Parts) -> set[str]:
    return {device.name for device in parts.pipeline.devices.devices()} - {""}


@pytest.mark.parametrize("level", [NO_HOSTS, NO_REMOTE, COUNTERS])
def test_a_reload_holds_for_what_comes_and_for_what_is_there(
    parts: Parts, day: Path, tmp_path: Path, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "STEPS", 1_000)  # the file is small
    files = [Settings()]
    reloader = Reloader(files[0], lambda: files[-1], "g.toml")
    path = parts.store.path
    batches = capture.read_frames(day, 1_000)
    now = 0

    def take(count: int | None) -> None:
        nonlocal now
        for frames in islice(batches, count):
            step = parts.pipeline.step(frames)
            parts.recorder.add(step)
            now = step.now

    take(8)
    parts.store.commit(now)
    before = tmp_path / "before.db"
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(before)) as copy:
        db.backup(copy)
    hosts_called, outside, names = secrets_of(before)
    assert hosts_called
    assert outside
    assert names_of(parts)
    # at the level that was, and not written yet when it changes
    take(2)
    assert parts.pipeline.privacy.level == 0

    files.append(level_of(level))
    reloader.reload(parts)
    assert reloader.state()["restart"] == []
    assert not names_of(parts)
    alive: list[int] = []
    parts.store.reduce(lambda: alive.append(1))
    assert alive  # so systemd's watchdog is fed
    assert not found(hosts_called | names, on_disk(path))
    assert not found(outside, on_disk(path)) or level < NO_REMOTE
    parts.store.reduce(lambda: pytest.fail("it was done"))

    take(4)
    parts.store.commit(now)
    kept = query(path, "SELECT count(*), sum(host <> '') FROM connections")[0]
    counted = query(path, "SELECT total(connections) FROM totals")[0][0]
    assert (kept[0] == 0, counted > 0) == (level >= COUNTERS, level >= COUNTERS)
    assert not kept[1]
    if level == NO_REMOTE:
        rows = "SELECT DISTINCT resp_h FROM connections WHERE NOT local_resp"
        assert {h for (h,) in query(path, rows)} <= {"0.0.0.0", "::"}
    assert not names_of(parts)

    files.append(Settings())
    reloader.reload(parts)
    parts.store.reduce(lambda: None)
    take(None)
    parts.recorder.add(parts.pipeline.finish())
    parts.store.commit(now)
    assert query(path, "SELECT sum(host <> '') FROM connections")[0][0] > 0
    assert query(path, "SELECT value FROM meta WHERE key = 'privacy_level'") == [("0",)]


def test_a_reload_that_was_cut_off_is_made_good_at_the_next_start(
    parts: Parts, day: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for frames in islice(capture.read_frames(day), 1):
        parts.recorder.add(parts.pipeline.step(frames))
    reloader = Reloader(Settings(), lambda: level_of(NO_HOSTS), "g.toml")
    reloader.reload(parts)  # and then the power goes
    level = "SELECT value FROM meta WHERE key = 'privacy_level'"
    assert query(parts.store.path, level) == [("0",)]
    assert "rose" not in caplog.text


def test_a_question_about_a_phone_says_its_name_no_more(parts: Parts) -> None:
    new, old = "02:00:00:00:00:02", "02:00:00:00:00:01"
    parts.pipeline.devices.load(
        [Device(0, key, key, (), "bobs-phone", False, NS, NS) for key in (old, new)]
    )
    said = "it calls itself the same (bobs-phone) and asks the router for the same"
    parts.store.add(
        records=Conns.empty(), scored=Scored.empty(), devices=parts.pipeline.devices.devices(),
        now=NS,
    )  # fmt: skip
    parts.store.commit(NS)
    assert parts.store.ask_kin(new, old, said, NS)
    parts.pipeline.devices.asked[new] = Guess(new, old, said)
    reloader = Reloader(Settings(), lambda: level_of(NO_HOSTS), "g.toml")
    reloader.reload(parts)
    parts.store.reduce(lambda: None)
    assert parts.store.kin()[new] == (old, "asked", "it calls itself the same")
    assert parts.pipeline.devices.asked[new].reason == "it calls itself the same"
    assert b"bobs-phone" not in on_disk(parts.store.path)


ASK = """import socket, sys
s = socket.create_connection(("9.1.203.80", 80))
s.sendall(b"GET / HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n" % sys.argv[1].encode())
while s.recv(4096): pass
"""
SERVE = """import socket
s = socket.create_server(("9.1.203.80", 80))
while True:
    c, _ = s.accept()
    c.recv(4096); c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"); c.close()
"""


@pytest.mark.net
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_running_daemon_takes_another_level_at_sighup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, toml = tmp_path / "guardian.db", tmp_path / "guardian.toml"
    monkeypatch.setenv("GUARDIAN_CONFIG", str(toml))

    def wanted(level: int) -> None:
        toml.write_text(f"[privacy]\nlevel = {level}\n", encoding="utf-8")

    wanted(0)
    with (
        systemd(tmp_path / "notify") as said,
        hosts("device", "gateway") as (device, gateway),
    ):
        join(device, "eth0", gateway, "lan0")
        device.ip("addr", "add", "192.168.60.20/24", "dev", "eth0")
        device.ip("route", "add", "default", "via", "192.168.60.1")
        gateway.ip("addr", "add", "192.168.60.1/24", "dev", "lan0")
        gateway.ip("link", "set", "lo", "up")
        gateway.ip("addr", "add", "9.1.203.80/32", "dev", "lo")
        gateway.start(sys.executable, "-c", SERVE)
        with daemon(gateway, db, "lan0", tmp_path / "notify") as (process, log):
            until(lambda: "READY=1" in said, "the daemon is ready", 60)

            def call(host: str, rows: int) -> list[tuple[str, str]]:
                device.run(sys.executable, "-c", ASK, host)
                sql = "SELECT host, resp_h FROM connections WHERE service = 'http' ORDER BY id"
                until(lambda: len(query(db, sql)) == rows, f"{host} is written", 40)
                return query(db, sql)

            first = ("before.example", "9.1.203.80")
            assert call(first[0], 1) == [first]

            wanted(2)
            process.send_signal(signal.SIGHUP)
            until(lambda: "rose from 0 to 2" in log.read_text(), "it is taken up")
            level = "SELECT value FROM meta WHERE key = 'privacy_level'"
            until(lambda: query(db, level) == [("2",)], "what was there is reduced")
            bare = ("", "0.0.0.0")
            assert call("between.example", 2) == [bare, bare]
            data = on_disk(db)
            assert not found({b"before.example", b"between.example", b"9.1.203.80"}, data)

            wanted(0)
            process.send_signal(signal.SIGHUP)
            until(lambda: query(db, level) == [("0",)], "it is taken back")
            last = ("after.example", "9.1.203.80")
            assert call(last[0], 3) == [bare, bare, last]
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert "waits for a restart" not in log.read_text()
