"""Nothing from the broker is believed: neither what it says nor how it says it."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardian import commands, hubcommands, publish
from guardian.config import MqttSettings
from guardian.discovery import Topics, slug
from guardian.hubcommands import Limit, Refused, read
from guardian.publish import MAX_ASKED, MAX_HAPPENED, Publisher
from guardian.store import Store
from tests.broker import until

KEYS = ("aa:bb:cc:dd:ee:01", "ip:192.168.1.9")
TOPICS = Topics("0123456789ab", "guardian", "homeassistant")
NOW = 1_790_000_000 * 10**9

WORDS = st.sampled_from(
    ["PRESS", "INSTALL", "ON", "OFF", "2", "2.0", "9" * 1_000, "1e9", "-1", "null", "[]", "{}",
     '{"for":"2h"}', '{"device":"aa:bb:cc:dd:ee:01","preview":true}', '{"peer":"=cmd"}',
     '{"cause":"scan","for":"9999999w"}', '{"incident":"x","answer":"bad"}', '{"id":"' + "9" * 300,
     '{"id":"\\u001b[2J"}', '{"peer":"10.0.0.0/0"}', '{"device":null,"peer":[],"cause":{}}',
     "[" * 1_000, "\x00", "\u202e", " PRESS"]
)  # fmt: skip
LEVELS = st.one_of(
    st.sampled_from(
        ["gateway", "device", "set", "drill", "models", "budget", "undo", "allow", "feedback",
         "snooze", "fine", "bad", "name", "forget", slug(KEYS[0]), slug(KEYS[1]), "", "..",
         "\x1b[2J", "\n<6>all is well"]
    ),
    st.text(max_size=12),
)  # fmt: skip
PAYLOADS = st.one_of(WORDS.map(str.encode), st.binary(max_size=200), st.binary(min_size=1_020))


@given(st.lists(LEVELS, max_size=5), PAYLOADS)
@settings(max_examples=400)
@example(["gateway", "budget", "set"], b"3")
@example(["device", slug(KEYS[0]), "name", "set"], b"\x1b[2J\n" * 50)
def test_a_message_is_a_checked_command_or_refused(levels: list[str], payload: bytes) -> None:
    topic = "/".join([TOPICS.prefix, *levels])
    try:
        wish = read(TOPICS, topic, payload, KEYS, NOW)
    except Refused as refused:
        told = str(refused)
    else:
        told = ""
        args = dict(wish.args)
        if wish.last:
            args |= {"incident": "x", "command": "x"}
        if not wish.preview:
            assert commands.check(wish.kind, args) is None
        for value in args.values():
            assert not isinstance(value, str) or value.isprintable() or wish.kind == "undo"
    assert told.isprintable()
    assert len(told) < 400


def test_only_the_documented_topics_are_asked_for() -> None:
    """Each filter has as many levels as its topics, and none reaches what others publish."""
    for asked in TOPICS.commands:
        assert asked.startswith("guardian/")
        assert asked.endswith("/set")
        assert "#" not in asked
        assert asked.count("/") in (3, 4)
    with pytest.raises(Refused, match="no such topic"):
        read(TOPICS, "guardian/gateway/rollback/set", b"PRESS", KEYS, NOW)
    with pytest.raises(Refused, match="no such topic"):
        read(TOPICS, "other/gateway/drill/set", b"PRESS", KEYS, NOW)


def test_more_than_a_person_presses_is_not_taken() -> None:
    limit = Limit()
    taken = sum(limit.take(0.001 * k) for k in range(60_000))  # a minute of a thousand a second
    assert hubcommands.BURST <= taken <= hubcommands.BURST + 60 * hubcommands.PER_S + 1
    assert limit.refused == 60_000 - taken


# --- a broker that is none -----------------------------------------------------------------


@dataclass
class Liar:
    """Accepts every client, greets it, and then says what it shall."""

    server: socket.socket
    greeting: bytes
    says: bytes = b""
    clients: list[socket.socket] = field(default_factory=list)

    def run(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            self.clients.append(client)
            with suppress(OSError):
                client.recv(4_096)
                client.sendall(self.greeting)
                client.sendall(self.says)


@contextmanager
def lying(greeting: bytes) -> Iterator[Liar]:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        liar = Liar(server, greeting)
        thread = threading.Thread(target=liar.run, daemon=True)
        thread.start()
        try:
            yield liar
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for client in liar.clients:
                client.close()
            thread.join(5)


def message(topic: bytes, payload: bytes, flags: int = 0) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + payload
    size, out = len(body), b""
    while True:
        out += bytes([size & 127 | (128 if size > 127 else 0)])
        size >>= 7
        if not size:
            return bytes([0x30 | flags]) + out + body


SAYS = {
    "a topic that is no text": message(b"\xff\xfe/x", b"hi"),
    "no topic": message(b"", b""),
    "controls": message(b"guardian/gateway/drill/set\n\x1b[2J", b"\xff"),
    "a cut message": b"\x30\x02\x00\xff",
    "an empty message": b"\x30\x00",
    "a kind that is none": b"\xf0\x00" + b"\x00\x00" * 10,
    "too long a length": b"\x30\xff\xff\xff\xff\x7f",
    "another greeting": b"\x20\x02\x00\x05",
    "answers to nothing": b"\x40\x02\x00\x07\x62\x02\x00\x05\x90\x03\x00\x01\x80\xd0\x00",
    "noise": random.Random(3).randbytes(3_000),
}


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_whatever_a_broker_says_the_daemon_goes_on(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "LINGER_S", 0.05)
    greeting = b"\x20\x02\x00\x00" if version == "3.1.1" else b"\x20\x03\x00\x00\x00"
    died: list[str] = []
    before, threading.excepthook = threading.excepthook, lambda a: died.append(str(a.exc_value))
    try:
        for says in SAYS.values():
            with lying(greeting) as liar, Store(tmp_path / "g.db") as store:
                liar.says = says
                where = replace(
                    MqttSettings(), host="127.0.0.1", version=version,
                    port=liar.server.getsockname()[1],
                )  # fmt: skip
                publisher = Publisher(where, store, backoff_s=(0.02, 0.02))
                deadline = time.monotonic() + 0.25
                while time.monotonic() < deadline:
                    publisher.step(NOW)
                    for topic, payload in publisher.take_asked():
                        with pytest.raises(Refused):
                            read(publisher.topics, topic, payload, KEYS, NOW)
                    time.sleep(0.01)
                assert liar.clients, "it was asked"
                publisher.close(NOW)
    finally:
        threading.excepthook = before
    assert not died


def test_a_flood_of_commands_is_dropped_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "LINGER_S", 0.05)
    caplog.set_level(logging.WARNING)
    with lying(b"\x20\x02\x00\x00") as liar, Store(tmp_path / "g.db") as store:
        liar.says = message(b"guardian/gateway/drill/set", b"PRESS") * 20_000
        where = replace(MqttSettings(), host="127.0.0.1", port=liar.server.getsockname()[1])
        publisher = Publisher(where, store)
        publisher.step(NOW)
        # The daemon is busy with a batch: nobody takes what comes meanwhile.
        until(lambda: publisher._happened.qsize() >= MAX_HAPPENED, "the flood is there")
        time.sleep(0.2)
        assert publisher._happened.qsize() <= MAX_HAPPENED + 5
        publisher.step(NOW)
        assert len(publisher.take_asked()) <= MAX_ASKED
        publisher.close(NOW)
    assert len(caplog.records) < 10
