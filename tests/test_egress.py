"""Zero egress, seen from outside: the daemon's sockets and the wire, through a reload or two.

The daemon is alone in its namespace, so every socket there is its own. On the other end of its one
wire a sniffer notes all that comes from its MAC. Its settings change under it meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.broker import mosquitto, until
from tests.conftest import ROOT
from tests.namespaces import Host, hosts, join

pytestmark = [
    pytest.mark.net,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("ip"), reason="needs ip"),
]

WIRE = """
import json, socket, sys
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 0))
print("ready", flush=True)
told = set()
while True:
    f = s.recv(65535)
    if f[6:12] != mac:
        continue
    kind = f[12:14].hex()
    if kind == "0800":
        h = 14 + (f[14] & 15) * 4
        proto, to = f[23], socket.inet_ntoa(f[30:34])
        port = int.from_bytes(f[h + 2 : h + 4], "big") if proto in (6, 17) else -1
        one = ("ip", proto, to, port)
    elif kind == "86dd":
        one = ("ip6", f[20], socket.inet_ntop(socket.AF_INET6, f[38:54]), -1)
    else:
        one = (kind, 0, "", -1)
    if one not in told:
        told.add(one)
        print(json.dumps(one), flush=True)
"""
"""Prints each kind of packet that a MAC sends, once."""

TRAFFIC = """
import socket, struct, sys
name = b"\\x07tracker\\x07example\\x00\\x00\\x01\\x00\\x01"
query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + name
hello = bytes.fromhex("16030100") + b"x" * 200
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for k in range(40):
    s.sendto(query, ("192.168.60.1", 53))
    s.sendto(query, ("203.0.113.9", 53))
    s.sendto(b"GET / HTTP/1.1\\r\\nHost: elsewhere.example\\r\\n\\r\\n", ("203.0.113.10", 80 + k))
    s.sendto(query, ("224.0.0.251", 5353))
bootp = bytes([1, 1, 6, 0]) + bytes(24) + bytes.fromhex(sys.argv[1].replace(":", "")) + bytes(202)
options = bytes.fromhex("63825363") + bytes([53, 1, 3, 12, 6]) + b"kettle" + b"\\xff"
s2 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s2.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s2.bind(("", 68))
s2.sendto(bootp + options, ("192.168.60.255", 67))
"""
"""Questions for names, requests that carry names, a name of its own: all that tempts to look up."""


LEAK = """
import socket, time
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.connect(("203.0.113.53", 53))
asking.send(b"x")
time.sleep(0.3)
"""


class Sockets:
    """All Internet sockets of a namespace, by a look many times a second."""

    def __init__(self, pid: int) -> None:
        self._net = Path(f"/proc/{pid}/net")
        self.seen: set[tuple[str, str, str]] = set()
        """(kind, remote address and port, state) of each."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
                try:
                    lines = (self._net / kind).read_text(encoding="ascii").splitlines()[1:]
                except OSError:
                    return  # the daemon ended
                for line in lines:
                    _, _, remote, state = line.split()[:4]
                    self.seen.add((kind, remote, state))

    def __enter__(self) -> Sockets:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@contextmanager
def sniffed(host: Host, mac: str) -> Iterator[list[list[Any]]]:
    """Note what a MAC sends to a host's eth0."""
    found: list[list[Any]] = []
    process = host.start(sys.executable, "-c", WIRE, mac, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"

    def read() -> None:
        found.extend(json.loads(line) for line in process.stdout or ())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield found
    finally:
        process.terminate()
        thread.join()


def hexed(address: str, port: int) -> str:
    """An address as /proc/net/tcp writes it."""
    packed = bytes(map(int, address.split(".")))
    return f"{struct.unpack('<I', packed)[0]:08X}:{port:04X}"


def wanted(folder: Path, more: str = "") -> str:
    return (
        'version = 1\n[capture]\ninterface = "lan0"\n'
        f'[store]\npath = "{folder / "guardian.db"}"\ncommit_s = 0.3\n{more}'
    )


def status(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "guardian.cli", "status", "--json", "--db", folder / "guardian.db"],
        capture_output=True, check=False, cwd=ROOT,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(150)
def test_nothing_leaves_and_nothing_listens_but_what_the_user_asked_for(tmp_path: Path) -> None:
    toml, log = tmp_path / "guardian.toml", tmp_path / "log"
    toml.write_text(wanted(tmp_path), encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GUARDIAN_")}
    with hosts("device", "gateway") as (device, gateway):
        join(device, "eth0", gateway, "lan0")
        device.ip("addr", "add", "192.168.60.20/24", "dev", "eth0")
        device.ip("route", "add", "default", "via", "192.168.60.1")
        gateway.ip("addr", "add", "192.168.60.1/24", "dev", "lan0")
        gateway.ip("route", "add", "default", "via", "192.168.60.20")  # where a leak would go
        mac = device.run("cat", "/sys/class/net/eth0/address").strip()
        own = gateway.run("cat", "/sys/class/net/lan0/address").strip()
        config = tmp_path / "mosquitto.conf"
        config.write_text(
            "listener 1883 192.168.60.20\nallow_anonymous true\nuser root\nlog_type none\n",
            encoding="ascii",
        )
        device.start(mosquitto(), "-c", str(config))
        with log.open("w", encoding="utf-8") as file, sniffed(device, own) as wire:
            daemon = gateway.start(
                sys.executable, "-m", "guardian.cli", "run", "-c", str(toml), cwd=ROOT,
                stderr=file, env={**clean, "RUNTIME_DIRECTORY": str(tmp_path)},
            )  # fmt: skip

            def said() -> str:
                return log.read_text(encoding="utf-8")

            until(lambda: "watching lan0" in said() or daemon.poll() is not None, "it runs", 60)
            assert daemon.poll() is None, said()

            # everything off: not one Internet socket
            with Sockets(daemon.pid) as alone:
                device.run(sys.executable, "-c", TRAFFIC, mac)
                time.sleep(7.0)
            assert alone.seen == set()
            sent = {tuple(one) for one in wire}
            # the kernel answers: ARP, unreachable ports (ICMP), what an IPv6 interface says
            assert {one[:2] for one in sent} <= {("0806", 0), ("ip", 1), ("ip6", 58), ("ip6", 0)}
            assert ("0806", 0, "", -1) in sent  # the sniffer works

            # a broken file changes nothing, and is told
            toml.write_text(wanted(tmp_path, '[mqqt]\nhost = "x"\n'), encoding="utf-8")
            daemon.send_signal(signal.SIGHUP)
            until(lambda: "line 7: unknown key 'mqqt'; did you mean 'mqtt'?" in said(), "told")
            until(lambda: "line 7" in status(tmp_path)["config"]["fault"], "status tells it, too")

            # a hub: one connection, to it
            toml.write_text(wanted(tmp_path, '[mqtt]\nhost = "192.168.60.20"\n'), encoding="utf-8")
            with Sockets(daemon.pid) as hub:
                daemon.send_signal(signal.SIGHUP)
                until(lambda: "changed: mqtt.host" in said(), "the hub is taken up")
                device.run(sys.executable, "-c", TRAFFIC, mac)
                gateway.ip("addr", "add", "2001:db8:7::1/64", "dev", "lan0", "nodad")
                until(lambda: "new network: 2001:db8:7::/64" in said(), "the prefix is learned")
                until(lambda: status(tmp_path)["hub"].get("connected"), "the hub is there")
                time.sleep(1.0)
            assert status(tmp_path)["config"]["fault"] == ""
            peers = {(kind, remote) for kind, remote, _ in hub.seen}
            assert peers == {("tcp", hexed("192.168.60.20", 1883))}
            assert "0A" not in {state for *_, state in hub.seen}  # LISTEN
            others = {tuple(one) for one in wire if one[0] == "ip" and one[1] != 1}
            assert others == {("ip", 6, "192.168.60.20", 1883)}

            # had it done otherwise, this would have seen it
            with Sockets(daemon.pid) as other:
                gateway.run(sys.executable, "-c", LEAK)
            kinds = {(kind, state) for kind, _, state in other.seen - hub.seen}
            assert {("tcp", "0A"), ("udp", "01")} <= kinds
            until(lambda: ["ip", 17, "203.0.113.53", 53] in wire, "the wire shows it")

            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0
            assert "waits for a restart" not in said()
    assert status(tmp_path)["running"] is False
