"""Signatures as the minisign tool writes them: who made a bundle, and that nobody changed it.

A public key is a line of base64 (`RW...`): "Ed", the key's id, the key. A signature file has four
lines: an untrusted comment; base64 of the algorithm ("ED": of the message's BLAKE2b, "Ed": of the
message itself), the key's id and the signature; a trusted comment; a signature of the two.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from guardian import ed25519
from guardian.errors import BundleError

SUFFIX = ".minisig"
TRUSTED = "trusted comment: "
MAX_BYTES = 8_192
"""Of a signature file: four lines, each shorter than a kilobyte in practice."""


@dataclass(frozen=True)
class Key:
    """A public key."""

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """Its id as minisign prints it."""
        return self.id[::-1].hex().upper()

    @property
    def line(self) -> str:
        """What stands in a settings file."""
        return base64.b64encode(b"Ed" + self.id + self.key).decode("ascii")


def key_of(text: str) -> Key:
    """Return the key of its line, or of the two lines of a .pub file. Raises ValueError."""
    lines = [line.strip() for line in text.strip().splitlines()]
    raw = _bytes(lines[-1]) if lines else b""
    if len(raw) != 42 or raw[:2] != b"Ed" or ed25519.decoded(raw[10:]) is None:
        raise ValueError("no minisign key")
    return Key(raw[2:10], raw[10:])


def verify(key: Key, content: bytes, signature: bytes) -> str:
    """Return the trusted comment of a signature file that fits the content and the key.

    Raises BundleError with a sentence where it does not.
    """
    lines = signature[:MAX_BYTES].decode("utf-8", "replace").split("\n")
    if len(signature) > MAX_BYTES or len(lines) < 4 or not lines[2].startswith(TRUSTED):
        raise BundleError("the signature is no minisign file: sign the bundle again")
    first, last = _bytes(lines[1]), _bytes(lines[3])
    if len(first) != 74 or len(last) != 64 or first[:2] not in (b"Ed", b"ED"):
        raise BundleError("the signature is no minisign file: sign the bundle again")
    kind, number, signed = first[:2], first[2:10], first[10:]
    if number != key.id:
        raise BundleError(
            f"the bundle is signed with the key {Key(number, b'').name}, not with {key.name} of the"
            " settings: install one that is, or correct [model] key"
        )
    message = hashlib.blake2b(content).digest() if kind == b"ED" else content
    comment = lines[2][len(TRUSTED) :]
    if not ed25519.verify(key.key, message, signed):
        raise BundleError("the signature does not fit the manifest: install the bundle again")
    if not ed25519.verify(key.key, signed + comment.encode("utf-8"), last):
        raise BundleError("the signature's comment was changed: install the bundle again")
    return comment


def _bytes(line: str) -> bytes:
    try:
        return base64.b64decode(line.strip().encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return b""
