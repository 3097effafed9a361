"""What is negotiated or carried inside a service that is known: TLS, sign-ons, WebSocket frames.

Only payloads of the detection (service.py) come here, a few of each connection. Nothing here
raises on any bytes.
"""

from __future__ import annotations

import re

_TO_TLS = {
    b"ftp": re.compile(rb"(?:^|\n)AUTH +(?:TLS|SSL)\b", re.IGNORECASE),
    b"smtp": re.compile(rb"(?:^|\n)STARTTLS\b", re.IGNORECASE),
    b"pop3": re.compile(rb"(?:^|\n)STLS\b", re.IGNORECASE),
    b"imap": re.compile(rb"(?:^|\n)[^ \r\n]{1,20} STARTTLS\b", re.IGNORECASE),
    b"xmpp": re.compile(rb"<starttls\b"),
    b"ldap_tcp": re.compile(rb"\x77.{1,12}?\x801?\x161\.3\.6\.1\.4\.1\.1466\.20037", re.DOTALL),
}
"""How a client asks for TLS on the same connection."""

TLS_UNASKED = frozenset((b"mysql", b"postgresql", b"rdp", b"socks"))
"""What goes on as TLS where the client's next payload begins it: the asking was by a flag before,
or TLS is what a proxy carries."""

_SPNEGO = b"\x06\x06\x2b\x06\x01\x05\x05\x02"
_NTLM = b"NTLMSSP\x00"
# Kerberos 5 as a GSS mechanism (RFC 4121), then the token's number and its message's tag.
_KERBEROS = re.compile(
    rb"\x06\x09\x2a\x86(?:\x48\x86|\x48\x82)\xf7\x12\x01\x02\x02"
    rb"(?:\x01\x00\x6e|\x02\x00\x6f|\x03\x00\x7e)"
)
_BIND = re.compile(rb"\x30.{1,12}?\x60.{1,8}?\x02\x01[\x02\x03]\x04", re.DOTALL)
"""The start of an LDAP bind request."""
_DCE_BIND = re.compile(rb"\x05\x00[\x0b\x0e]\x03\x10\x00\x00\x00")
"""The start of a DCE/RPC bind as everybody writes it: little endian, in one fragment."""
_SMB_WRITES = (b"\x09\x00", b"\x0b\x00")
"""Commands of SMB 2 that carry what is written to a pipe."""
_FRAME_SIZE = {126: 2, 127: 8}
"""WebSocket: bytes of a length that does not fit into seven bits."""


def followed(service: bytes) -> bool:
    """Return whether a service may turn into another one, or say how a user signs on."""
    return service in _TO_TLS or service in TLS_UNASKED or service in {b"smb", b"dce_rpc"}


def asks_for_tls(service: bytes, payload: bytes) -> bool:
    """Return whether the client's payload asks to go on with TLS."""
    pattern = _TO_TLS.get(service.split(b",", 1)[0])
    return pattern is not None and pattern.search(payload) is not None


def sign_on(service: bytes, payload: bytes) -> list[bytes]:
    """Return what a payload of LDAP, SMB or DCE/RPC signs on with, in the order that Zeek confirms
    it, or calls inside of SMB."""
    names = service.split(b",")
    found = []
    if b"ldap_tcp" in names:
        if not _BIND.match(payload):
            return []
    elif names[0] == b"dce_rpc":
        if payload[:2] != b"\x05\x00" or payload[2:3] not in (b"\x0b", b"\x0e", b"\x10"):
            return []
    elif b"smb" not in names:
        return []
    elif _smb_writes(payload):
        return [b"dce_rpc"] if _DCE_BIND.search(payload) else []
    elif not _smb_may_sign_on(payload):
        return []
    if _KERBEROS.search(payload):
        found.append(b"krb")
    if _NTLM in payload:
        found.append(b"ntlm")
    if _SPNEGO in payload:
        found.append(b"gssapi")
    return found


def _smb_writes(payload: bytes) -> bool:
    """A message that may carry what is written to a pipe, of either version of SMB."""
    if payload[4:8] == b"\xfeSMB":
        return payload[16:18] in _SMB_WRITES
    return payload[4:8] == b"\xffSMB" and payload[8:9] in (b"\x25", b"\x2f")


def _smb_may_sign_on(payload: bytes) -> bool:
    """A negotiation or a session's setup, of either version of SMB."""
    if payload[4:8] == b"\xfeSMB":
        return payload[16:18] in (b"\x00\x00", b"\x01\x00")
    return payload[4:8] == b"\xffSMB" and payload[8:9] in (b"\x72", b"\x73")


def frame(payload: bytes) -> bytes:
    """Return the contents of the WebSocket frame at the start, as far as they are there."""
    if len(payload) < 2 or payload[0] & 0x0F > 2:
        return b""  # a ping, a close, or no frame
    size = payload[1] & 0x7F
    at = 2 + _FRAME_SIZE.get(size, 0)
    if at > 2:
        size = int.from_bytes(payload[2:at], "big")
    if not payload[1] & 0x80:
        return payload[at : at + size]
    mask, body = payload[at : at + 4], payload[at + 4 : at + 4 + size]
    if len(mask) < 4:
        return b""
    return bytes(byte ^ mask[i & 3] for i, byte in enumerate(body))
