"""Whether a device knew by name what it loads from, or calls again and again.

Who wants new firmware or a page asks DNS for a machine and names it in the request; the loaders of
most malware have an address, and so have the machines at which it guesses. A name proves nothing,
since malware can have one, too: it only makes a download, and what looks like guesses, a weaker
witness (EvidenceSettings.named_share). So do files of FTP, which a session of its own announced.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from guardian.clues import DNS
from guardian.const import NS
from guardian.facts import Row
from guardian.ftpdata import NAME
from guardian.routers import Address
from guardian.seen import Seen
from guardian.witness import DOWNLOAD, GUESSING

ASKED_S = 2
"""A call so soon after a question is for its answer. Longer would take in what malware calls by
chance beside a device's own questions."""
MAX_ASKING, MAX_NAMED = 256, 64
"""Devices, and machines of each, at most 15 kB each; the one longest silent goes first."""

_ASKED_NS = ASKED_S * NS
_FTP_DATA = NAME.decode()


@dataclass
class _Device:
    asked: int
    """When it last asked DNS, ns."""
    named: OrderedDict[Address, None] = field(default_factory=OrderedDict)
    """Machines that it called shortly after."""


class Questions:
    """What devices asked DNS for, as far as moments tell; bounded."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, _Device] = OrderedDict()

    def look(self, device: str, one: Seen) -> None:
        """Take a slice of a device, in the order of time; only what it opened counts."""
        if not one.outbound:
            return
        state = self._devices.get(device)
        if one.clue == DNS:
            if state is None:
                state = self._devices[device] = _Device(one.begun)
                if len(self._devices) > MAX_ASKING:
                    self._devices.popitem(last=False)
            state.asked = max(state.asked, one.begun)
            self._devices.move_to_end(device)
        elif state is not None and 0 <= one.begun - state.asked < _ASKED_NS:
            state.named[one.peer] = None
            state.named.move_to_end(one.peer)
            if len(state.named) > MAX_NAMED:
                state.named.popitem(last=False)

    def named(self, device: str, row: Row) -> bool | None:
        """Tell whether a download comes from a peer that was known by name, or guesses are at one:
        the request says so, or the device called it just after a question. A request for an
        address says that it was not.

        None where names say nothing: of other causes, and of guesses at what has none.
        """
        if row.label == GUESSING:
            return (row.outbound and self._known(device, row)) or None
        return self._known(device, row) if row.label == DOWNLOAD else None

    def _known(self, device: str, row: Row) -> bool:
        if row.service == _FTP_DATA:
            return True
        if row.host:
            return is_name(row.host)
        state = self._devices.get(device)
        return state is not None and row.peer in state.named


def is_name(host: str) -> bool:
    """Tell whether the host of a request is a name, not an address with or without a port."""
    bare = host.rpartition(":")[0] if host.count(":") == 1 else host
    return ":" not in bare and any(c.isalpha() for c in bare)
