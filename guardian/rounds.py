"""Events of many TCP connections applied at once: in each round the next one of every row.

Most of what TCP does is the same for all: a handshake, data in order, a close. Rows whose next
event is of that kind take it by column (steady.py, shakes.py), and go on to the next round; a
row where anything is out of the ordinary is left where it is, and the rest of its events go one
by one through tcp.packet. Both ways must say the same.
"""

from __future__ import annotations

import numpy as np

from guardian import shakes, steady
from guardian.connalone import boundary
from guardian.connstate import BORN, INACTIVE, NEVER, OPENED, RESP, STATE
from guardian.connstore import Store
from guardian.events import Columns
from guardian.tables import I64, U8, Bool, Packets
from guardian.tcp import F_FIN, F_RST, F_SYN

LEAST_ROWS = 48
"""A round costs as much as this many events one by one; fewer rows than that are left alone."""
_NONE = np.zeros(0, dtype=np.int64)


def advance(
    store: Store, slots: I64, tcp: Bool, events: Columns,
    packets: Packets, data: U8, index: I64, low: Bool,
) -> tuple[Bool, I64]:  # fmt: skip
    """Apply what can be applied by column; return bool[events], what is left, and slots that hold
    rows as they were when their slices were due.

    tcp: which of the rows to try; index: the packets that the events were cut from, low: which of
    them the low end sent.
    """
    place = events["place"]
    begin = np.searchsorted(place, np.arange(len(slots)))
    stop = np.append(begin[1:], len(place))
    cursor = begin.copy()
    going = np.flatnonzero(tcp & (begin < stop))
    snapshots: list[I64] = [_NONE]
    applied: list[I64] = []

    def look() -> None:
        if applied:
            done = np.sort(np.concatenate(applied))
            whose = slots[place[done]]
            steady.look(store, whose, done, events, packets, data, index, low)
            steady.renew(store, whose)
            applied.clear()

    while len(going) >= LEAST_ROWS:
        at = cursor[going]
        going = going[events["tick_end"][at] < store.deadline[slots[going]]]
        at = cursor[going]
        due = store.due[slots[going]] <= events["tick"][at]
        if due.any():
            look()  # a slice tells what its packets showed
            snapshots.append(store.snapshot(slots[going[due]]))
        taken = _round(store, slots[going], at, events)
        applied.append(at[taken])
        going = going[taken]
        cursor[going] += 1
        going = going[cursor[going] < stop[going]]
    # A service may allow a connection a longer silence. A row for which that is of matter within
    # the batch stopped at its deadline, and goes on alone from here.
    look()
    left: Bool = np.arange(len(place)) >= cursor[place]
    return left, np.concatenate(snapshots)


def _round(store: Store, slots: I64, at: I64, events: Columns) -> Bool:
    """Apply event at[k] to the row slots[k]; return bool[k]: which were."""
    single = events["single"][at]
    opens = store.due[slots] == NEVER
    kinds = [(steady.run, ~single)]
    if single.any():
        plain = single & ~events["bad"][at]
        plain &= events["captured"][at] >= events["length"][at]
        control = events["flags"][at] & (F_SYN | F_FIN | F_RST)
        plain &= (events["window"][at] > 0) | (control == F_RST)
        lone = store.ints[slots, RESP + STATE] == INACTIVE
        syn = control == F_SYN
        kinds.append((shakes.open_, plain & syn & lone))
        kinds.append((shakes.answer, plain & lone & (syn | (control == F_RST))))
        kinds.append((shakes.end, plain & ~lone & ((control == F_FIN) | (control == F_RST))))
    taken = np.zeros(len(slots), dtype=np.bool_)
    for apply, picked in kinds:
        rows = np.flatnonzero(picked & ~taken)
        if len(rows):
            taken[rows] = apply(store, slots[rows], at[rows], events)
    fresh = taken & opens
    if fresh.any():
        mine, event = slots[fresh], at[fresh]
        store.ints[mine, OPENED] = events["ts"][event]
        store.due[mine] = boundary(store.ints[mine, BORN], events["tick"][event])
    steady.renew(store, slots[taken])
    return taken
