"""Which service a connection carries, by its first payloads, and the name it is about.

Bytes decide. A port is asked only where bytes cannot tell (DNS, NTP: any few bytes would do).
Names are Zeek's where Zeek knows the protocol, and our own for a few of the home. Some
protocols show themselves by their first message (HTTP, TLS, MQTT); others only when both
sides spoke (SSH, SMTP, FTP). An answer of another kind takes back what the question claimed.

Nothing here raises on any bytes. Each side is looked at up to LIMIT times.
"""

from __future__ import annotations

import re

import numpy as np

from guardian import tlsname
from guardian.const import HOST_BYTES
from guardian.tables import Array, Bool

MAX_LOOK = 2_048
"""Bytes of a payload looked at: a ClientHello with post-quantum keys has 1,800."""
LIMIT = 2
"""Payloads of a side looked at while the service is not known."""

_COUNT = 7
_SETTLED = 1 << 6
_CLAIM_SHIFT = 8
Found = tuple[bytes, bytes]
"""A service and a host, either empty."""
_NONE: Found = (b"", b"")

_TCP, _UDP = 6, 17
_METHOD = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|CONNECT|PATCH|TRACE|PROPFIND|NOTIFY|SUBSCRIBE"
    rb"|UNSUBSCRIBE|REPORT|QUERY|MKCOL|COPY|MOVE|LOCK|UNLOCK|SEARCH) [^\r\n]{0,1500}?"
    rb"(?: (HTTP|RTSP)/[0-9]|\r?\n|$)"
)
_UPGRADED = re.compile(rb"HTTP/1\.1 101 .{0,1500}?\r\n[Uu]pgrade:[ \t]*websocket", re.DOTALL)
_HOST = re.compile(rb"\r?\n[Hh][Oo][Ss][Tt]:[ \t]*([^\r\n]{1,255})")
_SIP = re.compile(rb"(?:[A-Z]{3,12} sips?:[^\r\n]{1,400} SIP/2\.0\r?\n|SIP/2\.0 [1-6][0-9][0-9] )")
_IRC = re.compile(rb"(?:NICK|USER|PASS|CAP LS|CAP REQ)\b[^\r\n]{0,400}\r?\n", re.IGNORECASE)
_IRC_REPLY = re.compile(rb":[^ \r\n]{1,255} (?:[0-9]{3}|NOTICE|PING|CAP) |NOTICE |PING :|ERROR :")
_FTP = re.compile(rb"(?:USER|AUTH|FEAT|PASS|SYST|OPTS) ?[^\r\n]{0,400}\r?\n", re.IGNORECASE)
_SMTP = re.compile(rb"(?:EHLO|HELO|LHLO)\b[^\r\n]{0,400}\r?\n", re.IGNORECASE)
_POP3 = re.compile(rb"(?:USER|CAPA|AUTH|APOP|STLS|QUIT)\b[^\r\n]{0,400}\r?\n", re.IGNORECASE)
_IMAP = re.compile(
    rb"[A-Za-z0-9.]{1,20} (?:CAPABILITY|LOGIN|STARTTLS|ID|AUTHENTICATE|NOOP)\b", re.IGNORECASE
)
_SSH = re.compile(rb"SSH-[12]\.[0-9]")
_GREETING = re.compile(rb"220[ -]")
_REPLY = re.compile(rb"[1-5][0-9][0-9][ -]")
_SNMP = re.compile(rb"\x30.{1,4}?\x02\x01[\x00\x01\x03]", re.DOTALL)
_TELNET = re.compile(rb"\xff[\xfb-\xfe][\x00-\x31]")

# What one side's first payload claims, waiting for the other side's.
_CLAIMS = (b"", b"ssh", b"ftp", b"smtp", b"irc", b"pop3", b"imap", b"greeting")
_CLAIM = {name: number for number, name in enumerate(_CLAIMS)}
_SHOWN_AT_ONCE = {b"http", b"ssl"}


def hungry(memory: Array, asking: Bool) -> Bool:
    """Return bool[n]: another payload of the side is wanted (asking: the originator's)."""
    looked = np.where(asking, memory, memory >> 3) & _COUNT
    wanted: Bool = (memory & _SETTLED == 0) & (looked < LIMIT)
    return wanted


def hungry_one(memory: int, asking: bool) -> bool:
    """Return whether another payload of the side is wanted."""
    return not memory & _SETTLED and (memory if asking else memory >> 3) & _COUNT < LIMIT


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
        found, name = _datagram(port, asking, payload)
        if found:
            return memory | _SETTLED, found, name or host
        return memory, service, host
    if proto != _TCP:
        return memory | _SETTLED, service, host
    return _segment(memory, asking, port, payload, service, host, first)


def _segment(
    memory: int, asking: bool, port: int, payload: bytes, service: bytes, host: bytes, first: bool
) -> tuple[int, bytes, bytes]:
    if service in _SHOWN_AT_ONCE:  # the question claimed it: does the answer fit?
        if asking:
            return memory, service, host
        return memory | _SETTLED, _answered(service, payload), host
    if first or asking:
        found, name = _stream(port, asking, payload)
        if found in _SHOWN_AT_ONCE and memory >> _CLAIM_SHIFT:
            return memory | _SETTLED, service, name or host  # not what the server greeted with
        if found:
            settled = 0 if asking and found in _SHOWN_AT_ONCE else _SETTLED
            return memory | settled, found, name or host
    claim = _claim(asking, port, payload)
    known = _CLAIMS[memory >> _CLAIM_SHIFT]
    agreed = _agree(known, claim) if claim and known else b""
    if agreed:
        return memory | _SETTLED, agreed, host
    if claim and not known:
        # Which side claimed is plain from the claim: only servers greet.
        memory |= _CLAIM[claim] << _CLAIM_SHIFT
    elif not known and memory & _COUNT and memory >> 3 & _COUNT:
        memory |= _SETTLED  # neither side began like anything known
    return memory, service, host


def _answered(service: bytes, payload: bytes) -> bytes:
    """Return what a service that was claimed is after its answer."""
    if service == b"http":
        if _UPGRADED.match(payload):
            return b"http,websocket"
        return service if payload.startswith((b"HTTP", b"ICY")) else b""
    # A short answer that is no TLS leaves Zeek waiting for more.
    fits = payload[:1] in (b"\x14", b"\x15", b"\x16", b"\x17") or len(payload) < 16
    return service if fits else b""


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
    if asking:
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
            return (b"http", _http_host(payload)) if match.group(1) else _NONE
    elif payload.startswith((b"HTTP/1.", b"HTTP/2 ")):
        return b"http", b""
    elif payload.startswith(b"RTSP/1."):
        return b"rtsp", b""
    if _SIP.match(payload):
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
        return _dns(payload[2:])
    if port == 502 and size >= 8 and payload[2:4] == b"\x00\x00":
        length = int.from_bytes(payload[4:6], "big")
        return (b"modbus", b"") if 2 <= length <= 254 and length + 6 <= size + 1 else _NONE
    if port == 3306 and not asking and size > 10 and payload[3:5] == b"\x00\x0a":
        return b"mysql", b""
    if port == 88 and size > 5 and payload[4] in {0x6A, 0x6C, 0x6B, 0x6D, 0x7E}:
        return b"krb_tcp", b""
    if port == 6379 and re.match(rb"\*[0-9]{1,5}\r\n\$[0-9]{1,7}\r\n", payload):
        return b"redis", b""
    if asking and re.match(rb"\x05\x00[\x0b\x0e]\x03", payload):
        return b"dce_rpc", b""
    if port in {389, 3268} or (asking and re.match(rb"\x30.\x02\x01.[\x60\x63]", payload)):
        return (b"ldap_tcp", b"") if _is_ldap(payload) else _NONE
    return _NONE


def _http_host(payload: bytes) -> bytes:
    match = _HOST.search(payload)
    return printable(match.group(1).strip()) if match else b""


def _tls(asking: bool, payload: bytes) -> Found:
    if asking and payload[5:6] == b"\x01":
        return b"ssl", printable(tlsname.server_name(payload))
    return (b"ssl", b"") if not asking and payload[5:6] == b"\x02" else _NONE


def _is_mqtt(payload: bytes) -> bool:
    at = 1
    while at < 5 and payload[at : at + 1] >= b"\x80":
        at += 1
    rest = payload[at + 1 :]
    return rest.startswith((b"\x00\x04MQTT", b"\x00\x06MQIsdp"))


def _is_ldap(payload: bytes) -> bool:
    if payload[:1] != b"\x30" or len(payload) < 7:
        return False
    long_form = payload[1] & 0x7F if payload[1] & 0x80 else 0
    return long_form <= 4 and payload[2 + long_form : 3 + long_form] == b"\x02"


# --- UDP ----------------------------------------------------------------------------------


def _datagram(port: int, asking: bool, payload: bytes) -> Found:  # noqa: PLR0911
    by_port = _UDP_BY_PORT.get(port)
    if by_port is not None:
        found = by_port(payload)
        if found[0]:
            return found
    if len(payload) >= 20 and payload[4:8] == b"\x21\x12\xa4\x42" and payload[0] < 64:
        return b"stun", b""
    if payload.startswith((b"M-SEARCH * HTTP/1.1", b"NOTIFY * HTTP/1.1")):
        return b"ssdp", b""
    if _SIP.match(payload):
        return b"sip", b""
    if asking and len(payload) >= 1_000 and _is_quic_initial(payload):
        return b"quic,ssl", b""
    if payload[:1] == b"\x16" and payload[1:3] in (b"\xfe\xff", b"\xfe\xfd"):
        return b"ssl", b""
    if payload.startswith((b"d1:ad2:id20:", b"d1:rd2:id20:")):
        return b"bittorrent", b""
    return _NONE


def _is_quic_initial(payload: bytes) -> bool:
    """A long header with the Initial type of QUIC version 1 or 2, or of a draft."""
    kind, version = payload[0] >> 4 & 3, payload[1:5]
    if payload[0] & 0xC0 != 0xC0:
        return False
    if version in (b"\x00\x00\x00\x01",) or version.startswith(b"\xff\x00\x00"):
        return kind == 0
    return version == b"\x6b\x33\x43\xcf" and kind == 1


def _dns(payload: bytes) -> Found:
    name = dns_question(payload)
    return _NONE if name is None else (b"dns", name)


def dns_question(message: bytes) -> bytes | None:
    """Return the first question's name, empty if there is none; None if this is no DNS."""
    if len(message) < 12:
        return None
    counts = [int.from_bytes(message[at : at + 2], "big") for at in (4, 6, 8, 10)]
    if message[2] >> 3 & 15 > 6 or counts[0] > 64 or sum(counts) > 512 or not any(counts):
        return None
    if not counts[0]:
        return b""
    at = 12
    labels: list[bytes] = []
    while at < len(message) and message[at]:
        size = message[at]
        if size > 63 or at + 1 + size > len(message) or len(labels) > 32:
            return None
        labels.append(message[at + 1 : at + 1 + size])
        at += 1 + size
    if at + 5 > len(message):
        return None
    return printable(b".".join(labels))


def _netbios(payload: bytes) -> Found:
    found, _ = _dns(payload)
    return found, b""  # the name is in a code of its own


def _ntp(payload: bytes) -> Found:
    version, mode = payload[0] >> 3 & 7, payload[0] & 7
    fits = len(payload) >= (12 if mode in {6, 7} else 48) and 1 <= version <= 4 and mode
    return (b"ntp", b"") if fits else _NONE


def _dhcp(payload: bytes) -> Found:
    return (b"dhcp", b"") if payload[236:240] == b"\x63\x82\x53\x63" else _NONE


def _snmp(payload: bytes) -> Found:
    return (b"snmp", b"") if _SNMP.match(payload) else _NONE


def _ssdp(payload: bytes) -> Found:
    return (b"ssdp", b"") if payload.startswith((b"M-SEARCH", b"NOTIFY", b"HTTP/1.")) else _NONE


def _coap(payload: bytes) -> Found:
    fits = len(payload) >= 4 and payload[0] >> 6 == 1 and payload[0] & 15 <= 8
    return (b"coap", b"") if fits and payload[1] >> 5 in {0, 2, 4, 5} else _NONE


def _syslog(payload: bytes) -> Found:
    return (b"syslog", b"") if re.match(rb"<[0-9]{1,3}>", payload) else _NONE


def _kerberos(payload: bytes) -> Found:
    return (b"krb", b"") if payload[:1] in (b"\x6a", b"\x6b", b"\x6c", b"\x6d", b"\x7e") else _NONE


def _radius(payload: bytes) -> Found:
    fits = len(payload) >= 20 and int.from_bytes(payload[2:4], "big") <= len(payload)
    return (b"radius", b"") if fits and payload[0] in {1, 2, 3, 4, 5, 11} else _NONE


_UDP_BY_PORT = {
    53: _dns,
    67: _dhcp,
    68: _dhcp,
    88: _kerberos,
    123: _ntp,
    137: _netbios,
    161: _snmp,
    162: _snmp,
    514: _syslog,
    1812: _radius,
    1900: _ssdp,
    5353: _dns,
    5355: _dns,
    5683: _coap,
}


def printable(raw: bytes) -> bytes:
    """Return a name as lower-case printable ASCII without blanks, cut to HOST_BYTES."""
    return bytes(b if 33 <= b < 127 else 63 for b in raw[:HOST_BYTES]).lower()
