"""Who made a device, by the prefix of its MAC: the IEEE's list, as scapy brings it along.

The list is read as text from scapy's folder; scapy itself is not imported. Where there is none (or
another form of it), makers are not known.
"""

from __future__ import annotations

import base64
import gzip
import importlib.util
import io
import logging
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from guardian.kin import made_up
from guardian.names import safe_name

log = logging.getLogger("guardian")

MAX_MAKER = 24
"""Characters of a maker's name that are kept."""

_DATA = re.compile(rb'_d\(\s*"""([^"]*)"""')
_FORMS = re.compile(
    r"[ ,]+(inc|co|ltd|llc|gmbh|corp|corporation|corporate|company|limited|technologies|technology"
    r"|s\.?r\.?l|s\.?a|a/s|ab|ag|bv|b\.v|kg|plc|pte|pty|electronics|international)\b.*$",
    re.IGNORECASE,
)
_PREFIXES = (36, 28, 24)
"""Bits of a prefix, the longest first."""


def makers(macs: Iterable[int]) -> dict[int, str]:
    """Return the makers of those MACs that were not made up, where they are known.

    Takes a tenth of a second and some MB for a moment.
    """
    wanted: dict[str, list[int]] = {}
    for mac in macs:
        if not made_up(mac):
            for bits in _PREFIXES:
                wanted.setdefault(_prefix(mac, bits), []).append(mac)
    if not wanted:
        return {}
    out: dict[int, tuple[int, str]] = {}
    with suppress(OSError, ValueError, EOFError, zlib.error, ImportError):
        for line in _lines():
            prefix, _, rest = line.partition(b"\t")
            here = wanted.get(prefix.rstrip().decode("ascii", "replace"))
            if here:
                bits = int(prefix.partition(b"/")[2] or 24)
                for mac in here:
                    name = _short(rest.decode("utf-8", "replace"))
                    out[mac] = max(out.get(mac, (0, "")), (bits, name))
    return {mac: name for mac, (_, name) in out.items() if name}


def _prefix(mac: int, bits: int) -> str:
    """Return a prefix as the list writes it: 00:1B:C5, 00:55:DA:10/28, 00:1B:C5:00:10/36."""
    kept = mac >> (48 - bits) << (48 - bits)
    octets = -(-bits // 8)
    text = ":".join(f"{kept >> shift & 0xFF:02X}" for shift in range(40, 40 - 8 * octets, -8))
    return text if bits == 24 else f"{text}/{bits}"


def _lines() -> Iterator[bytes]:
    """Yield the list's lines: a prefix, a short and a long name; nothing where there is none.

    Never all of it at once: on a small gateway 20 MB for a moment are many.
    """
    spec = importlib.util.find_spec("scapy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = _DATA.search((Path(folder) / "libs" / "manuf.py").read_bytes())
        if found:
            raw = base64.b85decode(b"".join(found[1].split()))
            with gzip.open(io.BytesIO(raw)) as lines:
                yield from lines
            return
    log.debug("no list of makers")


def _short(rest: str) -> str:
    short, _, long = rest.rstrip("\n").partition("\t")
    name = safe_name(_FORMS.sub("", long.strip() or short.strip()))
    return name[:MAX_MAKER].strip(" -.,") or safe_name(short.strip())
