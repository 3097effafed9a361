"""Plain rules with patience: what a device does so seldom that no hour shows it.

Both rest on names. Who wants a service asks DNS for it first; malware has addresses. A call is
*nameless* where its device asked nothing of DNS in the NAMED_S seconds before.

* A slow scan: SCAN_TARGETS different pairs of machine and port within SCAN_S that nobody answered,
  all nameless, on ports on which nobody ever answered the device, over SCAN_LEAST_S at least, and
  few nameless ones that were answered beside them (SCAN_SHARE). So a cloud that is away is none.
* A stranger: a device that is settled and asks for names begins to talk to a machine outside that
  it never had to do with, nameless, on a port that is new to it, and goes on: STRANGER_TIMES slices
  over STRANGER_S at least, next to nothing in each. Who has more than MOST_STRANGERS of them has an
  app with a network of its own. In a device's first LEARNING_S some lines are like that: many
  ask for a name once, when they start, and keep the address for days. So what began then (YOUNG_S
  after its first call at the earliest) counts only where the models nearly say C&C of its first
  slice.

What was seen is forgotten at a restart; the machines that a device knew are not (habits.py).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TypeVar

from guardian.clues import DNS, OUTSIDE, SILENT
from guardian.const import NS
from guardian.counters import Finding
from guardian.facts import Row
from guardian.phrases import lasting
from guardian.routers import Address
from guardian.seen import Seen

NAMED_S = 30
_NAMED_NS = NAMED_S * NS
SCAN_TARGETS, SCAN_S, SCAN_LEAST_S, SCAN_SHARE = 20, 3 * 86_400, 3_600, 0.8
LEARNING_S = 6 * 3_600
YOUNG_S = 600
STRANGER_TIMES, STRANGER_S, STRANGER_BYTES, MOST_STRANGERS = 12, 3_600, 4_096, 3
BY_CHANCE = 0.25
"""Share of a stranger's calls that may follow a question, which was for another's name."""
LEAST_NAMED = 3
"""Calls with a name that a device must have made, so that it is known to ask."""
FORGET_S = 7 * 86_400
"""A stranger that is silent for so long is forgotten."""

MAX_WATCHED = 256
"""Devices remembered, at most 40 kB each; the one longest silent goes first. A slow scan has next
to none that answered beside it, so few of these say enough."""
_MAX_SILENT, _MAX_ANSWERED, _MAX_PORTS, _MAX_STRANGERS = 32, 64, 256, 8

K = TypeVar("K")
Target = tuple[Address, int]
"""Machine and port."""


@dataclass
class _Stranger:
    begun: int
    last: int
    times: int = 0
    named: int = 0
    amount: int = 0
    rows: deque[Row] = field(default_factory=lambda: deque(maxlen=STRANGER_TIMES))


@dataclass
class _Device:
    first: int
    asked: int = -(1 << 62)
    """When it last asked DNS, ns."""
    named: int = 0
    """Calls to outside shortly after it had asked."""
    silent: OrderedDict[Target, Row] = field(default_factory=OrderedDict)
    fresh: dict[Target, Row] = field(default_factory=dict)
    """Those of them that no finding has carried yet."""
    answered: OrderedDict[Target, None] = field(default_factory=OrderedDict)
    """Nameless ones."""
    ports: OrderedDict[int, None] = field(default_factory=OrderedDict)
    """On which it was answered."""
    strangers: OrderedDict[Target, _Stranger] = field(default_factory=OrderedDict)

    def drop(self, target: Target) -> None:
        self.silent.pop(target, None)
        self.fresh.pop(target, None)


class Patient:
    """These rules for all devices; bounded."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, _Device] = OrderedDict()

    def look(
        self,
        device: str,
        one: Seen,
        row: Row | None,
        level: float,
        new_peer: bool,
        suspected: bool = False,
    ) -> Finding | None:
        """Take a slice that has a clue, in the order of time; `row` where it was made already,
        `suspected` where the models nearly say C&C.

        Return what it completes or continues.
        """
        state = self._devices.get(device)
        clue = one.clue
        if state is None:
            state = self._devices[device] = _Device(one.told)
            if len(self._devices) > MAX_WATCHED:
                self._devices.popitem(last=False)
        elif clue == OUTSIDE and one.piece and not state.strangers:
            return None  # what goes on matters of strangers alone
        else:
            self._devices.move_to_end(device)
        if clue == DNS:
            _ask(state, one.begun)
            return None
        nameless = not 0 <= one.begun - state.asked < _NAMED_NS
        target = one.peer, one.port
        if clue != SILENT:
            return _answered(state, target, one, nameless, level, new_peer, suspected)
        if not nameless or one.port in state.ports:
            return None
        if target in state.answered or target in state.silent:
            return None
        return _silent(state, target, row or one.row("scan", level, new_peer))


def _note(known: OrderedDict[K, None], key: K, most: int) -> None:
    known[key] = None
    if len(known) > most:
        known.popitem(last=False)


def _ask(state: _Device, begun: int) -> None:
    """A question may be told after the call that it was for: that one had a name, too."""
    state.asked = max(state.asked, begun)
    while state.silent:
        target, row = next(reversed(state.silent.items()))
        if not 0 <= row.ts - begun < NAMED_S * NS:
            break
        state.drop(target)
    for target, stranger in list(state.strangers.items()):
        if stranger.times == 1 and 0 <= stranger.last - begun < NAMED_S * NS:
            del state.strangers[target]


def _silent(state: _Device, target: Target, row: Row) -> Finding | None:
    silent = state.silent
    silent[target] = state.fresh[target] = row
    if len(silent) > _MAX_SILENT:
        state.drop(next(iter(silent)))
    while (first := next(iter(silent.values()))).told < row.told - SCAN_S * NS:
        state.drop(next(iter(silent)))
    count = len(silent)
    if count < SCAN_TARGETS or row.told - first.told < SCAN_LEAST_S * NS:
        return None
    if count < SCAN_SHARE * (count + len(state.answered)):
        return None
    text = (
        f"{count} machines and ports called in vain within "
        f"{lasting((row.told - first.told) / NS)}, each for the first time and without asking for "
        f"a name; below {SCAN_TARGETS} in three days is normal."
    )
    rows = list(state.fresh.values())
    state.fresh.clear()
    return Finding("scan", text, rows)


def _answered(
    state: _Device,
    target: Target,
    one: Seen,
    nameless: bool,
    level: float,
    new_peer: bool,
    suspected: bool,
) -> Finding | None:
    finding = None
    first = not one.piece
    if one.clue == OUTSIDE:
        if first and not nameless:
            state.named += 1
        if target in state.strangers or (first and nameless and new_peer):
            finding = _outside(state, target, one, nameless, level, new_peer, suspected)
    if first:
        if target in state.silent:
            state.drop(target)
        if nameless:
            _note(state.answered, target, _MAX_ANSWERED)
        if one.port not in state.ports and target not in state.strangers:
            _note(state.ports, one.port, _MAX_PORTS)
    return finding


def _outside(
    state: _Device,
    target: Target,
    one: Seen,
    nameless: bool,
    level: float,
    new_peer: bool,
    suspected: bool,
) -> Finding | None:
    known = state.strangers.get(target)
    if known is None:
        least = YOUNG_S if suspected else LEARNING_S
        if one.port in state.ports or one.told - state.first < least * NS:
            return None
        for old in [t for t, s in state.strangers.items() if s.last < one.told - FORGET_S * NS]:
            del state.strangers[old]
        known = state.strangers[target] = _Stranger(one.begun, one.begun)
        if len(state.strangers) > _MAX_STRANGERS:
            state.strangers.popitem(last=False)
    known.named += one.piece == 0 and not nameless
    known.last = max(known.last, one.begun)
    known.times += 1
    known.amount += one.sent + one.got
    known.rows.append(one.row("c2", level, new_peer))
    if known.times < STRANGER_TIMES or one.told - known.begun < STRANGER_S * NS:
        return None
    if known.named > BY_CHANCE * known.times or state.named < LEAST_NAMED:
        return None
    if known.amount > known.times * STRANGER_BYTES or len(state.strangers) > MOST_STRANGERS:
        return None
    rows = list(known.rows)
    known.rows.clear()
    text = (
        f"it speaks again and again, for {lasting((one.told - known.begun) / NS)} so far, with a "
        "machine that it never called before, on a port that is new to it and without asking for "
        "a name; normally this device asks for a name first."
    )
    return Finding("c2", text, rows)
