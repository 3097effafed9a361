"""Services by their first bytes, names made safe, and no exception on any bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import datagrams, service, tlsname
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


def framed(contents: bytes, mask: bytes = b"") -> bytes:
    """Return contents as a WebSocket frame, masked as a client must."""
    size = len(contents)
    length = bytes([size | 128 * bool(mask)])
    if size > 125:
        length = bytes([126 | 128 * bool(mask)]) + size.to_bytes(2, "big")
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(contents)) if mask else contents
    return b"\x82" + length + mask + body


HELLO = hello(b"mail.example")
SERVER_HELLO = b"\x16\x03\x03\x00\x31\x02\x00\x00\x2d\x03\x03" + b"r" * 32
GET = b"GET /a HTTP/1.1\r\nUser-Agent: x\r\nHost: Camera.Example\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
MQTT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c"
OPEN_LDAP = b"\x30\x1d\x02\x01\x01"
START_TLS = OPEN_LDAP + b"\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
SEARCH = b"\x30\x0c\x02\x01\x01\x63\x07\x04\x00\x0a\x01\x00\x0a\x01\x00"
ENTRY = b"\x30\x0c\x02\x01\x01\x64\x07\x04\x00\x30\x00"
BIND = b"\x30\x43\x02\x01\x02\x60\x3d\x02\x01\x03\x04\x00\xa3\x36\x04\x0aGSS-SPNEGO\x04\x28"
NTLM = b"NTLMSSP\x00\x01\x00\x00\x00"
SPNEGO = b"\x60\x50\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x40"
KERBEROS = b"\x60\x40\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00\x6e\x20"
SMB_SETUP = b"\x00\x00\x00\x90\xfeSMB\x40\x00" + b"\x00" * 6 + b"\x01\x00" + b"\x00" * 70
DCE_BIND = b"\x05\x00\x0b\x03\x10\x00\x00\x00\x74\x00\x00\x00"
SMB_OTHER = b"\x00\x00\x00\x90\xfeSMB\x40\x00" + b"\x00" * 6 + b"\x05\x00" + b"\x00" * 70
SMB_WRITE = SMB_OTHER[:16] + b"\x09\x00" + b"\x00" * 90 + DCE_BIND
SMB_NEGOTIATE = b"\x00\x00\x00\x40\xfeSMB\x40\x00" + b"\x00" * 90
STREAM = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client'>"
RDP_ASK = b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"
RDP_ANSWER = b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x02\x00\x00\x00"
DNP3 = b"\x05\x64\x0a\x44\x03\x00\x04\x00\x7c\xae\xe6\xf7"
STUN = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"t" * 12
TUYA = b"\x00\x00\x55\xaa" + b"\x00" * 12 + b"x" * 8 + b"\x00\x00\xaa\x55"
KASA = bytes.fromhex("d0f281f88bff9af7d5ef94b6d1b4c09fec95e68fe187e8caf08bf68bf6")
"""What a TP-Link plug is asked: {"system":{"get_sysinfo":{}}}, hidden."""
QUERY = (
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03Www\x07example\x03org\x00\x00\x01\x00\x01"
)


@pytest.mark.parametrize(
    ("proto", "port", "payloads", "found", "host"),
    [
        (TCP, 80, [(ASK, GET)], b"http", b"camera.example"),
        (TCP, 9999, [(ASK, GET), (ANSWER, b"HTTP/1.1 200 OK\r\n")], b"http", b"camera.example"),
        (TCP, 80, [(ASK, GET[:32]), (ASK, GET[32:]), (ANSWER, b"HTTP/1.1 200 OK\r\n")], b"http",
         b"camera.example"),
        (TCP, 80, [(ASK, GET[:44]), (ASK, GET[44:]), (ANSWER, b"HTTP/1.1 200 OK\r\n")], b"http",
         b""),
        (TCP, 22, [(ASK, GET), (ANSWER, b"SSH-2.0-x\r\n")], b"", b"camera.example"),
        (TCP, 22, [(ANSWER, b"SSH-2.0-x\r\n"), (ASK, GET)], b"", b"camera.example"),
        (TCP, 80, [(ASK, GET), (ANSWER, b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n")],
         b"http,websocket", b"camera.example"),
        (TCP, 443, [(ASK, hello(b"Api.Example.com")), (ANSWER, SERVER_HELLO)], b"ssl",
         b"api.example.com"),
        (TCP, 80, [(ASK, hello(b"a.b")), (ANSWER, b"HTTP/1.1 400 Bad Request\r\n")], b"", b"a.b"),
        (TCP, 2222, [(ANSWER, b"SSH-2.0-a\r\n"), (ASK, b"SSH-2.0-b\r\n")], b"ssh", b""),
        (TCP, 22, [(ANSWER, b"SSH-2.0-a\r\n")], b"", b""),
        (TCP, 22, [(ANSWER, b"SSH-2.0-a\r\n"), (ANSWER, b"SSH-2.0-a\r\n")], b"", b""),
        (TCP, 6379, [(ANSWER, b"+OK\r\n"), (ANSWER, b"+OK\r\n")], b"", b""),
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
        (UDP, 5353, [(ASK, QUERY[:12] + b"\x010" * 32 + b"\x03ip6\x04arpa\x00\x00\x0c\x00\x01")],
         b"dns", (b"0." * 32)[:HOST_BYTES]),
        (UDP, 5353, [(ASK, QUERY[:12] + b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f"
                      + b"c" * 63 + b"\x3f" + b"d" * 63 + b"\x00\x00\x0c\x00\x01")], b"", b""),
        (UDP, 123, [(ASK, b"\x23" + b"\x00" * 47)], b"ntp", b""),
        (UDP, 67, [(ASK, b"\x01" * 236 + b"\x63\x82\x53\x63")], b"dhcp", b""),
        (UDP, 1900, [(ASK, b"M-SEARCH * HTTP/1.1\r\n")], b"ssdp", b""),
        (UDP, 1982, [(ASK, b"M-SEARCH * HTTP/1.1\r\nST: wifi_bulb\r\n")], b"ssdp", b""),
        (UDP, 9, [(ASK, b"NOTIFY * HTTP/1.1\r\n")], b"ssdp", b""),
        (UDP, 9, [(ANSWER, b"SIP/2.0 200 OK\r\n")], b"sip", b""),
        (UDP, 6881, [(ASK, b"d1:ad2:id20:abcdefghij0123456789")], b"bittorrent", b""),
        (UDP, 5683, [(ASK, b"\x40\x01\x12\x34\xb1a")], b"coap", b""),
        (UDP, 3478, [(ASK, b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"t" * 12)], b"stun", b""),
        (UDP, 5060, [(ASK, b"REGISTER sip:a SIP/2.0\r\n")], b"sip", b""),
        (UDP, 161, [(ASK, b"\x30\x26\x02\x01\x01\x04\x06public")], b"snmp", b""),
        (UDP, 443, [(ASK, b"\xc3\x00\x00\x00\x01\x08" + b"q" * 1_200)], b"quic,ssl", b""),
        (UDP, 443, [(ANSWER, b"\xc7\x00\x00\x00\x01\x00\x08" + b"q" * 30)], b"quic,ssl", b""),
        (UDP, 443, [(ANSWER, b"\xc7\x00\x00\x00\x01\x15\x08" + b"q" * 30)], b"", b""),
        (UDP, 389, [(ASK, SEARCH)], b"ldap_udp", b""),
        (TCP, 22, [(ASK, b"SSH-2.0-b\r\n"), (ANSWER, b"Hello\r\n"), (ANSWER, b"you\r\n"),
                   (ANSWER, b"there\nSSH-2.0-a\r\n")], b"ssh", b""),
        (TCP, 9, [(ASK, b"*1\r\n$4\r\nPING\r\n"), (ANSWER, b"+PONG\r\n")], b"redis", b""),
        (TCP, 9, [(ASK, b"*1\r\n$4\r\nPING\r\n"), (ANSWER, b"what?\r\n")], b"", b""),
        (TCP, 5222, [(ASK, STREAM), (ANSWER, STREAM)], b"xmpp", b""),
        (TCP, 5222, [(ASK, STREAM), (ANSWER, STREAM), (ASK, b"<starttls xmlns='tls'/>"),
                     (ANSWER, b"<proceed/>"), (ASK, HELLO)], b"xmpp,ssl", b"mail.example"),
        (TCP, 21, [(ANSWER, b"220 ftp\r\n"), (ASK, b"FEAT\r\n"), (ASK, b"AUTH TLS\r\n"),
                   (ASK, HELLO)], b"ftp,ssl", b"mail.example"),
        (TCP, 25, [(ANSWER, b"220 mail\r\n"), (ASK, b"EHLO me\r\n"), (ASK, b"STARTTLS\r\n"),
                   (ASK, HELLO)], b"smtp,ssl", b"mail.example"),
        (TCP, 25, [(ANSWER, b"220 mail\r\n"), (ASK, b"EHLO me\r\n"), (ASK, HELLO)], b"smtp", b""),
        (TCP, 143, [(ANSWER, b"* OK ready\r\n"), (ASK, b"a1 CAPABILITY\r\n"),
                    (ASK, b"a2 STARTTLS\r\n"), (ASK, HELLO)], b"imap,ssl", b"mail.example"),
        (TCP, 110, [(ANSWER, b"+OK ready\r\n"), (ASK, b"CAPA\r\n"), (ASK, b"STLS\r\n"),
                    (ASK, HELLO)], b"pop3,ssl", b"mail.example"),
        (TCP, 110, [(ANSWER, b"+OK ready\r\n"), (ASK, b"STLS\r\n"), (ASK, HELLO)],
         b"pop3,ssl", b"mail.example"),
        (TCP, 389, [(ASK, START_TLS), (ANSWER, ENTRY), (ASK, HELLO)], b"ldap_tcp,ssl",
         b"mail.example"),
        (TCP, 389, [(ASK, SEARCH), (ANSWER, ENTRY), (ASK, BIND + SPNEGO + KERBEROS)],
         b"ldap_tcp,krb,gssapi", b""),
        (TCP, 389, [(ASK, BIND + SPNEGO + KERBEROS)], b"krb,gssapi,ldap_tcp", b""),
        (TCP, 389, [(ASK, BIND + NTLM), (ASK, BIND + NTLM)], b"ntlm,ldap_tcp", b""),
        (TCP, 389, [(ASK, SEARCH + NTLM)], b"ldap_tcp", b""),
        (TCP, 445, [(ASK, SMB_NEGOTIATE), (ANSWER, SMB_NEGOTIATE + SPNEGO),
                    (ASK, SMB_SETUP + NTLM)], b"smb,gssapi,ntlm", b""),
        (TCP, 445, [(ASK, SMB_NEGOTIATE), (ANSWER, SMB_NEGOTIATE), (ASK, SMB_SETUP + SPNEGO + NTLM),
                    *[(ASK, SMB_OTHER)] * 6, (ASK, SMB_WRITE)], b"smb,ntlm,gssapi,dce_rpc", b""),
        (TCP, 135, [(ASK, DCE_BIND + NTLM)], b"ntlm,dce_rpc", b""),
        (TCP, 135, [(ASK, DCE_BIND), (ASK, b"\x05\x00\x10\x03" + NTLM)], b"dce_rpc,ntlm", b""),
        (TCP, 21, [(ANSWER, b"220 ftp\r\n"), (ASK, b"USER a\r\n"), *[(ASK, b"NOOP\r\n")] * 10,
                   (ASK, b"AUTH TLS\r\n"), (ASK, HELLO)], b"ftp,ssl", b"mail.example"),
        (TCP, 3128, [(ASK, b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n"),
                     (ANSWER, b"HTTP/1.1 200 OK\r\n\r\n"), (ASK, HELLO)], b"http,ssl",
         b"mail.example"),
        (TCP, 3128, [(ASK, b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n"),
                     (ANSWER, b"HTTP/1.1 403 No\r\n\r\n"), (ASK, HELLO)], b"http", b"a.b"),
        (TCP, 80, [(ASK, GET), (ANSWER, UPGRADE), (ASK, framed(MQTT, b"\x01\x02\x03\x04"))],
         b"http,websocket,mqtt", b"camera.example"),
        (TCP, 80, [(ASK, GET), (ANSWER, UPGRADE), (ANSWER, framed(b"SSH-2.0-a\r\n" + b"x" * 200)),
                   (ASK, framed(b"SSH-2.0-b\r\n", b"mask"))], b"http,websocket,ssh",
         b"camera.example"),
        (TCP, 80, [(ASK, GET), (ANSWER, UPGRADE), (ASK, framed(GET, b"mask"))],
         b"http,websocket", b"camera.example"),
        (TCP, 80, [(ASK, b"GET /\r\n\r\n"), (ANSWER, b"<HTML>hello")], b"http", b""),
        (TCP, 80, [(ASK, b"GET /\r\n\r\n"), (ANSWER, b"hello")], b"", b""),
        (TCP, 90, [(ASK, b"GET /\r\n\r\n"), (ANSWER, b"<HTML>hello")], b"", b""),
        (TCP, 80, [(ASK, b"GETX"), (ANSWER, b"nothing")], b"", b""),
        (TCP, 80, [(ASK, b"PROPPATCH /a HTTP/1.1\r\nHost: a\r\n\r\n")], b"http", b"a"),
        (TCP, 5900, [(ANSWER, b"RFB 003.008\n"), (ASK, b"RFB 003.008\n")], b"rfb", b""),
        (TCP, 5900, [(ANSWER, b"RFB 003.008\n"), (ASK, GET)], b"", b"camera.example"),
        (TCP, 3389, [(ASK, RDP_ASK), (ANSWER, RDP_ANSWER)], b"rdp", b""),
        (TCP, 3390, [(ASK, RDP_ASK), (ANSWER, RDP_ANSWER)], b"", b""),
        (TCP, 3390, [(ASK, RDP_ASK + b"Cookie: mstshash=me\r\n"), (ANSWER, RDP_ANSWER),
                     (ASK, HELLO)], b"rdp,ssl", b"mail.example"),
        (TCP, 1080, [(ASK, b"\x05\x01\x00"), (ANSWER, b"\x05\x00")], b"socks", b""),
        (TCP, 1080, [(ASK, b"\x04\x01\x00\x50\x01\x02\x03\x04\x00"),
                     (ANSWER, b"\x00\x5a\x00\x50\x01\x02\x03\x04"), (ASK, HELLO)],
         b"socks,ssl", b"mail.example"),
        (TCP, 1080, [(ASK, b"\x05\x01\x00"), (ANSWER, b"\x06\x00")], b"", b""),
        (TCP, 5432, [(ASK, b"\x00\x00\x00\x08\x04\xd2\x16\x2f"), (ANSWER, b"S"), (ASK, HELLO)],
         b"postgresql,ssl", b"mail.example"),
        (TCP, 5432, [(ASK, b"\x00\x00\x00\x20\x00\x03\x00\x00user\x00me\x00\x00"),
                     (ANSWER, b"R\x00\x00\x00\x08\x00\x00\x00\x00")], b"postgresql", b""),
        (TCP, 3306, [(ANSWER, b"\x4a\x00\x00\x00\x0a8.0.33\x00abc"), (ASK, b"\x20\x00\x00\x01\x05"),
                     (ASK, HELLO)], b"mysql,ssl", b"mail.example"),
        (TCP, 20000, [(ASK, DNP3), (ANSWER, DNP3)], b"dnp3_tcp", b""),
        (TCP, 3478, [(ASK, STUN)], b"stun", b""),
        (TCP, 9, [(ASK, b"\x00\x14" + STUN)], b"stun", b""),
        (TCP, 6668, [(ASK, TUYA)], b"tuya", b""),
        (TCP, 9999, [(ASK, len(KASA).to_bytes(4, "big") + KASA)], b"kasa", b""),
        (TCP, 9, [(ASK, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], b"http2", b""),
        (TCP, 5672, [(ASK, b"AMQP\x00\x00\x09\x01")], b"amqp", b""),
        (TCP, 1935, [(ASK, b"\x03" + b"\x00" * 1_459)], b"rtmp", b""),
        (TCP, 55443, [(ASK, b'{"id":1,"method":"toggle"}\r\n')], b"yeelight", b""),
        (UDP, 9, [(ASK, b"\x16\xfe\xfd\x00" + b"\x00" * 60)], b"dtls", b""),
        (UDP, 9, [(ASK, STUN), (ANSWER, STUN), (ASK, b"\x16\xfe\xff" + b"\x00" * 60)],
         b"dtls", b""),
        (UDP, 3389, [(ASK, b"\xff\xff\xff\xff\x03\xe8\x10\x01".ljust(1_232, b"\x00"))],
         b"rdpeudp", b""),
        (UDP, 443, [(ASK, b"\x0d12345678Q035" + b"\x00" * 40)], b"gquic", b""),
        (UDP, 6667, [(ASK, TUYA)], b"tuya", b""),
        (UDP, 7000, [(ASK, b"\x00\x00\x66\x99" + b"x" * 20 + b"\x00\x00\x99\x66")], b"tuya", b""),
        (UDP, 6667, [(ASK, TUYA[:-1])], b"", b""),
        (UDP, 40000, [(ANSWER, KASA)], b"kasa", b""),
        (UDP, 54321, [(ASK, b"\x21\x31\x00\x20" + b"\xff" * 28)], b"miio", b""),
        (UDP, 54321, [(ASK, b"\x21\x31\x00\x21" + b"\xff" * 28)], b"", b""),
        (UDP, 56700, [(ASK, b"\x24\x00\x00\x34" + b"\x00" * 32)], b"lifx", b""),
        (UDP, 38899, [(ASK, b'{"method": "getPilot", "params": {}}')], b"wiz", b""),
        (UDP, 38899, [(ANSWER, b'{"method":"syncPilot","id":69,"env":"pro"}')], b"wiz", b""),
        (UDP, 4003, [(ASK, b'{"msg":{"cmd":"turn","data":{"value":1}}}')], b"govee", b""),
        (UDP, 5540, [(ASK, b"\x04\x00\x00\x00\x01\x02\x03\x04" + b"n" * 30)], b"matter", b""),
        (UDP, 5541, [(ASK, b"\x04\x00\x00\x00\x01\x02\x03\x04" + b"n" * 30)], b"", b""),
        (UDP, 10001, [(ASK, b"\x02\x06\x00\x08" + b"u" * 8)], b"ubnt", b""),
        (UDP, 3671, [(ASK, b"\x06\x10\x02\x01\x00\x0e" + b"k" * 8)], b"knx", b""),
        (UDP, 47808, [(ASK, b"\x81\x0a\x00\x08\x01\x04\x00\x05")], b"bacnet", b""),
        (UDP, 51820, [(ASK, b"\x01\x00\x00\x00" + b"w" * 144)], b"wireguard", b""),
        (UDP, 9, [(ANSWER, b"\x04\x00\x00\x00abcd" + b"\x07" + b"\x00" * 7 + b"w" * 16)],
         b"wireguard", b""),
        (UDP, 41641, [(ASK, b"TS\xf0\x9f\x92\xac" + b"t" * 60)], b"tailscale", b""),
        (UDP, 8612, [(ASK, b"BJNP\x02\x01\x00\x00\x00\x00")], b"bjnp", b""),
        (UDP, 2190, [(ASK, b"TiVoConnect=1\nswversion=1")], b"tivo", b""),
        (UDP, 69, [(ASK, b"\x00\x01mips.bin\x00octet\x00")], b"tftp", b""),
        (UDP, 5351, [(ASK, b"\x00\x00")], b"pcp", b""),
        (UDP, 5351, [(ASK, b"\x02\x01" + b"\x00" * 58)], b"pcp", b""),
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
    assert datagrams.printable(bytes(range(256))) == datagrams.printable(bytes(range(64)))
    assert tlsname.server_name(hello(b"x.y")[:-2]) == b""


def test_looking_ends_where_more_is_followed() -> None:
    """However much a side says after its service is known, a few payloads are looked at."""
    starts = (
        [(ASK, SEARCH)],
        [(ASK, SMB_NEGOTIATE)],
        [(ASK, GET), (ANSWER, UPGRADE)],
        [(ANSWER, b"220 a\r\n"), (ASK, b"EHLO a\r\n")],
        [(ASK, b"SSH-2.0-b\r\n")],
    )
    for start in starts:
        memory, found, host = 0, b"", b""
        looked = {ASK: 0, ANSWER: 0}
        for asking, payload in start + [(ASK, b"?"), (ANSWER, b"!")] * 20:
            if service.hungry_one(memory, asking):
                looked[asking] += 1
                memory, found, host = service.sniff(memory, asking, TCP, 80, payload, found, host)
        assert max(looked.values()) <= service.PATIENCE
        for asking in (ASK, ANSWER):
            assert not service.hungry(np.array([memory]), np.array([asking]))[0]


def test_looking_ends() -> None:
    memory, found, host = 0, b"", b""
    for _ in range(service.LIMIT):
        assert service.hungry_one(memory, ASK)
        memory, found, host = service.sniff(memory, ASK, TCP, 1, b"\x00", found, host)
    assert not service.hungry_one(memory, ASK)
    assert service.hungry_one(memory, ANSWER)
    both = service.hungry(np.array([memory, memory]), np.array([ASK, ANSWER]))
    assert both.tolist() == [False, True]


SEEDS = (
    GET, QUERY, hello(b"a.example"), SERVER_HELLO, b"\x10\xff\xff\xff\xff", b"220 x", b"", UPGRADE,
    framed(MQTT, b"mask"), START_TLS, SEARCH, BIND + SPNEGO + KERBEROS, BIND + NTLM, SMB_NEGOTIATE,
    SMB_SETUP + NTLM, STREAM, b"STARTTLS\r\n", b"AUTH TLS\r\n", b"EHLO me\r\n", b"SSH-2.0-a\r\n",
    SMB_WRITE, DCE_BIND, RDP_ASK, RDP_ANSWER, DNP3,
    STUN, TUYA, KASA, b"\x05\x01\x00", b"\x05\x00", b"RFB 003.008\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b'{"method":"getPilot"}', b"\x21\x31\x00\x20",
    b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"*1\r\n$4\r\nPING\r\n", b"CONNECT a HTTP/1.1\r\n",
)  # fmt: skip


@settings(max_examples=400)
@given(
    st.sampled_from((TCP, UDP, 1)),
    st.sampled_from((0, 21, 22, 23, 25, 53, 67, 80, 88, 110, 123, 137, 143, 161, 389, 443, 502,
                     514, 1812, 1900, 3306, 3389, 5351, 5353, 5540, 5683, 6379, 6667, 9999,
                     10001, 55443)),
    st.lists(st.tuples(st.booleans(), st.one_of(
        st.binary(max_size=200),
        st.tuples(st.sampled_from(SEEDS), st.integers(0, 80), st.binary(max_size=8)).map(
            lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]),
    )), max_size=9),
)  # fmt: skip
def test_hostile_bytes(proto: int, port: int, payloads: list[tuple[bool, bytes]]) -> None:
    found, host = heard(proto, port, *payloads)
    assert all(33 <= b < 127 for b in host + found)
    assert len(host) <= HOST_BYTES
    assert found.islower() or not found


def test_no_pattern_takes_long() -> None:
    """Long payloads of one letter, which make a careless pattern try every cut."""
    for filler in (b"A", b" ", b"\r", b"\n", b"a ", b"1"):
        for start in (
            b"GET ",
            b"NICK ",
            b"INVITE sip:",
            b"USER ",
            b":a ",
            b"* OK",
            b"<?xml ",
            b"\x82\xfe\x07\x00",
            b"*1\r\n$1\r\n",
            b"+",
            BIND,
            START_TLS[:8],
            SMB_SETUP,
            b'{"id":',
            b'{"method":"get',
            b"\x00\x01",
            b"\x04\x01aaaaaa",
            b"\x00\x00aa\x00\x03\x00",
        ):
            for asking in (ASK, ANSWER):
                payload = (start + filler * service.MAX_LOOK)[: service.MAX_LOOK]
                heard(TCP, 110, (asking, payload))
                heard(UDP, 69, (asking, payload))


# --- on any port ------------------------------------------------------------------------


def dns_pair(answers: bytes = b"\xc0\x0c\0\1\0\1\0\0\0\x09\0\4\1\2\3\4") -> tuple[bytes, bytes]:
    question = QUERY[12:]
    ask = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + question
    return ask, b"\x12\x34\x81\x80\0\1\0\1\0\0\0\0" + question + answers


DNS_ASK, DNS_ANSWER = dns_pair()
NTP_ASK = b"\x23\0\6\xec" + bytes(36) + b"\xe9\1\2\3\4\5\6\7"
NTP_ANSWER = b"\x24\2\6\xec" + bytes(20) + NTP_ASK[40:] + bytes(16)
SNMP_ASK = bytes.fromhex(
    "302602010104067075626c6963a019020200aa020100020100300d300b06072b0601020101010500"
)
SNMP_ANSWER = SNMP_ASK.replace(b"\xa0\x19", b"\xa2\x19")
COAP_ASK, COAP_ANSWER = b"\x41\1\x12\x34t\xb1a\x11b", b"\x61\x45\x12\x34t\xff21.5"
MODBUS_ASK = b"\0\7\0\0\0\6\1\3\0\0\0\2"
MODBUS_ANSWER = b"\0\7\0\0\0\7\1\3\4\1\2\3\4"
DHCP_ASK = b"\1\1\6\0" + bytes(232) + b"\x63\x82\x53\x63\x35\1\1\xff"
RTSP = b"OPTIONS rtsp://c/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"
SIP_ASK = b"REGISTER sip:a SIP/2.0\r\n"
SSH = b"SSH-2.0-a\r\n"
ANY_PORT = {
    "dns": (UDP, DNS_ASK, DNS_ANSWER),
    "dns over TCP": (TCP, len(DNS_ASK).to_bytes(2, "big") + DNS_ASK,
                     len(DNS_ANSWER).to_bytes(2, "big") + DNS_ANSWER),
    "http": (TCP, GET, b"HTTP/1.1 200 OK\r\n\r\n"),
    "ssl": (TCP, HELLO, SERVER_HELLO),
    "quic,ssl": (UDP, b"\xc3\0\0\0\1\x08" + b"q" * 1_200, b"\xc7\0\0\0\1\0\x08" + b"q" * 30),
    "ssh": (TCP, SSH, SSH),
    "ntp": (UDP, NTP_ASK, NTP_ANSWER),
    "dhcp": (UDP, DHCP_ASK, b"\2" + DHCP_ASK[1:]),
    "mqtt": (TCP, MQTT, b"\x20\2\0\0"),
    "coap": (UDP, COAP_ASK, COAP_ANSWER),
    "rtsp": (TCP, RTSP, b"RTSP/1.0 200 OK\r\n"),
    "sip": (UDP, SIP_ASK, b"SIP/2.0 200 OK\r\n"),
    "ftp": (TCP, b"USER me\r\n", b"220 ready\r\n"),
    "smtp": (TCP, b"EHLO me\r\n", b"220 ready\r\n"),
    "imap": (TCP, b"a1 LOGIN a b\r\n", b"* OK ready\r\n"),
    "pop3": (TCP, b"USER me\r\n", b"+OK ready\r\n"),
    "irc": (TCP, b"NICK a\r\nUSER a 0 * :a\r\n", b":srv 001 a :hi\r\n"),
    "telnet": (TCP, b"\xff\xfb\x18", b"\xff\xfd\x18\xff\xfd\x20"),
    "smb": (TCP, SMB_NEGOTIATE, SMB_NEGOTIATE),
    "snmp": (UDP, SNMP_ASK, SNMP_ANSWER),
    "stun": (UDP, STUN, b"\1\1" + STUN[2:]),
    "bittorrent": (TCP, b"\x13BitTorrent protocol" + bytes(8), b"\x13BitTorrent protocol"),
    "modbus": (TCP, MODBUS_ASK, MODBUS_ANSWER),
}  # fmt: skip
SERVERS_SPEAK_FIRST = {"ftp", "smtp", "imap", "pop3", "telnet"}


@pytest.mark.parametrize("name", ANY_PORT)
@pytest.mark.parametrize("port", [40_404, 31_337])
def test_on_any_port(name: str, port: int) -> None:
    """By the bytes of both sides; whichever of them the capture takes for the originator."""
    proto, ask, answer = ANY_PORT[name]
    turns = [(ASK, ask), (ANSWER, answer)]
    if name in SERVERS_SPEAK_FIRST:
        turns.reverse()
    expected = name.split(" ", maxsplit=1)[0].encode()
    found, host = heard(proto, port, *turns)
    assert found == expected
    if expected == b"dns":
        assert host == b"www.example.org"
    if name in {"ssl", "mqtt", "http", "rtsp", "smb", "ftp", "smtp", "imap", "pop3", "irc", "ssh"}:
        return  # which side asks is plain, or a matter of the SYN
    mirrored = [(not asking, payload) for asking, payload in turns]
    assert heard(proto, port, *mirrored)[0] == expected


@pytest.mark.parametrize("name", ["dns", "dns over TCP", "ntp", "coap", "snmp", "modbus"])
def test_a_pair_must_agree(name: str) -> None:
    """One side alone names nothing, nor two messages of one kind with other numbers."""
    proto, ask, answer = ANY_PORT[name]
    assert heard(proto, 40_404, (ASK, ask)) == (b"", b"")
    assert heard(proto, 40_404, (ANSWER, answer))[0] == b""
    assert heard(proto, 40_404, (ASK, ask), (ASK, answer))[0] == b""
    if name != "modbus":
        assert heard(proto, 40_404, (ASK, ask), (ANSWER, ask))[0] == b""
    at = {"ntp": 31, "snmp": 18, "dns over TCP": 3}.get(
        name, 1 if "dns" in name or name == "modbus" else 3
    )
    other = answer[:at] + bytes([answer[at] ^ 1]) + answer[at + 1 :]
    assert heard(proto, 40_404, (ASK, ask), (ANSWER, other))[0] == b""
    assert heard(proto, 40_404, (ASK, ask), (ANSWER, answer[:-1]))[0] in (b"", b"dns", b"coap")


@settings(max_examples=300)
@given(st.sampled_from((TCP, UDP)), st.binary(max_size=120), st.sampled_from(sorted(ANY_PORT)),
       st.integers(0, 60))  # fmt: skip
def test_pairs_of_hostile_bytes(proto: int, tail: bytes, name: str, cut: int) -> None:
    _, ask, answer = ANY_PORT[name]
    heard(proto, 40_404, (ASK, ask[:cut] + tail), (ANSWER, answer[:cut] + tail), (ASK, tail))
