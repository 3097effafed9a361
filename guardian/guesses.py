"""Plain rules about guesses at passwords: at an MQTT broker, and by a machine outside.

A broker's first answer says whether it lets somebody in. Who is refused again and again, with a
CONNECT of another length each time, tries names or passwords. A device with an old password is
refused as often, but always with the same bytes.

Whether SSH lets somebody in is sealed, and a home's own scripts may call it often. A machine on the
Internet that opens one session after the other to a device of the home guesses.
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
"""So many within five minutes, of one device and one machine."""

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
    """These rules for all devices; bounded."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, Address, bool], _Pair] = OrderedDict()

    def look(self, device: str, one: Seen, level: float, new_peer: bool) -> Finding | None:
        """Take a login that was refused, or a session that a machine outside opened; return what it
        completes or continues."""
        pair = self._take(device, one, level, new_peer)
        if len(pair.rows) < GUESSES:
            return None
        minutes = GUESSES_S // 60
        text = (
            f"{len(pair.rows)} sessions at port {one.port} that one machine outside opened within "
            f"{minutes} minutes; it speaks at {GUESSES}."
        )
        if one.outbound:
            if len({sent for _, sent in pair.rows}) < LENGTHS:
                return None
            text = (
                f"{len(pair.rows)} logins that one broker refused within {minutes} minutes, with "
                f"names or passwords of different lengths; it speaks at {GUESSES}."
            )
        rows = list(pair.fresh)
        pair.fresh.clear()
        return Finding("brute-force", text, rows)

    def _take(self, device: str, one: Seen, level: float, new_peer: bool) -> _Pair:
        key = device, one.peer, one.outbound
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
        return pair
