"""Which packets belong together: one key for both directions of a connection.

A key has a low and a high end (address and port); which is which depends on the hash of the
ends, not on who began. ICMP messages come in pairs (echo and reply), whose types stand for
ports; those without a counterpart are one-way, and their sender is the low end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from guardian.tables import I64, U8, U16, U64, Array, Bool, Packets

_PAIRS4 = ((8, 0), (13, 14), (15, 16), (10, 9), (17, 18))
_PAIRS6 = ((128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145))


def _counterparts(pairs: tuple[tuple[int, int], ...]) -> Array:
    table = np.full(256, -1, dtype=np.int64)
    for a, b in pairs:
        table[a], table[b] = b, a
    return table


_COUNTERPART = {1: _counterparts(_PAIRS4), 58: _counterparts(_PAIRS6)}


@dataclass(frozen=True)
class Keys:
    """The keys of packets: columns of equal length."""

    hash: U64
    low_sends: Bool
    """bool[n]: the packet comes from the low end."""
    low: U64
    high: U64
    """uint64[n, 2]: the addresses of the ends."""
    rest: U64
    """uint64[n]: both ports, the protocol, and whether it is one-way; see unpack."""

    def differ(self, here: Array, other: Keys, there: Array) -> bool:
        """Tell whether a row of here has not the same key as the other's row of there."""
        return any(
            (mine.take(here, axis=0) != theirs.take(there, axis=0)).any()
            for mine, theirs in (
                (self.rest, other.rest), (self.low, other.low), (self.high, other.high)
            )
        )  # fmt: skip


def unpack(rest: U64) -> tuple[U16, U16, U8]:
    """Return port of the low end, port of the high end, protocol."""
    return (
        (rest >> np.uint64(32)).astype(np.uint16),
        (rest >> np.uint64(16)).astype(np.uint16),
        (rest >> np.uint64(8)).astype(np.uint8),
    )


def mix(x: U64) -> U64:
    """Return a thorough mixture of the bits of each value (a bijection)."""
    mixed: U64 = x >> np.uint64(30)
    mixed ^= x
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    shifted = mixed >> np.uint64(27)
    mixed ^= shifted
    mixed *= np.uint64(0x94D049BB133111EB)
    np.right_shift(mixed, np.uint64(31), out=shifted)
    mixed ^= shifted
    return mixed


def seeds(seed: int) -> U64:
    """Return four words from a seed of any size."""
    words = np.array([seed >> 64 * i & 0xFFFFFFFFFFFFFFFF for i in range(4)], dtype=np.uint64)
    steps = np.arange(1, 5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mix(words + steps)


def end_hash(address: U64, port: Array, words: U64) -> U64:
    """Return a hash of each end: address and port."""
    high = address[:, 0]
    h = mix(address[:, 1] ^ words[0])
    if high.any():
        h ^= np.where(high != 0, mix(high ^ words[1]), np.uint64(0))
    h += port.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    return mix(h)


def of(packets: Packets, words: U64) -> Keys:
    """Return the keys of packets; words: from seeds()."""
    sport, dport, one_way = _ports(packets)
    source = end_hash(packets.src, sport, words)
    target = end_hash(packets.dst, dport, words)
    low_sends = (source <= target) | one_way
    kind = packets.proto.astype(np.uint64) << np.uint64(8) | one_way
    low_port = np.where(low_sends, sport, dport).astype(np.uint64)
    high_port = np.where(low_sends, dport, sport).astype(np.uint64)
    return Keys(
        hash=_join(source, target, kind, one_way, words),
        low_sends=low_sends,
        low=picked(low_sends, packets.src, packets.dst),
        high=picked(low_sends, packets.dst, packets.src),
        rest=low_port << np.uint64(32) | high_port << np.uint64(16) | kind,
    )


def picked(which: Bool, one: U64, other: U64) -> U64:
    """Return uint64[n, 2]: rows of one where which is true, of the other elsewhere.

    Both halves go as one number: that is eight times as fast as choosing by a mask of two axes.
    """
    pairs: U64 = np.where(which, _whole(one), _whole(other)).view(np.uint64).reshape(-1, 2)
    return pairs


def _whole(pairs: U64) -> Array:
    return np.ascontiguousarray(pairs).view(np.complex128).reshape(-1)


def _join(low: U64, high: U64, kind: U64, one_way: Bool, words: U64) -> U64:
    """Return the hash of a key from those of its ends, in either order unless one-way."""
    both = mix(low + high + (kind ^ words[2]))
    if one_way.any():
        both = np.where(one_way, mix(both + mix(low ^ words[3])), both)
    return both


def again(low: U64, high: U64, rest: U64, words: U64) -> tuple[U64, Bool]:
    """Return the hashes of keys under other words, and whose ends now are in the other order."""
    low_port, high_port, _ = unpack(rest)
    one_way = rest & np.uint64(1) != 0
    low_end, high_end = end_hash(low, low_port, words), end_hash(high, high_port, words)
    turn = (low_end > high_end) & ~one_way
    return _join(low_end, high_end, rest & np.uint64(0xFFFF), one_way, words), turn


def sort(hashes: U64) -> I64:
    """Return the order that brings equal hashes together, each in order of arrival.

    A plain sort of values that carry their place is many times as fast as a stable argsort. Where
    two hashes differ only in the bits that the place takes, that one is done.
    """
    n = len(hashes)
    low = np.uint64((1 << n.bit_length()) - 1)
    order: I64 = (np.sort((hashes & ~low) | np.arange(n, dtype=np.uint64)) & low).astype(np.int64)
    sorted_ = hashes[order]
    alike = (sorted_[1:] ^ sorted_[:-1]) <= low
    if (alike & (sorted_[1:] != sorted_[:-1])).any():
        return np.argsort(hashes, kind="stable")
    return order


@dataclass(frozen=True)
class Groups:
    """The packets of a batch by key: group g are order[first[g] : first[g] + count[g]]."""

    first: I64
    count: I64
    leaders: I64
    """int64[g]: the first packet of each group."""
    number: I64
    """int64[n]: the group of each packet of order."""
    hashes: U64

    @classmethod
    def of(cls, keyed: Keys, order: I64) -> Groups | None:
        """Return the groups of sorted packets, or None where two keys have one hash."""
        hashes = keyed.hash[order]
        begins = np.empty(len(order), dtype=np.bool_)
        begins[0] = True
        np.not_equal(hashes[1:], hashes[:-1], out=begins[1:])
        first = np.flatnonzero(begins)
        leaders = order[first]
        number = np.cumsum(begins) - 1
        if len(first) < len(order):
            follows = np.flatnonzero(~begins)
            if keyed.differ(order[follows], keyed, leaders[number[follows]]):
                return None
        count = np.diff(first, append=len(order))
        return cls(first, count, leaders, number, hashes[first])

    def members(self, order: I64, picked: Bool) -> tuple[I64, I64, I64]:
        """Return of the packets of picked groups: where they are in order, which packets they are,
        and each one's place among the picked groups."""
        mine = np.flatnonzero(picked[self.number])
        place = np.cumsum(picked) - 1
        return mine, order[mine], place[self.number[mine]]


def _ports(packets: Packets) -> tuple[I64, I64, Bool]:
    """Return the ports of the key, and which packets are one-way."""
    sport, dport = packets.sport.astype(np.int64), packets.dport.astype(np.int64)
    one_way = np.zeros(len(packets), dtype=np.bool_)
    for proto, table in _COUNTERPART.items():
        rows = np.flatnonzero(packets.proto == proto)
        if len(rows):
            other = table[sport[rows] & 0xFF]
            one_way[rows] = other < 0
            dport[rows] = np.where(other < 0, dport[rows], other)
    return sport, dport, one_way


_DIGITS = np.frombuffer(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", dtype=np.uint8
)
_UID_DIGITS = 17
UID = np.dtype(f"S{1 + _UID_DIGITS}")


def uids(low: U64, high: U64, rest: U64, begin: I64, gen: I64, seed: int) -> Array:
    """Return Zeek-like uids: C and 17 base-62 digits, from seed, key and first packet's time.

    The two ends of the key may be given in either order.
    """
    if len(begin) == 1:  # a flood that uses its ports again asks for one at a time
        ends = (tuple(low[0].tolist()), tuple(high[0].tolist()))
        return np.array([_uid(*ends, int(rest[0]), int(begin[0]), int(gen[0]), seed)], dtype=UID)
    words = seeds(seed)
    low_port, high_port, _ = unpack(rest)
    kind = rest & np.uint64(0xFFFF)
    a, b = end_hash(low, low_port, words), end_hash(high, high_port, words)
    moment = mix(begin.astype(np.uint64) + words[2]) + gen.astype(np.uint64)
    first = mix(a + b + (moment ^ kind))
    second = mix(mix(a ^ words[3]) + mix(b ^ words[3]) + mix(moment + kind))
    text = np.empty((len(begin), _UID_DIGITS + 1), dtype=np.uint8)
    text[:, 0] = ord("C")
    base = np.uint64(62)
    for position in range(1, _UID_DIGITS + 1):
        half = first if position % 2 else second
        quotient = half // base
        text[:, position] = _DIGITS[(half - quotient * base).astype(np.int64)]
        if position % 2:
            first = quotient
        else:
            second = quotient
    return text.view(UID).reshape(-1)


_ALL = 0xFFFFFFFFFFFFFFFF
_TEXT = _DIGITS.tobytes()


@lru_cache(maxsize=8)
def _words(seed: int) -> tuple[int, ...]:
    return tuple(seeds(seed).tolist())


def _mix(x: int) -> int:
    """mix() for one number: an array of one takes ten times as long."""
    x = (x >> 30 ^ x) * 0xBF58476D1CE4E5B9 & _ALL
    x = (x >> 27 ^ x) * 0x94D049BB133111EB & _ALL
    return x >> 31 ^ x


def _uid(
    low: tuple[int, ...], high: tuple[int, ...], rest: int, begin: int, gen: int, seed: int
) -> bytes:
    """uids() for one."""
    words = _words(seed)

    def end(address: tuple[int, ...], port: int) -> int:
        h = _mix(address[1] ^ words[0])
        if address[0]:
            h ^= _mix(address[0] ^ words[1])
        return _mix(h + port * 0xD6E8FEB86659FD93 & _ALL)

    kind = rest & 0xFFFF
    a, b = end(low, rest >> 32 & 0xFFFF), end(high, rest >> 16 & 0xFFFF)
    moment = _mix(begin + words[2] & _ALL) + gen & _ALL
    halves = [
        _mix(_mix(a ^ words[3]) + _mix(b ^ words[3]) + _mix(moment + kind & _ALL) & _ALL),
        _mix(a + b + (moment ^ kind) & _ALL),
    ]
    text = bytearray(b"C")
    for position in range(1, _UID_DIGITS + 1):
        halves[position % 2], digit = divmod(halves[position % 2], 62)
        text.append(_TEXT[digit])
    return bytes(text)
