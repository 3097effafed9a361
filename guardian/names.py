"""Names that devices give themselves, made safe to print, and where DHCP carries them."""

from __future__ import annotations

import re
import unicodedata

from guardian.const import MAX_NAME

_UNSAFE = re.compile(r"[^A-Za-z0-9 ._()+'-]+")
_SPACES = re.compile(r" +")

DHCP_MAGIC = b"\x63\x82\x53\x63"
_DHCP_OPTIONS = 240
"""Bytes before the first option: the BOOTP header (236) and the magic cookie."""
_DHCP_SCAN = 1024
"""Option bytes read of one message; a real one has under 600."""
_HOST_NAME, _FQDN, _PAD, _END = 12, 81, 0, 255


def safe_name(raw: bytes | str) -> str:
    """Return a name from the network as at most MAX_NAME harmless ASCII characters.

    Accents are dropped, every other run of unusual characters becomes one hyphen. Empty where
    nothing remains.
    """
    # No name worth keeping is longer; a long one must not cost time.
    text = raw[: 4 * MAX_NAME]
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return _SPACES.sub(" ", _UNSAFE.sub("-", bare)).strip(" -.")[:MAX_NAME].strip(" -.")


def printable(text: str, width: int = 4 * MAX_NAME) -> str:
    """Return text a user wrote, in any script, without control characters and line breaks."""
    return "".join(c if c.isprintable() else " " for c in text[:width]).strip()


def dhcp_name(payload: bytes) -> str:
    """Return the safe host name in a DHCP client's message, or an empty string.

    Option 12 (host name) wins over 81 (FQDN), of which the first label is taken.
    """
    if len(payload) <= _DHCP_OPTIONS or payload[236:_DHCP_OPTIONS] != DHCP_MAGIC:
        return ""
    if payload[0] != 1:
        # A server's answer names what it likes; only the client speaks for itself.
        return ""
    options = payload[_DHCP_OPTIONS : _DHCP_OPTIONS + _DHCP_SCAN]
    host = fqdn = b""
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
        if code == _HOST_NAME and not host:
            host = value
        elif code == _FQDN and not fqdn:
            fqdn = _first_label(value)
        at += 2 + length
    return safe_name(host) or safe_name(fqdn)


def _first_label(value: bytes) -> bytes:
    """Return the first label of option 81: flags and two result codes precede the name."""
    if len(value) < 4:
        return b""
    name = value[3:]
    if value[0] & 4:  # the E bit: DNS wire format
        return name[1 : 1 + name[0]]
    return name.split(b".", 1)[0]
