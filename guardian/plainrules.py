"""All plain counters and rules, asked in turn: what they find suffices for an incident."""

from __future__ import annotations

from collections.abc import Iterator

from guardian.carried import Carried
from guardian.clues import KNOCK, MESSAGES, MINING, REFUSED
from guardian.counters import PINGS, TCP, Counters, Finding, silent
from guardian.facts import Row
from guardian.guesses import Guesses
from guardian.patient import Patient
from guardian.seen import Seen
from guardian.witness import is_silent

_ANSWERING = (TCP, *PINGS)
"""Protocols in which an answer is to be expected."""


class PlainRules:
    """Counters of minutes, rules about what is carried, guesses at passwords, and patience."""

    def __init__(self) -> None:
        self._counters, self._carried = Counters(), Carried()
        self._guesses, self._patient = Guesses(), Patient()

    def look(
        self,
        device: str,
        one: Seen,
        row: Row | None,
        level: float,
        new_peer: bool,
        *,
        counted: bool,
        suspected: bool,
    ) -> Iterator[Finding]:
        """Take a slice in the order of time; yield what it completes or continues.

        row: of it, where it was made already. counted: its device opened it and no incident took
        it. suspected: the models hold it for C&C, or nearly. The iterator must be used up.
        """
        if counted:
            finding = self._count(device, row) if row is not None else None
            if finding is not None:
                yield finding
            if one.piece == 0 and one.proto in _ANSWERING and not is_silent(one):
                self._counters.answered(device, one.told, one.peer)
        if one.clue and (counted or (one.clue == KNOCK and not one.outbound)):
            finding = self._clue(device, one, row, level, new_peer, suspected)
            if finding is not None:
                yield finding

    def _count(self, device: str, row: Row) -> Finding | None:
        finding = self._counters.giant(row)
        if finding is None and row.piece == 0 and silent(row.proto, row.conn_state, row.resp_pkts):
            return self._counters.unanswered(device, row)
        return finding

    def _clue(
        self,
        device: str,
        one: Seen,
        row: Row | None,
        level: float,
        new_peer: bool,
        suspected: bool,
    ) -> Finding | None:
        if one.clue in (REFUSED, KNOCK):
            return self._guesses.look(device, one, level, new_peer)
        if one.clue <= MINING:
            finding = self._carried.look(device, one, level, new_peer)
            if finding is not None or one.clue in (MESSAGES, MINING):
                return finding
        return self._patient.look(device, one, row, level, new_peer, suspected)
