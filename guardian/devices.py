"""Who is at home: devices by MAC, else by address, with their names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from guardian import addresses
from guardian.addresses import Lan
from guardian.const import MAX_ADDRESSES_PER_DEVICE, MAX_DEVICES, NS, SETTLED_S
from guardian.deviceclass import THING
from guardian.hearing import listen
from guardian.incidents import DeviceRef
from guardian.kin import Guess, unnamed
from guardian.kinrows import KinRows, Row
from guardian.names import printable, safe_name
from guardian.routers import NEVER, Address, Routers
from guardian.sides import Sides
from guardian.sightings import Sighting, Sightings, unspecified
from guardian.tables import I64, U8, U64, Arps, Bool, Conns, Decoded, Packets


@dataclass(frozen=True)
class Device:
    """One thing in the home, as known at one moment. Times are int64 nanoseconds."""

    index: int
    """Row in the DeviceTable; the `device` column of FeatureRows and Sequences."""
    key: str
    """Stable name of the device: its MAC, or `ip:` and an address where no MAC is seen."""
    mac: str
    """aa:bb:cc:dd:ee:ff, or empty."""
    addresses: tuple[str, ...]
    """Its addresses, the one used last at the end; at most MAX_ADDRESSES_PER_DEVICE."""
    name: str
    """Name learned from the network (DHCP), safe to print; empty when none was seen."""
    gateway: bool
    """The router itself: known, not judged."""
    first_seen: int
    last_seen: int
    fingerprint: str = ""
    """How its DHCP client asks (dhcp.Hello); empty when not seen."""
    heard: tuple[str, ...] = ()
    """What it called itself by DHCP and mDNS, the latest at the end; at most MAX_HEARD."""
    macs: tuple[str, ...] = ()
    """Further MACs that it was seen under and that the user linked to it."""
    kind: str = THING
    """Its class, of deviceclass.CLASSES."""


class DeviceTable(Sides, KinRows):
    """The home's devices; learns from packets and logs, answers for columns of connections.

    Indices are stable while a device is remembered. At most MAX_DEVICES are; then the one
    longest unseen goes, of those seen only briefly if there are such, so that invented MACs push
    out each other and not the home.
    """

    def __init__(
        self,
        lan: Lan,
        gateway_macs: Iterable[int] = (),
        gateway_addresses: Sequence[str] = (),
        names: Mapping[str, str] | None = None,
        capacity: int = MAX_DEVICES,
        learn_names: bool = True,
    ) -> None:
        """gateway_* are of this very machine or known to the user; more routers are learned.

        names has the user's name by device key, MAC or address.
        """
        self.evictions = 0
        self._evicted: list[int] = []
        self._learn_names_too = learn_names
        self._lan = lan
        self._routers = Routers(gateway_macs, gateway_addresses)
        self._names = {addresses.usual(key): printable(name) for key, name in (names or {}).items()}
        self._rows: dict[int, Row] = {}
        self._free = list(range(capacity - 1, -1, -1))
        self._first = np.full(capacity, NEVER, dtype=np.int64)
        self._by_mac: dict[int, int] = {}
        self._by_key: dict[str, int] = {}
        self._by_address: dict[Address, int] = {}
        # Least recently seen first; a device moves once it has been seen for a while.
        self._brief: OrderedDict[int, None] = OrderedDict()
        self._unguessed: set[int] = set()
        self.asked: dict[str, Guess] = {}
        """By key of a device: which earlier one it may be, as the user is asked."""
        self._settled: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def take_evicted(self) -> list[int]:
        """Return the indices freed since the last call: who keeps something by index forgets it
        now, before the next rows, since the index may belong to another device already."""
        evicted, self._evicted = self._evicted, []
        return evicted

    # --- learning ---------------------------------------------------------

    def step(self, decoded: Decoded) -> None:
        """Learn from a batch's packets and ARPs.

        What came through a tunnel teaches nothing: anybody may write any address inside.
        """
        p, a = decoded.packets, decoded.arps
        if p.carrier.any():
            p = p.take(p.carrier == 0)
        if not len(p) and not len(a):
            return
        mac = np.concatenate([p.src_mac, a.src_mac])
        src = np.concatenate([p.src, a.src])
        ts = np.concatenate([p.ts, a.ts])

        def first_seen(wanted: int) -> int | None:
            known = self._rows.get(self._by_mac.get(wanted, -1))
            if known is not None:
                return known.first_seen
            here = np.flatnonzero(mac == np.uint64(wanted))
            here = here[self._at_home(src[here]) | unspecified(src[here])]
            return int(ts[here].min()) if len(here) else None

        self._learn_routers(p, first_seen)
        self._learn_own(a)
        keep = np.concatenate([np.ones(len(p), dtype=np.bool_), ~self._taken(a)])
        self._see(mac[keep], src[keep], ts[keep])
        self._learn_names(p, decoded.data)

    def learn_from_conns(self, conns: Conns) -> None:
        """Learn from records of a log, which carry no packets: whoever opened or answered.

        Where no MAC is seen, an address ending in .1 or .254 that answers DNS or DHCP counts as
        the router.
        """
        if not len(conns):
            return
        answered = (conns.resp_pkts > 0) | (conns.resp_bytes > 0)
        serves = answered & (conns.resp_mac == 0) & (conns.proto == 17) & (conns.resp[:, 0] == 0)
        serves &= np.isin(conns.resp_p, (53, 67)) & self._lan.local(conns.resp)
        serves &= np.isin(conns.resp[:, 1] & np.uint64(0xFF), (1, 254))
        for low in np.unique(conns.resp[serves, 1]).tolist():
            self._routers.add_own((0, low), 0)
        seen = np.concatenate([np.ones(len(conns), dtype=np.bool_), answered])
        mac = np.concatenate([conns.orig_mac, conns.resp_mac])
        address = np.concatenate([conns.orig, conns.resp])
        ts = np.concatenate([conns.ts, conns.ts])
        self._see(mac[seen], address[seen], ts[seen])

    def _see(self, mac: U64, address: U64, ts: I64) -> None:
        """Take note of who spoke."""
        routed = self._routers.since_of(mac) <= ts
        late = ts >= self._routers.known_since()
        self._note(Sightings(mac, address, ts, ts, routed, late).distinct().of_devices(self._lan))

    def _learn_routers(self, p: Packets, first_seen: Callable[[int], int | None]) -> None:
        before = set(self._routers.since)
        self._routers.learn(p, self._lan, first_seen)
        for mac in self._routers.since.keys() - before:
            # What it was called until now are its own addresses, not those behind it.
            row = self._rows.get(self._by_mac.get(mac, -1))
            for address in row.addresses if row else ():
                self._routers.add_own(address, self._routers.since[mac])

    def _learn_own(self, a: Arps) -> None:
        """Note the addresses that routers announce by ARP as their own."""
        for mac, since in self._routers.since.items():
            rows = np.flatnonzero((a.src_mac == np.uint64(mac)) & ~unspecified(a.src))
            _, first = np.unique(a.src[rows, 1], return_index=True)
            for k in rows[first].tolist():
                high, low = a.src[k].tolist()
                self._routers.add_own((high, low), max(since, int(a.ts[k])))

    def _taken(self, a: Arps) -> Bool:
        """Return bool[n]: ARPs by which another machine says that it has a router's address. They
        do not make the address that machine's."""
        out = np.zeros(len(a), dtype=np.bool_)
        if len(a):
            other = self._routers.since_of(a.src_mac) > a.ts
            for (high, low), since in self._routers.own.items():
                out |= other & (a.src[:, 1] == low) & (a.src[:, 0] == high) & (a.ts >= since)
        return out

    def _note(self, seen: list[Sighting]) -> None:
        """Make the devices that are new, in order of their first packet; then touch all."""
        found = []
        for one in sorted(seen, key=lambda s: (s.first, s.mac, s.address or (0, 0))):
            index = self._index_of(one)
            if index is not None:
                found.append((one, index, self._rows[index]))
        for one, index, row in sorted(found, key=lambda f: (f[0].last, f[0].mac, f[1])):
            # An index may have been freed again by a flood of new devices.
            if self._rows.get(index) is row:
                self._touch(index, row, one)

    def _index_of(self, one: Sighting) -> int | None:
        """Return the device of a (MAC, address), made where it is new."""
        mac, address = one.mac, one.address
        if one.routed:
            if address is not None and not self._routers.is_own(address, one.first):
                mac = 0
        elif mac in self._routers.since and address is not None:
            self._routers.add_own(address, self._routers.since[mac])
        if mac:
            index = self._by_mac.get(mac)
            if index is None and one.creates:
                index = self._make(addresses.mac_text(mac), mac, one.first)
            return index
        if address is None:
            return None
        if not one.routed and address in self._by_address:
            return self._by_address[address]
        key = "ip:" + addresses.text(*address)
        index = self._by_key.get(key)
        return self._make(key, 0, one.first) if index is None else index

    def _make(self, key: str, mac: int, ts: int) -> int:
        if not self._free:
            self._evict()
        index = self._free.pop()
        self._rows[index] = Row(key, mac, ts, ts)
        self._first[index] = ts
        self._by_key[key] = index
        if mac:
            self._by_mac[mac] = index
            self._unguessed.add(index)
        self._brief[index] = None
        return index

    def forget(self, key: str) -> bool:
        """Remove a device and the user's name of it; false where it is not known.

        If it is still there it comes back as a new one.
        """
        index = self._by_key.get(key, -1)
        if index < 0:
            return False
        row = self._rows[index]
        for name in (row.key, *(addresses.text(*a) for a in row.addresses)):
            self._names.pop(name, None)
        self._brief.pop(index, None)
        self._settled.pop(index, None)
        self._remove(index)
        return True

    def _evict(self) -> None:
        index, _ = (self._brief or self._settled).popitem(last=False)
        self._remove(index)
        self.evictions += 1

    def _touch(self, index: int, row: Row, one: Sighting) -> None:
        row.first_seen = min(row.first_seen, one.first)
        self._first[index] = row.first_seen
        row.last_seen = max(row.last_seen, one.last)
        if index in self._brief and row.last_seen - row.first_seen >= SETTLED_S * NS:
            del self._brief[index]
            self._settled[index] = None
        (self._brief if index in self._brief else self._settled).move_to_end(index)
        if one.address is None:
            return
        row.addresses[one.address] = None
        row.addresses.move_to_end(one.address)
        if not one.routed or not row.mac:
            self._by_address[one.address] = index
        while len(row.addresses) > MAX_ADDRESSES_PER_DEVICE:
            old, _ = row.addresses.popitem(last=False)
            if self._by_address.get(old) == index:
                del self._by_address[old]

    def set_learn_names(self, wanted: bool) -> None:
        """Take what devices call themselves from now on, or forget it and go on without."""
        self._learn_names_too = wanted
        for row in self._rows.values() if not wanted else ():
            row.name, row.by_dhcp = "", False
        for key, guess in self.asked.items() if not wanted else ():
            self.asked[key] = replace(guess, reason=unnamed(guess.reason))

    def _learn_names(self, p: Packets, data: U8) -> None:
        """Take what devices call themselves; each speaks for its own MAC alone."""
        for said in listen(p, data):
            index = self._by_mac.get(said.mac, -1)
            if index in self._rows and said.mac not in self._routers.since:
                self._hear(index, said)
                if not self._learn_names_too:
                    self._rows[index].name, self._rows[index].by_dhcp = "", False

    # --- answers ----------------------------------------------------------

    def device(self, index: int) -> Device:
        """Return a device as it is known now. Raises KeyError where there is none."""
        row = self._rows[index]
        return Device(
            index=index,
            key=row.key,
            mac=addresses.mac_text(row.mac) if row.mac else "",
            addresses=tuple(addresses.text(*a) for a in row.addresses),
            name=row.name,
            gateway=self._is_gateway(row),
            first_seen=row.first_seen,
            last_seen=row.last_seen,
            fingerprint=row.fingerprint,
            heard=tuple(row.heard),
            macs=tuple(map(addresses.mac_text, row.macs)),
            kind=row.kind or THING,
        )

    def devices(self) -> list[Device]:
        """Return all devices, longest known first."""
        order = sorted(self._rows, key=lambda index: (self._rows[index].first_seen, index))
        return [self.device(index) for index in order]

    def key(self, index: int) -> str:
        """Return a device's stable key; empty where there is no such device."""
        row = self._rows.get(index)
        return row.key if row else ""

    def kind(self, index: int) -> str:
        """Return a device's class, of deviceclass.CLASSES; a thing where there is none."""
        row = self._rows.get(index)
        return (row.kind if row else "") or THING

    def judged(self, mac: int) -> int:
        """Return the index of a device of the home by its MAC, -1 for none and for a router."""
        index = self._by_mac.get(mac, -1)
        row = self._rows.get(index)
        return -1 if row is None or self._is_gateway(row) else index

    def keys(self) -> set[str]:
        """Return the keys of all devices."""
        return set(self._by_key)

    def first_seen(self, index: int) -> int:
        """Return when a device was first seen, ns. Raises KeyError where there is none."""
        return self._rows[index].first_seen

    def ref(self, index: int) -> DeviceRef:
        """Return how an incident names a device: the user's name, the learned one, its maker and
        address."""
        row = self._rows[index]
        mac = addresses.mac_text(row.mac) if row.mac else ""
        ip = _main_address(list(row.addresses))
        plain = f"{row.maker} ({ip or mac})" if row.maker else ip or mac
        return DeviceRef(mac=mac, ip=ip, name=self.user_name(index) or row.name or plain)

    def user_name(self, index: int) -> str:
        """Return the name the user gave by key or address; empty where there is none."""
        row = self._rows[index]
        if not self._names:
            return ""
        texts = [row.key, *(addresses.text(*a) for a in reversed(row.addresses))]
        return next((self._names[t] for t in texts if self._names.get(t)), "")

    def find(self, text: str) -> str:
        """Return the key of the device meant by key, MAC, address or name; empty for none."""
        wanted = text.strip().lower()
        if self.index(wanted) >= 0:
            return self.key(self.index(wanted))
        for index, row in self._rows.items():
            known = [addresses.text(*a) for a in row.addresses]
            if wanted in (*known, row.name.lower(), self.user_name(index).lower()) and wanted:
                return row.key
        return ""

    def nameless(self) -> list[int]:
        """Return the MACs of devices without a name whose maker is not known."""
        return [
            row.mac
            for index, row in self._rows.items()
            if row.mac and not (row.maker or row.name or self.user_name(index))
        ]

    def set_makers(self, makers: Mapping[int, str]) -> None:
        """Take who made devices, by MAC."""
        for mac, maker in makers.items():
            row = self._rows.get(self._by_mac.get(mac, -1))
            if row is not None and row.mac == mac:
                row.maker = safe_name(maker)

    def set_name(self, key: str, name: str) -> None:
        """Take the user's name of a device by its key, MAC or address; empty removes it."""
        self._names[addresses.usual(key)] = printable(name)

    def add_gateway_address(self, address: str) -> None:
        """Note another address of this very machine, as a provider's new prefix gives it."""
        self._routers.add_own(addresses.pack(address), 0)

    def load(self, devices: Iterable[Device]) -> None:
        """Take devices remembered from an earlier run into an empty table; the latest if many.

        Raises ValueError where a text is no address or MAC.
        """
        kept = sorted(devices, key=lambda d: d.last_seen)[-len(self._free) :]
        for device in sorted(kept, key=lambda d: (d.first_seen, d.key)):
            mac = addresses.mac_pack(device.mac) if device.mac else 0
            known = [addresses.pack(text) for text in device.addresses]
            if device.key in self._by_key:
                continue
            index = self._make(device.key, mac, device.first_seen)
            row = self._rows[index]
            row.name = safe_name(device.name) if self._learn_names_too else ""
            row.fingerprint = device.fingerprint
            row.heard.update(dict.fromkeys(device.heard))
            row.classify()
            for address in [None, *known]:
                self._touch(
                    index,
                    row,
                    Sighting(mac, address, device.first_seen, device.last_seen, False, False),
                )
            if device.gateway:
                self._routers.add(mac, 0)
                for address in known:
                    self._routers.add_own(address, 0)
        for group in (self._brief, self._settled):
            for index in sorted(group, key=lambda i: self._rows[i].last_seen):
                group.move_to_end(index)

    def _is_gateway(self, row: Row) -> bool:
        if row.mac:
            return row.mac in self._routers.since
        return any(address in self._routers.own for address in row.addresses)


def _main_address(known: list[Address]) -> str:
    """Return the IPv4 address used last, else a routable IPv6 one, else whatever there is."""
    for high, low in reversed(known):
        if high == 0 and low >> 32 == 0xFFFF:
            return addresses.text(high, low)
    for high, low in reversed(known):
        if high >> 54 != 0xFE80 >> 6:
            return addresses.text(high, low)
    return addresses.text(*known[-1]) if known else ""
