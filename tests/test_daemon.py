"""The daemon alone in a namespace: readiness, watchdog, wishes of the user, a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.broker import until
from tests.conftest import ROOT
from tests.namespaces import Host, hosts, join

pytestmark = [pytest.mark.net, pytest.mark.slow]


@contextmanager
def daemon(
    host: Host, db: Path, interface: str, notify: Path, *before: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run `guardian run`; its stderr goes to a file."""
    log = db.with_suffix(".log")
    with log.open("w", encoding="utf-8") as file:
        process = host.start(
            *before, sys.executable, "-m", "guardian.cli", "run", "-i", interface,
            cwd=ROOT, text=True, stderr=file,
            env={
                **os.environ,
                "GUARDIAN_STORE_PATH": str(db),
                "GUARDIAN_STORE_COMMIT_S": "0.3",
                "NOTIFY_SOCKET": str(notify),
            },
        )  # fmt: skip
        yield process, log


@contextmanager
def systemd(address: Path) -> Iterator[list[str]]:
    """Listen on a notification socket as systemd does; what is said goes into the list."""
    said: list[str] = []
    over = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(address))
        sock.settimeout(0.1)

        def listen() -> None:
            while not over.is_set():
                try:
                    said.extend(sock.recv(4096).decode().splitlines())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield said
            time.sleep(0.3)
        finally:
            over.set()
            thread.join()


def query(db: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def send(host: Host, count: int, port: int, to: str = "192.168.60.1") -> None:
    """Send datagrams from a host, each from its own source port."""
    script = (
        "import socket\n"
        f"for k in range({count}):\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"    s.bind(('', 30000 + k)); s.sendto(b'x' * 20, ('{to}', {port})); s.close()\n"
    )
    host.run(sys.executable, "-c", script)


@pytest.mark.timeout(150)
def test_a_daemon_is_ready_feeds_the_watchdog_hears_its_user_and_ends_clean(tmp_path: Path) -> None:
    db = tmp_path / "guardian.db"
    address = tmp_path / "notify"
    with (
        systemd(address) as said,
        hosts("device", "gateway") as (device, gateway),
    ):
        join(device, "eth0", gateway, "lan0")
        device.ip("addr", "add", "192.168.60.20/24", "dev", "eth0")
        gateway.ip("addr", "add", "192.168.60.1/24", "dev", "lan0")
        mac = device.run("cat", "/sys/class/net/eth0/address").strip()

        with daemon(gateway, db, "lan0", address) as (process, log):
            until(lambda: "READY=1" in said, "the daemon is ready", 60)
            send(device, 50, 9_999)
            until(lambda: (mac,) in query(db, "SELECT mac FROM devices"), "the device is known")
            done = subprocess.run(
                [
                    sys.executable, "-m", "guardian.cli", "devices", "--db", str(db),
                    "--name", mac, "Hall camera",
                ],
                capture_output=True, check=False, cwd=ROOT, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            until(
                lambda: query(db, "SELECT user_name FROM devices WHERE user_name IS NOT NULL"),
                "the daemon takes the name",
                30,
            )
            gateway.ip("link", "set", "lan0", "down")
            until(lambda: "trying again" in log.read_text(), "it says that the interface is down")
            gateway.ip("link", "set", "lan0", "up")
            until(lambda: "is back" in log.read_text(), "the interface is back", 30)
            send(device, 30, 9_998)
            time.sleep(1.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
    assert "WATCHDOG=1" in said
    assert said[-1] == "STOPPING=1"
    assert any(line.startswith("STATUS=") for line in said)
    sent = query(
        db,
        "SELECT resp_p, count(*), sum(orig_bytes), sum(orig_pkts) FROM connections "
        "WHERE proto = 17 AND resp_p IN (9998, 9999) "
        "GROUP BY resp_p",
    )
    assert [(row[0], row[1], row[3]) for row in sent] == [(9_998, 30, 30), (9_999, 50, 50)]
    assert query(db, "SELECT value FROM meta WHERE key = 'ended'") == [("clean",)]
    listed = subprocess.run(
        [sys.executable, "-m", "guardian.cli", "devices", "--db", str(db), "--json"],
        capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert "Hall camera" in {d["name"] for d in json.loads(listed.stdout)}


@pytest.mark.timeout(150)
def test_capturing_needs_one_capability_and_no_other(tmp_path: Path) -> None:
    """What the unit leaves it: CAP_NET_RAW alone, not even the rights of root over files."""
    db, address = tmp_path / "guardian.db", tmp_path / "notify"
    little = ("setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw")
    with systemd(address) as said, hosts("device", "gateway") as (device, gateway):
        join(device, "eth0", gateway, "lan0")
        device.ip("addr", "add", "192.168.60.20/24", "dev", "eth0")
        gateway.ip("addr", "add", "192.168.60.1/24", "dev", "lan0")
        gateway.ip("link", "set", "lan0", "name", "late0")  # as a card that is not there yet
        with daemon(gateway, db, "lan0", address, *little) as (process, log):
            until(lambda: "STATUS=waiting for lan0" in said, "it waits", 60)
            gateway.ip("link", "set", "late0", "name", "lan0")
            gateway.ip("link", "set", "lan0", "up")
            until(lambda: "READY=1" in said or process.poll() is not None, "it is ready", 60)
            assert process.poll() is None, log.read_text(encoding="utf-8")
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            effective = next(x for x in status.splitlines() if x.startswith("CapEff"))
            assert int(effective.split()[1], 16) == 1 << 13  # CAP_NET_RAW
            send(device, 20, 9_999)
            time.sleep(1.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
    assert query(db, "SELECT count(*) FROM connections WHERE resp_p = 9999") == [(20,)]
