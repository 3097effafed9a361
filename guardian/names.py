"""Names that devices give themselves, made safe to print."""

from __future__ import annotations

import re
import unicodedata

from guardian.const import MAX_NAME

_UNSAFE = re.compile(r"[^A-Za-z0-9 ._()+'-]+")
_SPACES = re.compile(r" +")


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
