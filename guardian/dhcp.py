"""What a DHCP client tells of itself: its name, and how it asks, by which its kind is known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from guardian.names import safe_name

DHCP_MAGIC = b"\x63\x82\x53\x63"
_OPTIONS = 240
"""Bytes before the first option: the BOOTP header (236) and the magic cookie."""
_SCAN = 1024
"""Option bytes read of one message; a real one has under 600."""
_PAD, _HOST_NAME, _WANTED, _CLASS, _FQDN, _END = 0, 12, 55, 60, 81, 255


@dataclass(frozen=True)
class Hello:
    """What one message of a client says."""

    name: str
    """Safe host name, may be empty."""
    fingerprint: str
    """Twelve hex digits of the options it asks for, in their order, and of its vendor class;
    empty where it asks for none. Devices of one make and system have the same."""


def hello(payload: bytes) -> Hello | None:
    """Return what a client's message says; None for all else.

    Option 12 (host name) wins over 81 (FQDN), of which the first label is taken.
    """
    if len(payload) <= _OPTIONS or payload[236:_OPTIONS] != DHCP_MAGIC:
        return None
    if payload[0] != 1:
        # A server's answer names what it likes; only the client speaks for itself.
        return None
    found = _options(payload[_OPTIONS : _OPTIONS + _SCAN])
    name = safe_name(found.get(_HOST_NAME, b"")) or safe_name(_first_label(found.get(_FQDN, b"")))
    return Hello(name, fingerprint_of(found.get(_WANTED, b""), found.get(_CLASS, b"")))


def dhcp_name(payload: bytes) -> str:
    """Return the safe host name in a DHCP client's message, or an empty string."""
    said = hello(payload)
    return said.name if said else ""


def fingerprint_of(wanted: bytes, vendor: bytes) -> str:
    """Return the digest of the options a client asks for and of its vendor class."""
    if not wanted:
        return ""
    text = wanted + b"|" + vendor
    return hashlib.blake2b(text, digest_size=6).hexdigest()


def _options(options: bytes) -> dict[int, bytes]:
    """Return the first value of each option, up to where they no longer make sense."""
    out: dict[int, bytes] = {}
    at = 0
    while at < len(options):
        code = options[at]
        if code == _PAD:
            at += 1
            continue
        if code == _END or at + 1 >= len(options):
            break
        length = options[at + 1]
        value = options[at + 2 : at + 2 + length]
        if len(value) < length:
            break
        out.setdefault(code, value)
        at += 2 + length
    return out


def _first_label(value: bytes) -> bytes:
    """Return the first label of option 81: flags and two result codes precede the name."""
    if len(value) < 4:
        return b""
    name = value[3:]
    if value[0] & 4:  # the E bit: DNS wire format
        return name[1 : 1 + name[0]]
    return name.split(b".", 1)[0]
