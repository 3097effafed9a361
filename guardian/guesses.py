"""A plain rule about guesses at the password of an MQTT broker.

The broker's first answer says whether it lets somebody in. Who is refused again and again, with a
CONNECT of another length each time, tries names or passwords. A device with an old password is
refused as often, but always with the same bytes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from guardian.const import NS
from guardian.counters import Finding
from guardian.facts import Row
from guardian.routers import Address
from guardian.seen import Seen

GUESSES, GUESSES_S = 20, 300
"""So many within five minutes, from one device to one machine."""

LENGTHS = 4
"""Of at least so many lengths."""

MAX_GUESSING = 256
"""Pairs of device and machine, at most 20 kB each; the one longest silent goes first."""


@dataclass
class _Pair:
    rows: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=4 * GUESSES))
    """Moment and bytes sent."""
    fresh: deque[Row] = field(default_factory=lambda: deque(maxlen=GUESSES))
    """Those that no finding has carried yet."""


class Guesses:
    """This rule for all devices; bounded."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, Address], _Pair] = OrderedDict()

    def look(self, device: str, one: Seen, level: float, new_peer: bool) -> Finding | None:
        """Take a login that was refused; return what it completes or continues."""
        key = device, one.peer
        pair = self._pairs.pop(key, None) or _Pair()
        self._pairs[key] = pair
        if len(self._pairs) > MAX_GUESSING:
            self._pairs.popitem(last=False)
        pair.rows.append((one.told, one.sent))
        pair.fresh.append(one.row("brute-force", level, new_peer))
        while pair.rows[0][0] < one.told - GUESSES_S * NS:
            pair.rows.popleft()
        while pair.fresh[0].told < one.told - GUESSES_S * NS:
            pair.fresh.popleft()
        if len(pair.rows) < GUESSES or len({sent for _, sent in pair.rows}) < LENGTHS:
            return None
        rows = list(pair.fresh)
        pair.fresh.clear()
        text = (
            f"{len(pair.rows)} logins that one broker refused within {GUESSES_S // 60} minutes, "
            f"with names or passwords of different lengths; it speaks at {GUESSES}."
        )
        return Finding("brute-force", text, rows)
