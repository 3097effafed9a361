"""Plain counters beside the models: thresholds that no quiet home reaches.

They speak where the models stay silent about something gross, and their incidents say so. All
count what one device did within one minute of the clock of the packets:

* a sweep: SWEEP_PEERS machines, or ports of one machine, that refused or did not answer TCP or
  ping, and few that did;
* a flood: FLOOD_CONNECTIONS connections to one machine without an answer, or one connection with
  GIANT_PACKETS packets in a slice, GIANT_RATE a second and next to no answers.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from guardian.const import NS
from guardian.facts import FAILED, Row
from guardian.routers import Address

SWEEP_PEERS = 100
"""Silent machines or ports in a minute. A network scanner app reaches it, a browser does not."""

SWEEP_SHARE = 0.8
"""Of the machines called in that minute, so many were silent."""

FLOOD_CONNECTIONS = 1_000
"""Unanswered connections to one machine in a minute."""

GIANT_PACKETS = 20_000
GIANT_RATE = 2_000.0
"""Packets, and packets a second, of one slice: a camera's video has 1,000 a second at most."""

HEAVY_PACKETS = 3_000
HEAVY_RATE = 500.0
"""The same, where a model suspects it, too: two weak witnesses that agree."""

GIANT_ANSWERS = 0.01
"""Answers per packet sent; a TCP receiver acknowledges far more."""

MAX_COUNTING = 64
"""Devices counted at once; the one longest silent goes first."""

_MINUTE = 60 * NS
_MAX_ROWS = 256
"""Rows kept of a minute until a counter speaks: 20 MB for all devices at worst."""
_MAX_DISTINCT = 1_024
"""Machines or ports told apart in a minute."""

TCP, UDP = 6, 17
PINGS = (1, 58)


@dataclass(frozen=True)
class Finding:
    """What a counter saw: the cause, the sentence that says so, and the rows it counted."""

    cause: str
    sentence: str
    rows: list[Row]


@dataclass
class _Minute:
    """One device's minute."""

    number: int
    answered: set[Address] = field(default_factory=set)
    silent: set[Address] = field(default_factory=set)
    ports: dict[Address, set[int]] = field(default_factory=dict)
    calls: Counter[Address] = field(default_factory=Counter)
    rows: deque[Row] = field(default_factory=lambda: deque(maxlen=_MAX_ROWS))
    """The latest that were not answered and that no finding has carried yet."""

    def take(self, peer: Address | None = None) -> list[Row]:
        """Return the rows kept (of one machine), and keep them no longer."""
        out = [row for row in self.rows if peer is None or row.peer == peer]
        rest = [row for row in self.rows if peer is not None and row.peer != peer]
        self.rows = deque(rest, maxlen=_MAX_ROWS)
        return out


def silent(proto: int, conn_state: int, resp_pkts: int) -> bool:
    """Tell whether nobody answered, or refused."""
    if proto in PINGS or proto == UDP:
        return resp_pkts == 0
    return proto == TCP and conn_state in FAILED


class Counters:
    """The counters of all devices; bounded."""

    def __init__(self) -> None:
        self._minutes: OrderedDict[str, _Minute] = OrderedDict()

    def _minute(self, device: str, told: int) -> _Minute:
        number = told // _MINUTE
        minute = self._minutes.get(device)
        if minute is None or minute.number != number:
            minute = self._minutes[device] = _Minute(number)
        self._minutes.move_to_end(device)
        if len(self._minutes) > MAX_COUNTING:
            self._minutes.popitem(last=False)
        return minute

    def answered(self, device: str, told: int, peer: Address) -> None:
        """Count a TCP connection or ping that was answered."""
        minute = self._minute(device, told)
        if len(minute.answered) < _MAX_DISTINCT:
            minute.answered.add(peer)

    def unanswered(self, device: str, row: Row) -> Finding | None:
        """Count a connection that was not answered; return what that completes or continues."""
        minute = self._minute(device, row.told)
        peer = row.peer
        minute.rows.append(row)
        if peer in minute.calls or len(minute.calls) < _MAX_DISTINCT:
            minute.calls[peer] += 1
        if minute.calls[peer] >= FLOOD_CONNECTIONS:
            text = f"{FLOOD_CONNECTIONS:,} unanswered connections to one machine in a minute; it "
            text += "speaks at so many."
            return Finding("flood", text, minute.take(peer))
        if row.proto == UDP:
            return None
        return self._sweep(minute, row)

    def _sweep(self, minute: _Minute, row: Row) -> Finding | None:
        peer = row.peer
        if len(minute.silent) < _MAX_DISTINCT:
            minute.silent.add(peer)
        if peer in minute.ports or len(minute.ports) < _MAX_DISTINCT:
            ports = minute.ports.setdefault(peer, set())
            if len(ports) < _MAX_DISTINCT:
                ports.add(row.resp_p)
        quiet, answered = len(minute.silent), len(minute.answered)
        if quiet >= SWEEP_PEERS and quiet >= SWEEP_SHARE * (quiet + answered):
            text = f"{SWEEP_PEERS} machines called in vain in a minute; it speaks at so many."
            return Finding("scan", text, minute.take())
        if len(minute.ports.get(peer, ())) >= SWEEP_PEERS:
            text = f"{SWEEP_PEERS} ports of one machine called in vain in a minute; it speaks at "
            text += "so many."
            return Finding("scan", text, minute.take(peer))
        return None

    @staticmethod
    def is_giant(out: int, back: int, duration: float) -> bool:
        """Tell whether a slice alone is a flood: packets sent and received, seconds."""
        if out < GIANT_PACKETS or out < GIANT_RATE * max(duration, 1.0):
            return False
        return back <= GIANT_ANSWERS * out

    @staticmethod
    def is_heavy(out: int, back: int, duration: float) -> bool:
        """Tell whether a slice is large and unanswered enough to lend weight to a model's word."""
        if out < HEAVY_PACKETS or out < HEAVY_RATE * max(duration, 1.0):
            return False
        return back <= GIANT_ANSWERS * out

    def giant(self, row: Row) -> Finding | None:
        """Look at one slice of a connection that its device opened."""
        if not self.is_giant(row.orig_pkts, row.resp_pkts, row.duration):
            return None
        text = f"over {GIANT_RATE:,.0f} packets a second in one connection, without answers."
        return Finding("flood", text, [row])
