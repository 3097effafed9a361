"""Services by their first bytes, names made safe, and no exception on any bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import service, tlsname
from guardian.const import HOST_BYTES

TCP, UDP = 6, 17
ASK, ANSWER = True, False


def heard(proto: int, port: int, *payloads: tuple[bool, bytes]) -> tuple[bytes, bytes]:
    """Return service and host after some payloads."""
    memory, found, host = 0, b"", b""
    for asking, payload in payloads:
        if service.hungry_one(memory, asking):
            memory, found, host = service.sniff(memory, asking, proto, port, payload, found, host)
    return found, host


def hello(name: bytes) -> bytes:
    """Return a ClientHello that asks for a name."""
    entry = b"\x00" + len(name).to_bytes(2, "big") + name
    names = len(entry).to_bytes(2, "big") + entry
    extensions = b"\x00\x17\x00\x00" + b"\x00\x00" + len(names).to_bytes(2, "big") + names
    body = b"\x03\x03" + b"r" * 32 + b"\x20" + b"s" * 32 + b"\x00\x02\x13\x01" + b"\x01\x00"
    body += len(extensions).to_bytes(2, "big") + extensions
    shake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(shake).to_bytes(2, "big") + shake


SERVER_HELLO = b"\x16\x03\x03\x00\x31\x02\x00\x00\x2d\x03\x03" + b"r" * 32
GET = b"GET /a HTTP/1.1\r\nUser-Agent: x\r\nHost: Camera.Example\r\n\r\n"
QUERY = (
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03Www\x07example\x03org\x00\x00\x01\x00\x01"
)


@pytest.mark.parametrize(
    ("proto", "port", "payloads", "found", "host"),
    [
        (TCP, 80, [(ASK, GET)], b"http", b"camera.example"),
        (TCP, 9999, [(ASK, GET), (ANSWER, b"HTTP/1.1 200 OK\r\n")], b"http", b"camera.example"),
        (TCP, 22, [(ASK, GET), (ANSWER, b"SSH-2.0-x\r\n")], b"", b"camera.example"),
        (TCP, 22, [(ANSWER, b"SSH-2.0-x\r\n"), (ASK, GET)], b"", b"camera.example"),
        (TCP, 80, [(ASK, GET), (ANSWER, b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n")],
         b"http,websocket", b"camera.example"),
        (TCP, 443, [(ASK, hello(b"Api.Example.com")), (ANSWER, SERVER_HELLO)], b"ssl",
         b"api.example.com"),
        (TCP, 80, [(ASK, hello(b"a.b")), (ANSWER, b"HTTP/1.1 400 Bad Request\r\n")], b"", b"a.b"),
        (TCP, 2222, [(ANSWER, b"SSH-2.0-a\r\n"), (ASK, b"SSH-2.0-b\r\n")], b"ssh", b""),
        (TCP, 22, [(ANSWER, b"SSH-2.0-a\r\n")], b"", b""),
        (TCP, 25, [(ANSWER, b"220 mail\r\n"), (ASK, b"EHLO me\r\n")], b"smtp", b""),
        (TCP, 21, [(ANSWER, b"220 ftp\r\n"), (ASK, b"USER me\r\n")], b"ftp", b""),
        (TCP, 6667, [(ASK, b"NICK a\r\nUSER a 0 * :a\r\n"), (ANSWER, b":srv 001 a :hi\r\n")],
         b"irc", b""),
        (TCP, 143, [(ANSWER, b"* OK ready\r\n"), (ASK, b"a1 CAPABILITY\r\n")], b"imap", b""),
        (TCP, 110, [(ANSWER, b"+OK ready\r\n"), (ASK, b"USER me\r\n")], b"pop3", b""),
        (TCP, 1883, [(ASK, b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c")], b"mqtt", b""),
        (TCP, 23, [(ANSWER, b"\xff\xfd\x18\xff\xfd\x20")], b"telnet", b""),
        (TCP, 554, [(ASK, b"OPTIONS rtsp://c/ RTSP/1.0\r\nCSeq: 1\r\n")], b"rtsp", b""),
        (TCP, 53, [(ASK, len(QUERY).to_bytes(2, "big") + QUERY)], b"dns", b"www.example.org"),
        (UDP, 53, [(ASK, QUERY)], b"dns", b"www.example.org"),
        (UDP, 5353, [(ASK, QUERY)], b"dns", b"www.example.org"),
        (UDP, 9999, [(ASK, QUERY)], b"", b""),
        (UDP, 123, [(ASK, b"\x23" + b"\x00" * 47)], b"ntp", b""),
        (UDP, 67, [(ASK, b"\x01" * 236 + b"\x63\x82\x53\x63")], b"dhcp", b""),
        (UDP, 1900, [(ASK, b"M-SEARCH * HTTP/1.1\r\n")], b"ssdp", b""),
        (UDP, 5683, [(ASK, b"\x40\x01\x12\x34\xb1a")], b"coap", b""),
        (UDP, 3478, [(ASK, b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"t" * 12)], b"stun", b""),
        (UDP, 5060, [(ASK, b"REGISTER sip:a SIP/2.0\r\n")], b"sip", b""),
        (UDP, 161, [(ASK, b"\x30\x26\x02\x01\x01\x04\x06public")], b"snmp", b""),
        (UDP, 443, [(ASK, b"\xc3\x00\x00\x00\x01\x08" + b"q" * 1_200)], b"quic,ssl", b""),
        (TCP, 80, [(ASK, b"GETX"), (ANSWER, b"nothing")], b"", b""),
    ],
)  # fmt: skip
def test_known(
    proto: int, port: int, payloads: list[tuple[bool, bytes]], found: bytes, host: bytes
) -> None:
    assert heard(proto, port, *payloads) == (found, host)


def test_a_name_is_made_safe() -> None:
    evil = b"GET / HTTP/1.1\r\nHost: \x1b[31mred\x00" + b"A" * 300 + b"\r\n\r\n"
    _, host = heard(TCP, 80, (ASK, evil))
    assert host.startswith(b"?[31mred?aaa")
    assert len(host) == HOST_BYTES
    assert service.printable(bytes(range(256))) == service.printable(bytes(range(64)))
    assert tlsname.server_name(hello(b"x.y")[:-2]) == b""


def test_looking_ends() -> None:
    memory, found, host = 0, b"", b""
    for _ in range(service.LIMIT):
        assert service.hungry_one(memory, ASK)
        memory, found, host = service.sniff(memory, ASK, TCP, 1, b"\x00", found, host)
    assert not service.hungry_one(memory, ASK)
    assert service.hungry_one(memory, ANSWER)
    both = service.hungry(np.array([memory, memory]), np.array([ASK, ANSWER]))
    assert both.tolist() == [False, True]


SEEDS = (GET, QUERY, hello(b"a.example"), SERVER_HELLO, b"\x10\xff\xff\xff\xff", b"220 x", b"")


@settings(max_examples=400)
@given(
    st.sampled_from((TCP, UDP, 1)),
    st.sampled_from((0, 21, 22, 23, 25, 53, 67, 80, 88, 110, 123, 137, 143, 161, 389, 443, 502,
                     514, 1812, 1900, 3306, 5353, 5683, 6379, 6667)),
    st.lists(st.tuples(st.booleans(), st.one_of(
        st.binary(max_size=200),
        st.tuples(st.sampled_from(SEEDS), st.integers(0, 80), st.binary(max_size=8)).map(
            lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]),
    )), max_size=5),
)  # fmt: skip
def test_hostile_bytes(proto: int, port: int, payloads: list[tuple[bool, bytes]]) -> None:
    found, host = heard(proto, port, *payloads)
    assert all(33 <= b < 127 for b in host + found)
    assert len(host) <= HOST_BYTES
    assert found.islower() or not found


def test_no_pattern_takes_long() -> None:
    """Long payloads of one letter, which make a careless pattern try every cut."""
    for filler in (b"A", b" ", b"\r", b"\n", b"a ", b"1"):
        for start in (b"GET ", b"NICK ", b"INVITE sip:", b"USER ", b":a ", b"* OK"):
            for asking in (ASK, ANSWER):
                heard(TCP, 110, (asking, (start + filler * service.MAX_LOOK)[: service.MAX_LOOK]))
