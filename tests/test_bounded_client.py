"""A broker that would fill memory is hung up on first; real sockets, measured in a process."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from guardian import boundedclient, publish
from guardian.boundedclient import MAX_PACKET
from guardian.broker import make_client
from guardian.config import MqttSettings
from guardian.leftovers import MAX_BYTES
from guardian.publish import Publisher
from guardian.store import Store
from tests.broker import broker_in, listening, until
from tests.conftest import ROOT
from tests.test_hostile_broker import message
from tests.test_publish import EVENTS, announce, drive, ids, publisher
from tests.test_store import NOW
from tests.torture.brokers import CONNECT

MIB = 1 << 20
GREETING = {"3.1.1": b"\x20\x02\x00\x00", "5": b"\x20\x03\x00\x00\x00"}
LENGTHS = {3 * MIB: b"\x80\x80\xc0\x01", 256 * MIB - 1: b"\xff\xff\xff\x7f"}
"""Remaining lengths as MQTT writes them: some MiB, and the most there is."""

VICTIM = """
import json, resource, sys, time
from pathlib import Path
from guardian.config import MqttSettings
from guardian.publish import Publisher
from guardian.store import Store
def rss():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(sys.argv[4]):
            return int(line.split()[1]) // 1024
with Store(Path(sys.argv[1])) as store:
    p = Publisher(MqttSettings(host="127.0.0.1", port=int(sys.argv[2]), version=sys.argv[3]), store)
    before = rss()
    end = time.monotonic() + 60
    p.step(0)
    while p._client is not None and time.monotonic() < end:
        p.step(0)
        time.sleep(0.01)
    print(json.dumps({"grew": rss() - before, "said": p._said}))
    p.close(0)
"""


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Talk with each that comes, one after the other; yield the port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, suppress(OSError):
                    client.settimeout(30)
                    talk(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(30)


class Filler:
    """Greets, then pours a packet of a length; `poured` is what got through."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.poured = 0

    def __call__(self, client: socket.socket) -> None:
        asked = client.recv(4_096)
        client.sendall(GREETING["5" if asked[8] == 5 else "3.1.1"])
        client.sendall(self._head)
        block = bytes(MIB)
        while self.poured < 256 * MIB:
            client.sendall(block)
            self.poured += MIB


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_huge_packet_fills_nothing(tmp_path: Path, version: str, length: int) -> None:
    """256 MiB would be there to be read; the peak of memory moves by less than 8."""
    filler = Filler(b"\x30" + LENGTHS[length])
    with serving(filler) as port:
        done = subprocess.run(
            [sys.executable, "-c", VICTIM, str(tmp_path / "g.db"), str(port), version, "VmHWM:"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["grew"] < 8
    assert filler.poured < 64 * MIB  # what the sockets' buffers hold
    assert found["said"] == f"it sends a message of {length:,} bytes"


def test_a_broker_is_told_what_it_may_send() -> None:
    """Mosquitto keeps to it: what is larger does not come, and the connection stays."""
    asked = b""

    def talk(client: socket.socket) -> None:
        nonlocal asked
        asked = client.recv(4_096)

    with serving(talk) as port:
        settings = MqttSettings(host="127.0.0.1", port=port, version="5")
        client = make_client(settings, "x")
        client.connect("127.0.0.1", port, properties=client.promised())
        client.loop(0.2)
        client.disconnect()
        client.loop(0.2)
    assert asked[0] >> 4 == CONNECT
    assert b"\x27" + MAX_PACKET.to_bytes(4, "big") in asked  # 3.1.2.11.4 of MQTT 5


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_who_leaves_a_large_message_there_stops_no_incident(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept by a good broker on a topic of the hub: each connection would end by it."""
    monkeypatch.setattr(publish, "DEAF_S", 1.0)
    caplog.set_level(logging.INFO, "guardian.publish")
    with (
        broker_in(tmp_path) as broker,
        Store(tmp_path / "g.db") as store,
        listening(broker, EVENTS) as hub,
    ):
        for size in (2 * MAX_PACKET, MAX_BYTES + 1):
            topic = f"homeassistant/device/large{size}/config"
            hub.client.publish(topic, bytes(size), 1, retain=True).wait_for_publish(5)
        p = publisher(broker.settings(version=version), store)
        deaf = version == "3.1.1"
        drive(p, lambda: p._deaf_until if deaf else p.connected, "it comes")
        announce(p, store, "i1")
        drive(p, lambda: hub.heard, "the incident is told")
        assert ids(hub.heard) == ["i1"]
        if deaf:
            hub.client.publish(
                f"homeassistant/device/large{2 * MAX_PACKET}/config", b"", 1, retain=True
            ).wait_for_publish(5)
            drive(p, lambda: not p._deaf_until, "it listens again")

        def pressed() -> bool:
            hub.client.publish("guardian/gateway/drill/set", "PRESS")
            return bool(p.take_asked())

        drive(p, pressed, "a command is heard")
        assert p.connected
        p.close(NOW)
    said = [r.getMessage() for r in caplog.records if "bytes" in r.getMessage()]
    assert len(said) == (1 if deaf else 0)


QOS_2 = b"\x34" + message(b"a/b", b"\0\1" + bytes(1_000))[1:]


@pytest.mark.parametrize(
    ("says", "why"), [(QOS_2, "QoS"), (b"\xc0\x00" * 100_000, "does not read them")]
)
def test_what_would_be_kept_for_a_broker_is_bounded(
    tmp_path: Path, says: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that wait for its second word; questions (PINGREQ) whose answers it never reads."""
    monkeypatch.setattr(boundedclient, "MAX_QUEUED", 300)
    go, over = threading.Event(), threading.Event()

    def talk(client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        client.recv(4_096)
        client.sendall(GREETING["3.1.1"])
        go.wait(20)
        client.sendall(says)
        over.wait(30)

    with serving(talk) as port, Store(tmp_path / "g.db") as store:
        p = Publisher(MqttSettings(host="127.0.0.1", port=port), store, backoff_s=(60, 60))
        drive(p, lambda: p.connected, "it is greeted")
        client = p._client
        assert client is not None
        assert client._line is not None
        client._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)  # one connection
        go.set()
        until(lambda: client.too_much, "it hangs up")
        over.set()
        assert why in client.too_much
        assert not client._in_messages
        p.step(NOW)
        p.close(NOW)


def test_an_opening_that_never_ends_holds_up_nothing(tmp_path: Path) -> None:
    """A WebSocket is opened by lines; this one's go on for ever, a byte now and then."""
    over = threading.Event()

    def talk(client: socket.socket) -> None:
        client.recv(4_096)
        while not over.wait(0.02):
            client.sendall(b"x")

    with serving(talk) as port, Store(tmp_path / "g.db") as store:
        settings = MqttSettings(host="127.0.0.1", port=port, transport="websockets")
        p = Publisher(settings, store, backoff_s=(0.1, 0.1), give_up_s=0.3)
        drive(p, lambda: p._said == "it does not answer", "it is given up")
        drive(p, lambda: p._client is not None, "it is tried again")
        begun = time.monotonic()
        p.close(NOW)
        assert time.monotonic() - begun < 10
        over.set()
    assert not [t for t in threading.enumerate() if "paho" in t.name]
