"""Which service a connection carries, by its first payloads, and the name it is about.

Bytes decide. A port is asked only where bytes cannot tell (DNS, NTP: any few bytes would do).
Names are Zeek's where Zeek knows the protocol, and our own for a few of the home. Some
protocols show themselves by their first message (HTTP, TLS, MQTT); others only when both
sides spoke (SSH, SMTP, FTP). An answer of another kind takes back what the question claimed.

Where a service may go on as another (STARTTLS, WebSocket) or tells how a user signs on (LDAP,
SMB), a few payloads more are looked into (inside.py).

Nothing here raises on any bytes. Each side is looked at up to LIMIT times, PATIENCE at most.
"""

from __future__ import annotations

import re

import numpy as np

from guardian import inside, tlsname
from guardian.datagrams import NONE, QUIC, SIP, Found, datagram, dns, is_ldap, printable, quic_kind
from guardian.tables import Array, Bool

MAX_LOOK = 2_048
"""Bytes of a payload looked at: a ClientHello with post-quantum keys has 1,800."""
LIMIT = 2
"""Payloads of a side looked at while the service is not known."""

PATIENCE = 7
"""Payloads of a side looked at where more is to come than the first ones tell."""

_COUNT = 7
_SETTLED = 1 << 6
_PATIENT = 1 << 7
_CLAIM_SHIFT, _CLAIM_MASK = 8, 15
_TLS_NEXT = 1 << 12
_ENOUGH_ASKED, _ENOUGH_ANSWERED = PATIENCE, PATIENCE << 3
"""Counts that end the looking at one side."""
_TCP, _UDP = 6, 17
_METHOD = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|CONNECT|PATCH|TRACE|PROPFIND|NOTIFY|SUBSCRIBE"
    rb"|UNSUBSCRIBE|REPORT|QUERY|MKCOL|COPY|MOVE|LOCK|UNLOCK|SEARCH) [^\r\n]{0,1500}?"
    rb"(?: (HTTP|RTSP)/[0-9]|\r?\n|$)"
)
_UPGRADED = re.compile(rb"HTTP/1\.1 101 .{0,1500}?\r\n[Uu]pgrade:[ \t]*websocket", re.DOTALL)
_HOST = re.compile(rb"\r?\n[Hh][Oo][Ss][Tt]:[ \t]*([^\r\n]{1,255})")
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
_RESP_ANSWERED = re.compile(
    rb"\A(?:[+-][^\r\n]{0,1500}|:-?[0-9]{1,20}|[$*](?:-1|[0-9]{1,9}))\r\n", re.DOTALL
)
_CONNECTED = re.compile(rb"HTTP/1\.[01] 200")
_GREETING = re.compile(rb"220[ -]")
_REPLY = re.compile(rb"[1-5][0-9][0-9][ -]")
_TELNET = re.compile(rb"\xff[\xfb-\xfe][\x00-\x31]")

# What one side's first payload claims, waiting for the other side's.
_CLAIMS = (b"", b"ssh", b"ftp", b"smtp", b"irc", b"pop3", b"imap", b"greeting", b"xmpp", b"redis")
_CLAIM = {name: number for number, name in enumerate(_CLAIMS)}
# What a server's payload may confirm after other ones, or by less than a claim of its own.
_LATE = {b"ssh": re.compile(rb"(?:^|\n)SSH-[12]\.[0-9]"), b"redis": _RESP_ANSWERED}
_SHOWN_AT_ONCE = {b"http", b"ssl"}


def hungry(memory: Array, asking: Bool) -> Bool:
    """Return bool[n]: another payload of the side is wanted (asking: the originator's)."""
    looked = np.where(asking, memory, memory >> 3) & _COUNT
    limit = np.where(memory & _PATIENT != 0, PATIENCE, LIMIT)
    wanted: Bool = (memory & _SETTLED == 0) & (looked < limit)
    return wanted


def hungry_one(memory: int, asking: bool) -> bool:
    """Return whether another payload of the side is wanted."""
    limit = PATIENCE if memory & _PATIENT else LIMIT
    return not memory & _SETTLED and (memory if asking else memory >> 3) & _COUNT < limit


def settled(memory: int) -> int:
    """Return the memory of a connection into which nobody need look any more."""
    return memory | _SETTLED


def sniff(
    memory: int, asking: bool, proto: int, port: int, payload: bytes, service: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    """Look at a payload; return the new memory, service and host.

    asking: it is the originator's; port: the responder's.
    """
    if not payload:
        return memory, service, host
    memory += 1 if asking else 8
    first = (memory if asking else memory >> 3) & _COUNT == 1
    if proto == _UDP:
        return (memory, service, host) if service else _datagram(memory, asking, port, payload)
    if proto != _TCP:
        return memory | _SETTLED, service, host
    return _segment(memory, asking, port, payload, service, host, first)


def _datagram(memory: int, asking: bool, port: int, payload: bytes) -> tuple[int, bytes, bytes]:
    found, name = datagram(port, asking, payload)
    if found == QUIC:  # the client's next packets may tell the name
        return memory | _PATIENT | _ENOUGH_ANSWERED, found, name
    if found:
        return memory | _SETTLED, found, name
    if asking and quic_kind(payload) == 1:  # data in advance, before the hello
        memory |= _PATIENT
    return memory, found, name


def _segment(
    memory: int, asking: bool, port: int, payload: bytes, service: bytes, host: bytes, first: bool
) -> tuple[int, bytes, bytes]:
    if service and memory & _PATIENT:
        return _follow(memory, asking, payload, service, host)
    if service in _SHOWN_AT_ONCE:  # the question claimed it: does the answer fit?
        if asking:
            return memory, service, host
        return _answered(memory, service, payload), _fitting(service, payload), host
    found, name = _stream(port, asking, payload) if first or asking else NONE
    if not found:
        return _compare(memory, asking, port, payload, service, host)
    if found in _SHOWN_AT_ONCE and memory >> _CLAIM_SHIFT & _CLAIM_MASK:
        return memory | _SETTLED, service, name or host  # not what the server greeted with
    return _shown(memory, asking, payload, found, name or host)


def _shown(
    memory: int, asking: bool, payload: bytes, found: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    """Take a service that one payload shows."""
    if found in _SHOWN_AT_ONCE and asking:
        return memory | (payload.startswith(b"CONNECT ") and _TLS_NEXT), found, host
    if inside.followed(found):
        inner = inside.sign_on(found, payload)  # confirmed before the answer
        return _watch(memory, found, asking, payload), b",".join([*inner, found]), host
    return memory | _SETTLED, found, host


def _compare(
    memory: int, asking: bool, port: int, payload: bytes, service: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    """Weigh what the payload claims against what the other side claimed."""
    known = _CLAIMS[memory >> _CLAIM_SHIFT & _CLAIM_MASK]
    if not asking and known in _LATE and _LATE[known].search(payload):
        return memory | _SETTLED, known, host
    claim = _claim(asking, port, payload)
    agreed = _agree(known, claim) if claim and known else b""
    if agreed:
        if inside.followed(agreed):
            return _watch(memory, agreed, asking, payload), agreed, host
        return memory | _SETTLED, agreed, host
    if claim and not known:
        # Which side claimed is plain from the claim: only servers greet.
        memory |= _CLAIM[claim] << _CLAIM_SHIFT
        if asking and claim == b"ssh":
            memory |= _PATIENT | _ENOUGH_ASKED  # a server may say much before its version
    elif not known and memory & _COUNT and memory >> 3 & _COUNT:
        memory |= _SETTLED  # neither side began like anything known
    return memory, service, host


def _fitting(service: bytes, payload: bytes) -> bytes:
    """Return what a service that was claimed is after its answer."""
    if service == b"http":
        if _UPGRADED.match(payload):
            return b"http,websocket"
        return service if payload.startswith((b"HTTP", b"ICY")) else b""
    # A short answer that is no TLS leaves Zeek waiting for more.
    fits = payload[:1] in (b"\x14", b"\x15", b"\x16", b"\x17") or len(payload) < 16
    return service if fits else b""


def _answered(memory: int, service: bytes, payload: bytes) -> int:
    """Return the memory after the answer to what shows itself at once."""
    if service == b"http":
        if _UPGRADED.match(payload):
            return memory | _PATIENT
        if memory & _TLS_NEXT and _CONNECTED.match(payload):
            return memory | _PATIENT | _ENOUGH_ANSWERED
    return memory | _SETTLED


# --- what comes after a service is known -------------------------------------------------


def _watch(memory: int, service: bytes, asking: bool, payload: bytes) -> int:
    """Return the memory with which a known service is followed."""
    memory |= _PATIENT
    if service != b"smb":  # whose server's first answer tells, too
        memory |= _ENOUGH_ANSWERED
    if asking and inside.asks_for_tls(service, payload):
        memory |= _TLS_NEXT
    return memory


def _follow(
    memory: int, asking: bool, payload: bytes, service: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    """Look into a payload after the service is known."""
    if service == b"http,websocket":
        return _framed(memory, asking, payload, service, host)
    if asking and memory & _TLS_NEXT:
        found, name = _tls(asking, payload) if payload[:2] == b"\x16\x03" else NONE
        if found:
            return memory | _SETTLED, service + b"," + found, name or host
    elif asking and inside.asks_for_tls(service, payload):
        return memory | _TLS_NEXT, service, host
    known = service.split(b",")
    more = [name for name in inside.sign_on(service, payload) if name not in known]
    return memory, b",".join([service, *more]), host


def _framed(
    memory: int, asking: bool, payload: bytes, service: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    """Look into a WebSocket's frame as into a stream's first payloads."""
    contents = inside.frame(payload)
    found, _ = _stream(0, asking, contents)
    if not found:
        memory, found, _ = _compare(memory, asking, 0, contents, b"", b"")
    if found:
        return memory | _SETTLED, service if found == b"http" else service + b"," + found, host
    return memory, service, host


def _agree(known: bytes, claim: bytes) -> bytes:
    """Return the service that two sides' claims make certain, if they do."""
    if known == claim:
        return b"" if claim == b"greeting" else claim
    pair = {known, claim}
    if b"greeting" in pair:
        other = (pair - {b"greeting"}).pop()
        return other if other in {b"ftp", b"smtp"} else b""
    return b""


def _claim(asking: bool, port: int, payload: bytes) -> bytes:  # noqa: PLR0911
    """Return what a side's payload claims; a pair of equal claims from both sides decides."""
    if _SSH.match(payload):
        return b"ssh"
    if _XMPP.match(payload):
        return b"xmpp"
    if asking:
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
        return b"imap" if _IMAP.match(payload) else b""
    if _GREETING.match(payload):
        return b"greeting"
    if payload.startswith(b"+OK"):
        return b"pop3"
    if payload.startswith((b"* OK", b"* PREAUTH")):
        return b"imap"
    return b"irc" if _IRC_REPLY.match(payload) else b""


# --- TCP: what shows itself at once -------------------------------------------------------


def _stream(port: int, asking: bool, payload: bytes) -> Found:  # noqa: PLR0911
    if asking:
        match = _METHOD.match(payload)
        if match:
            if match.group(1) == b"RTSP":
                return b"rtsp", b""
            return (b"http", _http_host(payload)) if match.group(1) else NONE
    elif payload.startswith((b"HTTP/1.", b"HTTP/2 ")):
        return b"http", b""
    elif payload.startswith(b"RTSP/1."):
        return b"rtsp", b""
    if SIP.match(payload):
        return b"sip", b""
    kind = payload[:1]
    if kind == b"\x16" and payload[1:2] == b"\x03":
        return _tls(asking, payload)
    if kind == b"\x10" and asking and _is_mqtt(payload):
        return b"mqtt", b""
    if payload.startswith(b"\x13BitTorrent protocol"):
        return b"bittorrent", b""
    if payload[4:8] in (b"\xffSMB", b"\xfeSMB") and kind == b"\x00":
        return b"smb", b""
    if _TELNET.match(payload):
        return b"telnet", b""
    return _stream_by_port(port, asking, payload)


def _stream_by_port(port: int, asking: bool, payload: bytes) -> Found:  # noqa: PLR0911
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


def _http_host(payload: bytes) -> bytes:
    match = _HOST.search(payload)
    return printable(match.group(1).strip()) if match else b""


def _tls(asking: bool, payload: bytes) -> Found:
    if asking and payload[5:6] == b"\x01":
        return b"ssl", printable(tlsname.server_name(payload))
    return (b"ssl", b"") if not asking and payload[5:6] == b"\x02" else NONE


def _is_mqtt(payload: bytes) -> bool:
    at = 1
    while at < 5 and payload[at : at + 1] >= b"\x80":
        at += 1
    rest = payload[at + 1 :]
    return rest.startswith((b"\x00\x04MQTT", b"\x00\x06MQIsdp"))
