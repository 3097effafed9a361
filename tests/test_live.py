"""The daemon between two real hosts, a real broker beside it, tcpdump as the witness."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.broker import until
from tests.conftest import ROOT
from tests.namespaces import Host, hosts, join
from tests.watching import FLOWS, two_lans

pytestmark = [pytest.mark.net, pytest.mark.slow]

PORT = 18_830
SERVER = "203.0.113.2"
COMPARED = (
    "ts", "orig_h", "orig_p", "resp_h", "resp_p", "proto", "service", "conn_state", "history",
    "orig_bytes", "resp_bytes", "missed_bytes", "orig_pkts", "orig_ip_bytes", "resp_pkts",
    "resp_ip_bytes",
)  # fmt: skip


@dataclass
class Site:
    """A device, the gateway that guards it, and a server beyond."""

    device: Host
    gateway: Host
    server: Host
    folder: Path

    @property
    def db(self) -> Path:
        return self.folder / "guardian.db"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with hosts("device", "gateway", "server") as (device, gateway, server):
        join(device, "eth0", gateway, "lan0")
        join(gateway, "wan0", server, "eth0")
        device.ip("addr", "add", "192.168.50.20/24", "dev", "eth0")
        gateway.ip("addr", "add", "192.168.50.1/24", "dev", "lan0")
        gateway.ip("addr", "add", "203.0.113.1/24", "dev", "wan0")
        server.ip("addr", "add", f"{SERVER}/24", "dev", "eth0")
        device.ip("route", "add", "default", "via", "192.168.50.1")
        server.ip("route", "add", "default", "via", "203.0.113.1")
        gateway.set("net/ipv4/ip_forward", "1")
        yield Site(device, gateway, server, tmp_path)


def peer(host: Host, *words: str, **options: Any) -> subprocess.Popen[str]:
    return host.start(
        sys.executable, "-m", "tests.live_peers", *words, cwd=ROOT, text=True, **options
    )


def started(site: Site) -> tuple[subprocess.Popen[str], Path]:
    """Start server, broker, listener, tcpdump and the daemon; return the daemon and the log."""
    key, certificate = site.folder / "key.pem", site.folder / "cert.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            "/CN=cloud.example.org", "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    server = peer(site.server, "serve", str(certificate), str(key), stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"

    settings = site.folder / "mosquitto.conf"
    settings.write_text(f"listener {PORT} 127.0.0.1\nallow_anonymous true\n", encoding="ascii")
    site.gateway.start("mosquitto", "-c", str(settings), stderr=subprocess.DEVNULL)
    heard = site.folder / "heard.jsonl"

    def broker_answers() -> bool:
        script = f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 1).close()"
        done = subprocess.run(
            site.gateway.command(sys.executable, "-c", script), capture_output=True, check=False
        )
        return done.returncode == 0

    until(broker_answers, "the broker starts")
    with heard.open("w", encoding="utf-8") as file:
        peer(site.gateway, "listen", str(PORT), stdout=file)

    pcap = site.folder / "witness.pcap"
    witness = site.gateway.start(
        "tcpdump", "-i", "lan0", "-w", str(pcap), "-U", "--time-stamp-precision=nano", "-Z", "root",
        "-B", "8192", stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(witness, "listening on")

    config = site.folder / "guardian.toml"
    config.write_text(
        f'[capture]\ninterface = "lan0"\n[store]\npath = "{site.db}"\ncommit_s = 0.5\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {PORT}\n',
        encoding="utf-8",
    )
    daemon = site.gateway.start(
        sys.executable, "-m", "guardian.cli", "run", "-c", str(config),
        cwd=ROOT, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for(daemon, "watching lan0")
    return daemon, heard


def wait_for(process: subprocess.Popen[str], said: str) -> None:
    """Wait until a process says something on stderr."""
    assert process.stderr is not None
    for line in process.stderr:
        if said in line:
            return
    pytest.fail(f"{process.args!r} ended without {said!r}")


def messages(heard: Path) -> list[list[Any]]:
    lines = heard.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("]")]


def incidents_heard(heard: Path) -> list[tuple[float, dict[str, Any]]]:
    """Return the incidents that the broker got, with the moment."""
    return [
        (moment, json.loads(payload))
        for moment, topic, payload, retained in messages(heard)
        if topic.startswith("guardian/") and topic.endswith("/incident") and not retained
    ]


@pytest.mark.timeout(180)
def test_a_port_scan_is_told_within_ten_seconds_and_records_equal_tcpdumps(site: Site) -> None:
    daemon, heard = started(site)
    # Both sensors run; what the kernel says while interfaces come up lies before this moment.
    time.sleep(3.0)
    start = time.time_ns()
    site.device.run(sys.executable, "-m", "tests.live_peers", "live", SERVER, "10")
    assert not incidents_heard(heard), "a quiet device raised an incident"

    scanner = peer(site.device, "scan", SERVER, "400", "5", stdout=subprocess.PIPE)
    assert scanner.stdout is not None
    begun = float(scanner.stdout.readline())
    until(lambda: incidents_heard(heard), "the scan's incident arrives", 30)
    moment, told = incidents_heard(heard)[0]
    assert moment - begun < 10.0, f"it took {moment - begun:.1f} s"
    assert told["cause"] == "scan"
    scanner.wait(timeout=60)

    with sqlite3.connect(f"file:{site.db}?mode=ro", uri=True) as db:
        stored = db.execute("SELECT id, cause, speaker FROM incidents").fetchall()
    db.close()
    assert (told["id"], "scan", told["speaker"]) in stored

    time.sleep(1.5)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=30) == 0
    time.sleep(0.5)
    site.gateway.processes[-2].send_signal(signal.SIGTERM)
    site.gateway.processes[-2].wait(timeout=10)
    online = [p for _, topic, p, _ in messages(heard) if topic.endswith("/status")]
    assert online[-1] == "offline"

    live, seen = records(site.db), records(witnessed(site.folder / "witness.pcap"))
    # What began before both listened (neighbour discovery goes on and on) has two beginnings.
    before = {row[1:6] for row in (*live, *seen) if row[0] < start}
    live, seen = ([row for row in rows if row[1:6] not in before] for rows in (live, seen))
    assert len(live) > 400
    assert [row[1:] for row in live] == [row[1:] for row in seen]
    # Each sensor reads the clock for itself where a packet carries no stamp of its own.
    assert max(abs(a[0] - b[0]) for a, b in zip(live, seen, strict=True)) < 1_000_000


def test_one_daemon_on_two_lans_counts_what_it_routes_once(tmp_path: Path) -> None:
    """Each LAN's host answers the other's datagrams through the box that watches both."""
    with two_lans() as gateway:
        log, db = tmp_path / "log", tmp_path / "guardian.db"
        with log.open("w", encoding="utf-8") as file:
            daemon = gateway.box.start(
                sys.executable, "-m", "guardian.cli", "run", "-i", "lan1", "-i", "lan2",
                "--filter", "not port 22", cwd=ROOT, stderr=file,
                env={**os.environ, "GUARDIAN_STORE_PATH": str(db)},
            )  # fmt: skip
        until(lambda: "watching lan1, lan2 with" in log.read_text(), "the daemon watches", 60)
        ends = (gateway.one, "10.81.1.2"), (gateway.two, "10.81.2.2")
        for first in ("22", "20000", "20000"):  # the first time neighbours are not known yet
            for (host, here), (_, there) in (ends, ends[::-1]):
                flows = "1" if first == "22" else "5"
                host.run(sys.executable, "-c", FLOWS, here, there, first, flows, "30")
        time.sleep(1.0)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=30) == 0
    with sqlite3.connect(f"file:{db}?mode=ro", uri=True) as rows:
        found = rows.execute(
            "SELECT orig_pkts, resp_pkts FROM connections WHERE proto = 17 "
            "AND (orig_p >= 20000 OR resp_p >= 20000) AND orig_h LIKE '10.81.%'"
        ).fetchall()
        kept_out = rows.execute(
            "SELECT count(*) FROM connections WHERE 22 IN (orig_p, resp_p) AND proto = 17"
        ).fetchone()
    rows.close()
    assert found == [(8, 8)] * 10
    assert kept_out == (0,)


def records(db_path: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{db_path}?mode=ro", uri=True) as db:
        rows = db.execute(f"SELECT {', '.join(COMPARED)} FROM connections").fetchall()
    db.close()
    return sorted(rows, key=lambda row: repr(row[1:]))


def witnessed(pcap: Path) -> Path:
    """Replay the witness's capture into a database of its own; return its path."""
    other = pcap.with_suffix(".db")
    subprocess.run(
        [
            sys.executable, "-m", "guardian.cli", "replay", str(pcap), "--ignore-checksums",
            "--db", str(other),
        ],
        check=True, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    return other
