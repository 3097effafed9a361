"""Rows of the device table: what a device is called, and under which MACs it comes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from guardian import addresses, deviceclass, kin
from guardian.const import MAX_HEARD, MAX_LINKED, MAX_UNGUESSED
from guardian.hearing import Heard
from guardian.kin import Guess
from guardian.routers import NEVER, Address, Routers
from guardian.tables import I64


@dataclass
class Row:
    """What the table keeps of a device."""

    key: str
    mac: int
    first_seen: int
    last_seen: int
    addresses: OrderedDict[Address, None] = field(default_factory=OrderedDict)
    name: str = ""
    maker: str = ""
    fingerprint: str = ""
    heard: OrderedDict[str, None] = field(default_factory=OrderedDict)
    macs: list[int] = field(default_factory=list)
    by_dhcp: bool = False
    """The name is from DHCP, which weighs more than mDNS."""
    kind: str = ""
    """Its class, of deviceclass.CLASSES; empty where it showed none."""

    def classify(self) -> None:
        """Draw its class from what it shows."""
        macs = (self.mac, *self.macs)
        self.kind = deviceclass.class_of(self.kind, macs, self.fingerprint, self.heard)


class KinRows:
    """The part of the device table that knows a device under more than one MAC."""

    _routers: Routers
    _rows: dict[int, Row]
    _names: dict[str, str]
    _by_mac: dict[int, int]
    _by_key: dict[str, int]
    _by_address: dict[Address, int]
    _brief: OrderedDict[int, None]
    _settled: OrderedDict[int, None]
    _unguessed: set[int]
    _first: I64
    _free: list[int]
    _evicted: list[int]
    asked: dict[str, Guess]

    def _remove(self, index: int) -> None:
        row = self._rows.pop(index)
        del self._by_key[row.key]
        for mac in (row.mac, *row.macs):
            if self._by_mac.get(mac) == index:
                del self._by_mac[mac]
        self._unguessed.discard(index)
        for address in row.addresses:
            if self._by_address.get(address) == index:
                del self._by_address[address]
        self._first[index] = NEVER
        self._free.append(index)
        self._evicted.append(index)

    def _hear(self, index: int, said: Heard) -> None:
        """Take what a device says of itself."""
        row = self._rows[index]
        before = row.fingerprint, len(row.heard)
        row.fingerprint = said.fingerprint or row.fingerprint
        names = [said.name] if said.name else []
        if said.name:
            row.name, row.by_dhcp = said.name, True
        for host, places in (said.hosts or {}).items():
            # A neighbour may speak for one that sleeps: the address must be the sender's.
            if any(place in row.addresses for place in places):
                names.append(host)
                if not row.by_dhcp:
                    row.name = host
        if said.hosts is None or len(names) > 0:
            names += said.instances
        news = row.fingerprint != before[0] or any(name not in row.heard for name in names)
        for name in names:
            row.heard[name] = None
            row.heard.move_to_end(name)
        while len(row.heard) > MAX_HEARD:
            row.heard.popitem(last=False)
        if (row.fingerprint, len(row.heard)) != before:
            self._unguessed.add(index)
        if news:
            row.classify()

    def guesses(self) -> list[Guess]:
        """Return which devices that showed something new may be earlier ones."""
        out = []
        for index in sorted(self._unguessed)[:MAX_UNGUESSED]:
            self._unguessed.discard(index)
            row = self._rows.get(index)
            if row is None or row.macs or row.key in self.asked or self._router(row):
                continue
            others = [other for other in self._rows.values() if not self._router(other)]
            found = kin.guess(row, others)
            if found is not None:
                out.append(found)
        return out

    def together(self, new: str, old: str) -> bool:
        """Return whether both were there at once, or one is no longer known."""
        first, second = self._rows.get(self.index(new)), self._rows.get(self.index(old))
        if first is None or second is None:
            return True
        return second.last_seen > first.first_seen + kin.OVERLAP_NS

    def link(self, new: str, old: str) -> bool:
        """Let what comes under the MAC of `new` be the device `old`; false where it cannot be.

        Its row goes (see take_evicted), its addresses and its last moment go to the older one.
        """
        first, second = self._by_key.get(new, -1), self._by_key.get(old, -1)
        if second < 0 or first == second or not self._rows[second].mac:
            return False
        target = self._rows[second]
        mac = addresses.mac_pack(new) if first < 0 else self._rows[first].mac
        if not mac or self._router(target) or mac in self._routers.since:
            return False
        macs = [mac]
        if first >= 0:
            row = self._rows[first]
            macs = [*row.macs, mac]
            self._brief.pop(first, None)
            self._settled.pop(first, None)
            self._remove(first)
            for address in row.addresses:
                target.addresses[address] = None
                self._by_address[address] = second
            target.last_seen = max(target.last_seen, row.last_seen)
            target.fingerprint = row.fingerprint or target.fingerprint
            target.name = row.name or target.name
            target.heard.update(row.heard)
            name = self._names.pop(row.key, "")
            if name and not self._names.get(target.key):
                self._names[target.key] = name
        for one in macs:
            self._by_mac[one] = second
            if one not in target.macs:
                target.macs.append(one)
        while len(target.macs) > MAX_LINKED:
            self._by_mac.pop(target.macs.pop(0), None)
        target.classify()
        return True

    def unlink(self, mac: str) -> bool:
        """Let what comes under a MAC be a device of its own again; false where it is linked to
        none."""
        index = self._linked_index(mac)
        if index < 0:
            return False
        number = addresses.mac_pack(mac)
        self._rows[index].macs.remove(number)
        self._by_mac.pop(number, None)
        return True

    def index(self, key: str) -> int:
        """Return the index of a device key, or of the MAC of a linked one; -1 for none."""
        found = self._by_key.get(key)
        return self._linked_index(key) if found is None else found

    def _linked_index(self, key: str) -> int:
        """Return the index of the device to which a MAC was linked, -1 for none."""
        try:
            number = addresses.mac_pack(key)
        except ValueError:
            return -1
        index = self._by_mac.get(number, -1)
        row = self._rows.get(index)
        return index if row is not None and number in row.macs else -1

    def _router(self, row: Row) -> bool:
        return row.mac in self._routers.since
