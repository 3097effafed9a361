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
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from guardian.kin import made_up
from guardian.names import safe_name

log = logging.getLogger("guardian")

MAX_MAKER = 24
"""Characters of a maker's name that are kept."""

_DATA = re.compile(r'_d\(\s*"""(.*?)"""', re.DOTALL)
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
    for line in io.StringIO(_list()):  # one line at a time: all of them would take 10 MB
        prefix, _, rest = line.partition("\t")
        here = wanted.get(prefix.rstrip())
        if here:
            bits = int(prefix.partition("/")[2] or 24)
            for mac in here:
                out[mac] = max(out.get(mac, (0, "")), (bits, _short(rest)))
    return {mac: name for mac, (_, name) in out.items() if name}


def _prefix(mac: int, bits: int) -> str:
    """Return a prefix as the list writes it: 00:1B:C5, 00:55:DA:10/28, 00:1B:C5:00:10/36."""
    kept = mac >> (48 - bits) << (48 - bits)
    octets = -(-bits // 8)
    text = ":".join(f"{kept >> shift & 0xFF:02X}" for shift in range(40, 40 - 8 * octets, -8))
    return text if bits == 24 else f"{text}/{bits}"


def _list() -> str:
    """Return the list: a prefix, a short and a long name in each line; empty for none."""
    with suppress(OSError, ValueError, EOFError, zlib.error, ImportError):
        spec = importlib.util.find_spec("scapy")
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            text = (Path(folder) / "libs" / "manuf.py").read_text(encoding="utf-8")
            found = _DATA.search(text)
            if found:
                raw = base64.b85decode(found[1].replace("\n", ""))
                return gzip.decompress(raw).decode("utf-8", "replace")
    log.debug("no list of makers")
    return ""


def _short(rest: str) -> str:
    short, _, long = rest.rstrip("\n").partition("\t")
    name = safe_name(_FORMS.sub("", long.strip() or short.strip()))
    return name[:MAX_MAKER].strip(" -.,") or safe_name(short.strip())
