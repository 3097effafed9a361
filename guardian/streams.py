"""Which service a payload of TCP shows, or claims for the other side to confirm.

Bytes decide; a port is asked only where they would fit much else. The patterns are, where Zeek has
a signature, as narrow as Zeek's. Nothing here raises on any bytes.
"""

from __future__ import annotations

import re

from guardian import tlsname
from guardian.brands import is_kasa, is_tuya
from guardian.datagrams import NONE, SIP, STUN_COOKIE, Found, dns, is_ldap, printable
from guardian.mining import mining

CLAIMS = (
    b"", b"ssh", b"ftp", b"smtp", b"irc", b"pop3", b"imap", b"greeting", b"xmpp", b"redis",
    b"rfb", b"rdp", b"socks", b"postgresql", b"dnp3_tcp", b"http",
)  # fmt: skip
"""What one side's payload may claim, waiting for the other side's; at most 16."""

LATE = {
    b"ssh": re.compile(rb"(?:^|\n)SSH-[12]\.[0-9]"),
    b"redis": re.compile(
        rb"\A(?:[+-][^\r\n]{0,1500}|:-?[0-9]{1,20}|[$*](?:-1|[0-9]{1,9}))\r\n", re.DOTALL
    ),
    b"http": re.compile(rb"\A\s{0,8}<"),  # to a request without a version
    b"rdp": re.compile(rb"\A\x03\x00..[\x06-\xff]\xd0", re.DOTALL),
    b"socks": re.compile(rb"\A(?:\x00[\x5a-\x5d]|\x05(?:\x00|\x01[\x00-\x02]))"),
    b"postgresql": re.compile(rb"\A(?:[SN]\Z|[A-Za-z0-9]\x00\x00..)", re.DOTALL),
}
"""What a server's payload may confirm after other ones, or by less than a claim of its own."""

_METHOD = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|CONNECT|PATCH|TRACE|B?PROPFIND|B?PROPPATCH|NOTIFY|POLL"
    rb"|SUBSCRIBE|UNSUBSCRIBE|REPORT|QUERY|MKCOL|B?COPY|B?MOVE|BDELETE|LOCK|UNLOCK|SEARCH|ACL"
    rb"|MERGE|CHECKOUT|CHECKIN|MKACTIVITY|VERSION-CONTROL|RPC_IN_DATA|RPC_OUT_DATA)"
    rb" [^\r\n]{0,1500}?(?: (HTTP|RTSP)/[0-9]|\r?\n|$)"
)
_HOST = re.compile(rb"(?:^|\r?\n)[Hh][Oo][Ss][Tt]:[ \t]*([^\r\n]{1,255})[^\r\n]{0,1500}[\r\n]")
_IRC = re.compile(rb"(?:NICK|USER|PASS|CAP LS|CAP REQ)\b[^\r\n]{0,400}\r?\n", re.IGNORECASE)
_IRC_REPLY = re.compile(rb":[^ \r\n]{1,255} (?:[0-9]{3}|NOTICE|PING|CAP) |NOTICE |PING :|ERROR :")
_FTP = re.compile(rb"(?:USER|AUTH|FEAT|PASS|SYST|OPTS) ?[^\r\n]{0,400}\r?\n", re.IGNORECASE)
_SMTP = re.compile(rb"(?:EHLO|HELO|LHLO)\b[^\r\n]{0,400}\r?\n", re.IGNORECASE)
_POP3 = re.compile(rb"(?:USER|CAPA|AUTH|APOP|STLS|QUIT)\b[^\r\n]{0,400}\r?\n", re.IGNORECASE)
_IMAP = re.compile(
    rb"[A-Za-z0-9.]{1,20} (?:CAPABILITY|LOGIN|STARTTLS|ID|AUTHENTICATE|NOOP)\b", re.IGNORECASE
)
_SSH = re.compile(rb"SSH-[12]\.[0-9]")
_XMPP = re.compile(rb"(?:<\?xml [^>]{0,200}>\s{0,8})?<stream:stream[\s>]")
_RESP_ASKED = re.compile(rb"\*[0-9]{1,5}\r\n\$[0-9]{1,7}\r\n")
_GREETING = re.compile(rb"220[ -]")
_TELNET = re.compile(rb"\xff[\xfb-\xfe][\x00-\x31]")
_RDP = re.compile(rb"\x03\x00..[\x06-\xff]\xe0", re.DOTALL)
_SOCKS = re.compile(rb"\x04[\x01\x02].{6}.{0,32}\x00\Z|\x05[\x01-\x04][\x00-\x02]", re.DOTALL)
_POSTGRESQL = re.compile(
    rb"\x00\x00\x00\x08\x04\xd2\x16\x2f\Z|\x00\x00..\x00\x03\x00.{0,256}user\x00", re.DOTALL
)
_DNP3 = re.compile(rb"\x05\x64[\x05-\xff]")
_HTTP_09 = re.compile(rb"GET /[^ \r\n]{0,1500}\r?\n")
_HTTP_PORTS = frozenset((80, 81, 631, 1080, 3128, 8000, 8080, 8888))
"""Zeek's."""
_TABLE_LAMP = re.compile(rb'\{"id":\s?[0-9]{1,10},\s?"(?:method|result)":')


def claim(asking: bool, port: int, payload: bytes) -> bytes:  # noqa: PLR0911
    """Return what a side's payload claims; a pair of equal claims from both sides decides."""
    if _SSH.match(payload):
        return b"ssh"
    if _XMPP.match(payload):
        return b"xmpp"
    if payload.startswith(b"RFB 00"):
        return b"rfb"
    if _DNP3.match(payload) and len(payload) >= 10:
        return b"dnp3_tcp"
    if asking:
        return _asked(port, payload)
    if _GREETING.match(payload):
        return b"greeting"
    if payload.startswith(b"+OK"):
        return b"pop3"
    if payload.startswith((b"* OK", b"* PREAUTH")):
        return b"imap"
    return b"irc" if _IRC_REPLY.match(payload) else b""


def to_greeting(known: bytes, payload: bytes) -> bytes:
    """Return what a client claims to a server that greeted: `USER me` alone might be much else."""
    if known == b"pop3" and _POP3.match(payload):
        return known
    return b"ftp" if known == b"greeting" and _FTP.match(payload) else b""


def _asked(port: int, payload: bytes) -> bytes:  # noqa: PLR0911
    if _RESP_ASKED.match(payload):
        return b"redis"
    if _SMTP.match(payload):
        return b"smtp"
    if port == 110 and _POP3.match(payload):
        return b"pop3"
    if _IRC.match(payload) and port not in {21, 110}:
        return b"irc"
    if _FTP.match(payload):
        return b"ftp"
    if _RDP.match(payload) and (port == 3389 or b"Cookie: mstshash=" in payload):
        return b"rdp"
    if _SOCKS.match(payload):
        return b"socks"
    if _POSTGRESQL.match(payload):
        return b"postgresql"
    if port in _HTTP_PORTS and _HTTP_09.match(payload):
        return b"http"
    return b"imap" if _IMAP.match(payload) else b""


def stream(port: int, asking: bool, payload: bytes) -> Found:  # noqa: PLR0911
    """Return what a payload shows by itself; port: the responder's."""
    kind = payload[:1]
    if kind == b"\x16" and payload[1:2] == b"\x03":
        return tls(asking, payload)
    if asking:
        match = _METHOD.match(payload)
        if match:
            if match.group(1) == b"RTSP":
                return b"rtsp", b""
            return (b"http", http_host(payload)) if match.group(1) else NONE
    elif payload.startswith((b"HTTP/1.", b"HTTP/2 ")):
        return b"http", b""
    elif payload.startswith(b"RTSP/1."):
        return b"rtsp", b""
    if SIP.match(payload):
        return b"sip", b""
    if kind == b"\x10" and asking and _is_mqtt(payload):
        return b"mqtt", b""
    if payload.startswith(b"\x13BitTorrent protocol"):
        return b"bittorrent", b""
    if payload[4:8] in (b"\xffSMB", b"\xfeSMB") and kind == b"\x00":
        return b"smb", b""
    if _TELNET.match(payload):
        return b"telnet", b""
    found = _by_port(port, asking, payload)
    return found if found[0] else (_of_our_own(port, asking, payload), b"")


def _by_port(port: int, asking: bool, payload: bytes) -> Found:  # noqa: PLR0911
    """Return services whose bytes alone would fit much else."""
    size = len(payload)
    if port in {53, 5353} and size >= 14 and int.from_bytes(payload[:2], "big") >= 12:
        return dns(payload[2:])
    if port == 502 and size >= 8 and payload[2:4] == b"\x00\x00":
        length = int.from_bytes(payload[4:6], "big")
        return (b"modbus", b"") if 2 <= length <= 254 and length + 6 <= size + 1 else NONE
    if port == 3306 and not asking and size > 10 and payload[3:5] == b"\x00\x0a":
        return b"mysql", b""
    if port == 88 and size > 5 and payload[4] in {0x6A, 0x6C, 0x6B, 0x6D, 0x7E}:
        return b"krb_tcp", b""
    if port == 6379 and _RESP_ASKED.match(payload):
        return b"redis", b""
    if asking and re.match(rb"\x05\x00[\x0b\x0e]\x03", payload):
        return b"dce_rpc", b""
    if port in {389, 3268} or (asking and re.match(rb"\x30.\x02\x01.[\x60\x63]", payload)):
        return (b"ldap_tcp", b"") if is_ldap(payload) else NONE
    return NONE


def _of_our_own(port: int, asking: bool, payload: bytes) -> bytes:  # noqa: PLR0911
    """Return what Zeek has no name for."""
    if len(payload) < 8:
        return b""
    if payload[4:8] == STUN_COOKIE and payload[0] < 64:
        return b"stun"
    if payload[6:10] == STUN_COOKIE and int.from_bytes(payload[:2], "big") == len(payload) - 2:
        return b"stun"  # framed as ICE has it over TCP
    if is_tuya(payload):
        return b"tuya"
    if is_kasa(payload[4:]) and int.from_bytes(payload[:4], "big") == len(payload) - 4:
        return b"kasa"
    if payload.startswith(b"PRI * HTTP/2.0\r\n"):
        return b"http2"
    if payload.startswith(b"AMQP") and payload[4] < 4:
        return b"amqp"
    if asking and payload[0] == 3 and len(payload) > 1_000:
        return b"rtmp" if port == 1935 or payload[5:9] == b"\x00" * 4 else b""
    if port == 55443 and _TABLE_LAMP.match(payload):
        return b"yeelight"
    return mining(asking, payload)


def http_host(payload: bytes) -> bytes:
    """Return the host that a request, or a further part of one, names; empty for none."""
    match = _HOST.search(payload)
    return printable(match.group(1).strip()) if match else b""


def tls(asking: bool, payload: bytes) -> Found:
    """Return TLS and the server name, if this begins a hello of that side."""
    if asking and payload[5:6] == b"\x01":
        return b"ssl", printable(tlsname.server_name(payload))
    return (b"ssl", b"") if not asking and payload[5:6] == b"\x02" else NONE


def _is_mqtt(payload: bytes) -> bool:
    at = 1
    while at < 5 and payload[at : at + 1] >= b"\x80":
        at += 1
    rest = payload[at + 1 :]
    return rest.startswith((b"\x00\x04MQTT", b"\x00\x06MQIsdp"))
