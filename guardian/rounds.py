"""Events of many TCP connections applied at once, by column, as far as they are of the usual kind.

Most of what TCP does is the same for all: a handshake, data in order, a close. Each stage below
takes the next event of every row where it is of the stage's kind (handshakes.py, steady.py), so
that one round of the stages carries most rows through all that a batch holds of them. A row where
anything is out of the ordinary is left where it is, and the rest of its events go one by one
through tcp.packet. Both ways must say the same.
"""

from __future__ import annotations

import numpy as np

from guardian import handshakes, steady
from guardian.connalone import boundary
from guardian.connstate import BORN, FIRST, INACTIVE, NEVER, OPENED, RESP, STATE
from guardian.connstore import Store
from guardian.events import Columns, Cut
from guardian.tables import I64, U8, Array, Bool, Packets
from guardian.tcp import F_ACK, F_FIN, F_RST, F_SYN

LEAST_ROWS = 12
"""A stage costs as much as about twice this many events one by one; it waits for so many rows."""
AT_ONCE = 1_024
"""Rows that a stage takes at once: more no longer fit a cache."""
_NONE = np.zeros(0, dtype=np.int64)
_RUN, _SYN, _SYN_ACK, _FIN, _RST, _OTHER = range(6)
_STAGES = tuple(
    (apply, np.isin(np.arange(_OTHER + 1), kinds))
    for apply, kinds in (
        (handshakes.open_, (_SYN,)),
        (handshakes.first, (_RUN, _SYN_ACK, _RST)),
        (handshakes.answer, (_SYN_ACK, _RST)),
        (steady.run, (_RUN,)),
        (handshakes.end, (_FIN, _RST)),
        (handshakes.end, (_FIN, _RST)),
        (steady.run, (_RUN,)),
    )
)
"""The life of a connection; by the second end the other side has closed, too."""


def advance(
    store: Store, slots: I64, tcp: Bool, events: Cut, packets: Packets, data: U8
) -> tuple[Bool, I64]:
    """Apply what can be applied by column; return bool[events], what is left, and slots that hold
    rows as they were when their slices were due.

    tcp: which of the rows to try.
    """
    place = events["place"]
    begin = np.searchsorted(place, np.arange(len(slots)))
    stop = np.append(begin[1:], len(place))
    cursor = begin.copy()
    kind = np.append(_kinds(events), _OTHER)
    going = tcp & (begin < stop)
    snapshots: list[I64] = [_NONE]
    applied: list[I64] = []

    def look() -> None:
        if applied:
            done = np.sort(np.concatenate(applied))
            whose = slots[place[done]]
            steady.renew(store, steady.look(store, whose, done, events, packets, data))
            applied.clear()

    moved = True
    while moved:
        moved = False
        for apply, kinds in _STAGES:
            rows = np.flatnonzero(going & (cursor < stop))
            rows = rows[kinds[kind[cursor[rows]]]]
            if apply is handshakes.first:
                rows = rows[store.ints[slots[rows], FIRST] == 0]
            elif apply is handshakes.answer:
                rows = rows[store.ints[slots[rows], RESP + STATE] == INACTIVE]
            if len(rows) < LEAST_ROWS:
                continue
            at, mine = cursor[rows], slots[rows]
            alive = events["tick_end"][at] < store.deadline[mine]
            if not alive.all():
                going[rows[~alive]] = False
                rows, at, mine = rows[alive], at[alive], mine[alive]
            if not len(rows):
                continue
            due = store.due[mine] <= events["tick"][at]
            if due.any():
                look()  # a slice tells what its packets showed
                snapshots.append(store.snapshot(mine[due]))
            for k in range(0, len(mine), AT_ONCE):
                part = slice(k, k + AT_ONCE)
                taken = apply(store, mine[part], at[part], events)
                took = rows[part]
                if not taken.all():
                    going[took[~taken]] = False
                    took = took[taken]
                if len(took):
                    done, moved = cursor[took], True
                    _count(store, slots[took], done, events)
                    applied.append(done)
                    cursor[took] += 1
    # A service may allow a connection a longer silence. A row for which that is of matter within
    # the batch stopped at its deadline, and goes on alone from here.
    look()
    left: Bool = np.arange(len(place)) >= cursor[place]
    return left, np.concatenate(snapshots)


def open_all(store: Store, slots: I64, events: Columns) -> None:
    """Open connections of which a batch has a SYN alone, an event each: most of a scan."""
    for k in range(0, len(slots), AT_ONCE):
        at = np.arange(k, min(k + AT_ONCE, len(slots)))
        handshakes.open_(store, slots[at], at, events)
        _count(store, slots[at], at, events)


def _kinds(events: Columns) -> Array:
    """Return the kind of each event; _OTHER is for no stage."""
    flags = events["flags"]
    control = flags & (F_SYN | F_FIN | F_RST)
    syn = np.where(flags & F_ACK, _SYN_ACK, _SYN)
    plain = ~events["bad"] & (events["captured"] >= events["length"])
    plain &= (events["window"] > 0) | (control == F_RST)
    return np.select(
        [~events["single"], ~plain, control == F_SYN, control == F_FIN, control == F_RST],
        [_RUN, _OTHER, syn, _FIN, _RST],
        _OTHER,
    )


def _count(store: Store, slots: I64, at: I64, events: Columns) -> None:
    """Open the slices in which rows speak first, and set their deadlines."""
    opens = store.due[slots] == NEVER
    if opens.any():
        mine, event = slots[opens], at[opens]
        store.ints[mine, OPENED] = events["ts"][event]
        store.due[mine] = boundary(store.ints[mine, BORN], events["tick"][event])
    steady.renew(store, slots)
