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

from guardian import inside, pairs
from guardian.datagrams import NONE, QUIC, datagram, dns, is_dtls, quic_kind
from guardian.streams import CLAIMS, LATE, claim, http_host, stream, tls, to_greeting
from guardian.tables import I64, Bool

MAX_LOOK = 2_048
"""Bytes of a payload looked at: a ClientHello with post-quantum keys has 1,800."""
LIMIT = 2
"""Payloads of a side looked at while the service is not known."""

PATIENCE = 15
"""Payloads of a side looked at where more is to come than the first ones tell: a session of SMB
needs seven to sign on and ask for a service."""

_COUNT, _ANSWERS = 15, 4
_SETTLED = 1 << 8
_PATIENT = 1 << 9
_CLAIM_SHIFT, _CLAIM_MASK = 10, 15
_TLS_NEXT = 1 << 14
_BY_SERVER = 1 << 15
"""The claim is the responder's."""
_PAIR_SHIFT, _PAIR_MASK = 16, (1 << 24) - 1
_REFUSED = 1 << 40
_CONNACK = re.compile(rb"\x20[\x02-\x7f]\x00[^\x00]", re.DOTALL)
"""An MQTT broker refuses: no session, and a reason that is not zero."""
_ENOUGH_ASKED, _ENOUGH_ANSWERED = PATIENCE, PATIENCE << _ANSWERS
"""Counts that end the looking at one side."""
_TCP, _UDP = 6, 17
_UPGRADED = re.compile(rb"HTTP/1\.1 101 .{0,1500}?\r\n[Uu]pgrade:[ \t]*websocket", re.DOTALL)
_CONNECTED = re.compile(rb"HTTP/1\.[01] 200")
_CLAIM = {name: number for number, name in enumerate(CLAIMS)}
_SHOWN_AT_ONCE = {b"http", b"ssl"}
_ANSWERED = _SHOWN_AT_ONCE | {b"mqtt"}
"""Whose first answer is looked at: it fits, or refuses."""


def wanted(memory: I64, asking: Bool) -> I64:
    """Return int64[n]: how many more payloads of the side are wanted, as things stand
    (asking: the originator's)."""
    looked = np.where(asking, memory, memory >> _ANSWERS) & _COUNT
    limit = np.where(memory & _PATIENT != 0, PATIENCE, LIMIT)
    more: I64 = np.where(memory & _SETTLED == 0, limit - looked, 0)
    return more


def hungry(memory: I64, asking: Bool) -> Bool:
    """Return bool[n]: another payload of the side is wanted."""
    return wanted(memory, asking) > 0


def patient(memory: int) -> bool:
    """Return whether more payloads are looked at than of most connections."""
    return bool(memory & _PATIENT)


def hungry_one(memory: int, asking: bool) -> bool:
    """Return whether another payload of the side is wanted."""
    limit = PATIENCE if memory & _PATIENT else LIMIT
    return not memory & _SETTLED and (memory if asking else memory >> _ANSWERS) & _COUNT < limit


def settled(memory: int) -> int:
    """Return the memory of a connection into which nobody need look any more."""
    return memory | _SETTLED


def refused(memory: I64) -> Bool:
    """Return bool[n]: an MQTT broker refused the login."""
    out: Bool = memory & _REFUSED != 0
    return out


def sniff(
    memory: int, asking: bool, proto: int, port: int, payload: bytes, service: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    """Look at a payload; return the new memory, service and host.

    asking: it is the originator's; port: the responder's.
    """
    if not payload:
        return memory, service, host
    memory += 1 if asking else 1 << _ANSWERS
    first = (memory if asking else memory >> _ANSWERS) & _COUNT == 1
    if proto == _UDP:
        return _datagram(memory, asking, port, payload, service, host)
    if proto != _TCP:
        return memory | _SETTLED, service, host
    return _segment(memory, asking, port, payload, service, host, first)


def _datagram(
    memory: int, asking: bool, port: int, payload: bytes, service: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    if service:  # which is followed: STUN may make way for DTLS
        if service == b"stun" and is_dtls(payload):
            return memory | _SETTLED, b"dtls", host
        return memory, service, host
    found, name = datagram(port, asking, payload)
    if found in (QUIC, b"stun"):  # the client's next packets may tell the name
        return memory | _PATIENT | _ENOUGH_ANSWERED, found, name
    if found:
        return memory | _SETTLED, found, name
    if asking and quic_kind(payload) == 1:  # data in advance, before the hello
        memory |= _PATIENT
    return _paired(memory, asking, _UDP, payload)


def _paired(memory: int, asking: bool, proto: int, payload: bytes) -> tuple[int, bytes, bytes]:
    """Weigh a payload against the other side's: a question and its answer tell what they are."""
    before = memory >> _PAIR_SHIFT & _PAIR_MASK
    after, found = pairs.pair(before, asking, proto, payload)
    memory = memory & ~(_PAIR_MASK << _PAIR_SHIFT) | after << _PAIR_SHIFT
    if not found:
        return memory, b"", b""
    name = dns(payload[2:] if proto == _TCP else payload)[1] if found == b"dns" else b""
    return memory | _SETTLED, found, name


def _segment(
    memory: int, asking: bool, port: int, payload: bytes, service: bytes, host: bytes, first: bool
) -> tuple[int, bytes, bytes]:
    if service and memory & _PATIENT:
        return _follow(memory, asking, payload, service, host)
    if service in _ANSWERED:  # the question claimed it: does the answer fit?
        if asking:  # a request may go on in the next segment
            more = http_host(payload) if service == b"http" and not host else host
            return memory, service, more
        return _answered(memory, service, payload), _fitting(service, payload), host
    found, name = stream(port, asking, payload) if first or asking else NONE
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
    if found == b"mqtt" and asking:
        return memory | _ENOUGH_ASKED, found, host
    return memory | _SETTLED, found, host


def _compare(
    memory: int, asking: bool, port: int, payload: bytes, service: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    """Weigh what the payload claims against what the other side claimed."""
    known = CLAIMS[memory >> _CLAIM_SHIFT & _CLAIM_MASK]
    other = bool(memory & _BY_SERVER) == asking  # the other side claimed it
    if not asking and other and known in LATE and LATE[known].search(payload):
        if inside.followed(known):
            return _watch(memory, known, asking, payload), known, host
        return memory | _SETTLED, known, host
    if not known:
        memory, found, name = _paired(memory, asking, _TCP, payload)
        if found:
            return memory, found, name
    claimed = (asking and to_greeting(known, payload)) or claim(asking, port, payload)
    agreed = _agree(known, claimed) if claimed and known and other else b""
    if agreed:
        if inside.followed(agreed):
            return _watch(memory, agreed, asking, payload), agreed, host
        return memory | _SETTLED, agreed, host
    if claimed and not known:
        memory |= _CLAIM[claimed] << _CLAIM_SHIFT | (0 if asking else _BY_SERVER)
        if asking and claimed == b"ssh":
            memory |= _PATIENT | _ENOUGH_ASKED  # a server may say much before its version
    elif not known and memory & _COUNT and memory >> _ANSWERS & _COUNT:
        memory |= _SETTLED  # neither side began like anything known
    return memory, service, host


def _fitting(service: bytes, payload: bytes) -> bytes:
    """Return what a service that was claimed is after its answer."""
    if service == b"http":
        if _UPGRADED.match(payload):
            return b"http,websocket"
        return service if payload.startswith((b"HTTP", b"ICY")) else b""
    if service == b"mqtt":
        return service
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
    if service == b"mqtt" and _CONNACK.match(payload):
        memory |= _REFUSED
    return memory | _SETTLED


# --- what comes after a service is known -------------------------------------------------


def _watch(memory: int, service: bytes, asking: bool, payload: bytes) -> int:
    """Return the memory with which a known service is followed."""
    memory |= _PATIENT
    if service != b"smb":  # whose server's first answer tells, too
        memory |= _ENOUGH_ANSWERED
    if service in inside.TLS_UNASKED or (asking and inside.asks_for_tls(service, payload)):
        memory |= _TLS_NEXT
    return memory


def _follow(
    memory: int, asking: bool, payload: bytes, service: bytes, host: bytes
) -> tuple[int, bytes, bytes]:
    """Look into a payload after the service is known."""
    if service == b"http,websocket":
        return _framed(memory, asking, payload, service, host)
    if asking and memory & _TLS_NEXT:
        found, name = tls(asking, payload) if payload[:2] == b"\x16\x03" else NONE
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
    found, _ = stream(0, asking, contents)
    if not found:
        memory, found, _ = _compare(memory, asking, 0, contents, b"", b"")
    if found:
        return memory | _SETTLED, service if found == b"http" else service + b"," + found, host
    return memory, service, host


def _agree(known: bytes, claimed: bytes) -> bytes:
    """Return the service that two sides' claims make certain, if they do."""
    if known == claimed:
        return b"" if known == b"greeting" else known
    pair = {known, claimed}
    if b"greeting" in pair:
        other = (pair - {b"greeting"}).pop()
        return other if other in {b"ftp", b"smtp"} else b""
    return b""
