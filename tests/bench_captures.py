"""Captures for the benchmark of the engine, from a seed: `python -m tests.bench_captures -h`.

mixed    a million packets of 20 thousand connections, as of a busy home: web, QUIC, DNS, NTP, ping
synscan  a SYN scan: 500 thousand connections of one packet each
flood    invented sources send one packet each to a device: TCP of any kind, UDP, pings
grown    as many connections as --live says, opened; then the same number of packets at random
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from guardian.simulate import payloads
from tests.bench_pcap import (  # fmt: skip
    BARE,
    F_ACK,
    F_FIN,
    F_PSH,
    F_RST,
    F_SYN,
    ICMP,
    ICMP6,
    STAMPED,
    SYN,
    TCP,
    UDP,
    V4,
    Array,
    Plan,
    ends,
    finished,
    within,
    write,
)

NS = 1_000_000_000
BEGIN = 1_700_000_000 * NS
NAMES = 200

WEB, SILENT, REFUSED, DNS, TIME, QUIC, PING = range(7)
SHARES = (0.55, 0.015, 0.015, 0.31, 0.03, 0.06, 0.02)
"""Of each kind of connection."""
QUIC_REST = b"\0\0\x44\x9e"
"""No source id, no token, length: an Initial that nobody can open."""
OPENING_S, PAUSE_S, DATA_S = 20, 6, 15
"""`grown`: all first slices are told in the pause, and none is due while the data flow."""
FEW = 1_000
"""Connections of `grown` that go on talking while all others are silent."""


def texts() -> tuple[list[bytes], dict[str, int]]:
    """Return payloads that say something, NAMES of each kind, and where each kind begins."""
    hosts = [f"host{k}.example-{k % 17}.com" for k in range(NAMES)]
    made = {
        "hello": [payloads.client_hello(h, 300 + k) for k, h in enumerate(hosts)],
        "flight": [payloads.server_flight(h, 0) for h in hosts],
        "get": [payloads.http_get(h, f"/{k}", "bench") for k, h in enumerate(hosts)],
        "reply": [payloads.http_reply(5_000 + k) for k in range(NAMES)],
        "ask": [payloads.with_id(payloads.dns_query(h), k) for k, h in enumerate(hosts)],
        "answer": [
            payloads.with_id(payloads.dns_answer(h, addresses=("192.0.2.7",)), k)
            for k, h in enumerate(hosts)
        ],
        "client": [b"\x23" + bytes(39) + k.to_bytes(8, "big") for k in range(NAMES)],
        "server": [b"\x24\2" + bytes(38) + k.to_bytes(8, "big") for k in range(NAMES)],
        "quic": [b"\xc3\0\0\0\1\x08" + k.to_bytes(8, "big") + QUIC_REST for k in range(NAMES)],
    }  # fmt: skip
    where: dict[str, int] = {}
    all_texts: list[bytes] = []
    for name, kind in made.items():
        where[name] = len(all_texts)
        all_texts += kind
    return all_texts, where


def lengths(chance: np.random.Generator, kind: Array, packets: int) -> Array:
    """Return packets by connection: few have most, and the sum is right."""
    n = np.full(len(kind), 2)
    n[kind == SILENT] = 3
    n[kind == PING] = 2 * chance.integers(1, 6, (kind == PING).sum())
    bulk = np.flatnonzero((kind == WEB) | (kind == QUIC))
    drawn = chance.lognormal(0.0, 1.5, len(bulk))
    left = packets - int(n.sum() - n[bulk].sum())
    n[bulk] = 9 + drawn / drawn.sum() * (left - 9 * len(bulk))
    n[bulk[np.argmax(drawn)]] += packets - n.sum()
    return n


def moments(chance: np.random.Generator, kind: Array, n: Array, conn: Array, seconds: int) -> Array:
    """Return the times of packets sorted by connection: bursts and pauses."""
    place, begin = within(conn)
    life = chance.lognormal(np.log(10.0), 1.2, len(kind)) + 0.003 * n
    life = np.minimum(life, 0.5 * seconds)
    born = chance.uniform(0, seconds - life)
    step = chance.exponential(1.0, len(conn)) * np.where(chance.random(len(conn)) < 0.1, 100, 1)
    # Handshakes, ends and answers follow at once; what is even comes each second or half.
    prompt = (place < 3) | (n[conn] - place < 3)
    even = np.select(
        [kind == SILENT, kind == PING], [1.0, 0.5], chance.uniform(0.005, 0.05, len(kind))
    )
    prompt |= np.isin(kind, (SILENT, PING))[conn]
    fixed = np.where(prompt, even[conn], 0.0)
    step[prompt] = 0
    step[place == 0] = fixed[place == 0] = 0
    upto = np.cumsum(step)
    upto -= upto[begin]
    whole = np.maximum(upto[begin + n[conn] - 1], 1e-9)
    fixed = np.cumsum(fixed)
    fixed -= fixed[begin]
    ts: Array = BEGIN + ((born[conn] + upto / whole * life[conn] + fixed) * NS).astype(np.int64)
    return ts


def mixed(packets: int = 1_000_000, conns: int = 20_000, seconds: int = 600, seed: int = 7) -> Plan:
    """Return the plan of a busy home."""
    chance = np.random.default_rng(seed)
    kind = np.repeat(np.arange(len(SHARES)), np.round(np.array(SHARES) * conns).astype(int))
    kind = chance.permutation(np.resize(kind, conns))
    n = lengths(chance, kind, packets)
    conn = np.repeat(np.arange(conns), n)
    place, _ = within(conn)
    left = n[conn] - 1 - place
    of = kind[conn]
    v6 = chance.random(conns) < 0.1
    proto = np.where(kind <= REFUSED, TCP, np.where(kind == PING, np.where(v6, ICMP6, ICMP), UDP))
    two = ends(chance, conns, proto, v6)
    web_port = np.where(chance.random(conns) < 0.15, 80, 443)
    port = np.select([kind <= REFUSED, kind == DNS, kind == TIME, kind == QUIC],
                     [web_port, 53, 123, 443], 0)  # fmt: skip
    two.ports[:, 1] = port

    # Who sends, and how much: most connections fetch, some send, some do both.
    web, quic = of == WEB, of == QUIC
    fetch = chance.choice([0.05, 0.5, 0.95], conns, p=[0.15, 0.25, 0.6])[conn]
    dice = chance.random(len(conn))
    asks = np.where(chance.random(len(conn)) < 0.6, dice > fetch, dice < fetch)
    with_data = asks == (dice > fetch)
    drawn = chance.choice([60, 200, 600, 1_000, 1_428], len(conn), p=[0.3, 0.2, 0.14, 0.11, 0.25])
    drawn -= chance.integers(0, 40, len(conn)) * (drawn < 1_428)
    size = np.where(with_data, drawn, np.where(quic, 30, 0))
    flags = np.where(size > 0, F_ACK | F_PSH, F_ACK)
    asks[place == 0] = True
    pair = (of != WEB) & (of != QUIC)
    asks = np.where(pair, (of == SILENT) | (place % 2 == 0), asks)
    for at, sends, flag in ((0, True, F_SYN), (1, False, F_SYN | F_ACK), (2, True, F_ACK)):
        chosen = web & (place == at)
        asks[chosen], flags[chosen], size[chosen] = sends, flag, 0
    for at, sends in ((3, True), (4, False)):
        asks[web & (place == at)] = sends
    close = chance.choice(3, conns, p=[0.82, 0.15, 0.03])[conn]
    for back, sends, flag in (
        (2, False, F_FIN | F_ACK),
        (1, True, F_FIN | F_ACK),
        (0, False, F_ACK),
    ):
        chosen = web & (close == 0) & (left == back)
        asks[chosen], flags[chosen], size[chosen] = sends, flag, 0
    chosen = web & (close == 1) & (left == 0)
    flags[chosen], size[chosen] = F_RST | F_ACK, 0
    flags[(of == SILENT) | (of == REFUSED)] = F_SYN
    flags[(of == REFUSED) & (place == 1)] = F_RST | F_ACK
    size[(of == SILENT) | (of == REFUSED)] = 0
    size[of == PING] = 56
    asks[quic & (place == 1)] = False

    # What the first payloads say.
    all_texts, where = texts()
    text = np.full(len(conn), -1)
    which = chance.integers(0, NAMES, conns)[conn]
    http = web & (port[conn] == 80)
    for rows, at, name in (
        (web & ~http, 3, "hello"), (web & ~http, 4, "flight"), (http, 3, "get"), (http, 4, "reply"),
        (of == DNS, 0, "ask"), (of == DNS, 1, "answer"), (of == TIME, 0, "client"),
        (of == TIME, 1, "server"), (quic, 0, "quic"), (quic, 1, "quic"),
    ):  # fmt: skip
        chosen = rows & (place == at)
        text[chosen] = where[name] + which[chosen]
    said = text >= 0
    size[said] = np.array([len(t) for t in all_texts])[text[said]]
    size[quic & (place < 2)] = 1_200
    flags[web & said] = F_ACK | F_PSH
    size[quic] = np.minimum(size[quic], 1_350)

    options = np.where(flags & F_SYN, SYN, np.where(flags & F_RST, BARE, STAMPED))
    ts = moments(chance, kind, n, conn, seconds)
    return finished(chance, two, conn, asks, ts, size, flags, options, text, all_texts, 0.003)


def synscan(conns: int = 500_000, seconds: int = 50, seed: int = 8) -> Plan:
    """Return the plan of an infected device that tries the Internet, one packet a peer."""
    chance = np.random.default_rng(seed)
    two = ends(chance, conns, np.full(conns, TCP), np.zeros(conns, dtype=np.bool_))
    two.addresses[:, 0, 1] = V4 | np.uint64(0xC0A8_0142)
    two.macs[:, 0] = 0x0200_0000_0166
    # Each peer once: an odd factor permutes the addresses 32.0.0.0 to 95.255.255.255.
    peers = np.arange(conns, dtype=np.uint64) * np.uint64(0x2545_F491) & np.uint64(0x3FFF_FFFF)
    two.addresses[:, 1, 1] = V4 | (np.uint64(0x2000_0000) + peers)
    two.ports[:, 1] = chance.choice([23, 2323, 22, 80, 8080, 5555, 37215], conns)
    ts = BEGIN + np.sort(chance.integers(0, seconds * NS, conns))
    zeros = np.zeros(conns, dtype=np.int64)
    return finished(
        chance, two, np.arange(conns), np.ones(conns, dtype=np.bool_), ts, zeros,
        np.full(conns, F_SYN), np.full(conns, SYN), zeros - 1, [],
    )  # fmt: skip


def flood(conns: int = 500_000, seconds: int = 50, seed: int = 10) -> Plan:
    """Return the plan of a spoofed flood on one device of the home, one packet a source."""
    plan = synscan(conns, seconds, seed)
    chance = np.random.default_rng(seed)
    two = plan.ends
    two.addresses[:] = two.addresses[:, ::-1]
    two.macs[:] = two.macs[:, ::-1]
    two.ports[:] = np.stack((chance.integers(1_024, 65_536, conns), two.ports[:, 1]), axis=1)
    two.proto[:] = chance.choice([TCP, UDP, ICMP], conns, p=[0.7, 0.25, 0.05])
    tcp = two.proto[plan.conn] == TCP
    kinds = [F_SYN, F_SYN | F_ACK, F_ACK, F_RST, F_ACK | F_PSH]
    plan.flags[:] = np.where(tcp, chance.choice(kinds, conns, p=[0.4, 0.2, 0.2, 0.1, 0.1]), 0)
    plan.options[:] = np.where(plan.flags & F_SYN, SYN, BARE)
    carries = ~tcp | (plan.flags == F_ACK | F_PSH)
    plan.size[:] = np.where(carries, chance.integers(1, 200, conns), 0)
    plan.ack[:] = np.where(plan.flags & F_ACK, plan.seq[::-1], 0)
    return plan


def grown(live: int, packets: int = 500_000, seed: int = 9) -> tuple[Plan, list[slice]]:
    """Return a plan, and which of its packets open the connections, go over all, go over a few.

    Each connection is opened with five packets and has said what it is (TLS); a last packet ends
    the pause. Then as many data packets, whatever `live`, go over all of them at random, and as
    many again over the same number of them.
    """
    chance = np.random.default_rng(seed)
    shown = live + 1  # the last one is a ping that moves the clock
    two = ends(chance, shown, np.full(shown, TCP), np.zeros(shown, dtype=np.bool_))
    two.ports[:, 1] = 443
    two.proto[live] = ICMP
    of_all = chance.integers(0, live, packets)
    of_few = chance.choice(live, FEW, replace=False)[chance.integers(0, FEW, packets)]
    drawn = np.concatenate((of_all, of_few))
    later = chance.integers(1, DATA_S * NS, 2 * packets)
    later += np.repeat([0, DATA_S * NS], packets) + (OPENING_S + PAUSE_S) * NS
    order = np.lexsort((later, drawn))
    conn = np.sort(np.concatenate((np.repeat(np.arange(live), 5), [live], drawn)))
    place, _ = within(conn)
    opening = (place < 5) & (conn < live)
    data = ~opening & (conn < live)
    born = np.sort(chance.integers(0, OPENING_S * NS, shown))
    ts = BEGIN + born[conn] + place * 20_000_000
    ts[-1] = BEGIN + (OPENING_S + PAUSE_S) * NS
    ts[data] = BEGIN + later[order]
    asks = np.where(opening, place % 2 == 0, chance.random(len(conn)) < 0.5)
    flags = np.select([opening & (place == 0), opening & (place == 1), opening & (place == 2)],
                      [F_SYN, F_SYN | F_ACK, F_ACK], F_ACK | F_PSH)  # fmt: skip
    asks[opening & (place == 3)], asks[opening & (place == 4)] = True, False
    all_texts, where = texts()
    text = np.full(len(conn), -1)
    for at, name in ((3, "hello"), (4, "flight")):
        chosen = opening & (place == at)
        text[chosen] = where[name] + conn[chosen] % NAMES
    size = np.where(data, chance.integers(1, 400, len(conn)), 0)
    said = text >= 0
    size[said] = np.array([len(t) for t in all_texts])[text[said]]
    options = np.where(flags & F_SYN, SYN, STAMPED)
    plan = finished(chance, two, conn, asks, ts, size, flags, options, text, all_texts)
    bounds = [0, len(conn) - 2 * packets, len(conn) - packets, len(conn)]
    return plan, [slice(*pair) for pair in pairwise(bounds)]


PLANS: dict[str, Callable[..., Plan]] = {"mixed": mixed, "synscan": synscan, "flood": flood}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=["mixed", "synscan", "flood", "grown"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--live", type=int, default=1_000, help="connections of `grown`")
    parser.add_argument("--apart", action="store_true", help="write `grown` as -open, -all, -few")
    parser.add_argument("--seconds", type=int, help="length of all but `grown`")
    given = parser.parse_args()
    seconds = {} if given.seconds is None else {"seconds": given.seconds}
    if given.kind == "grown":
        plan, parts = grown(given.live)
    else:
        plan, parts = PLANS[given.kind](**seconds), []
    if not given.apart or not parts:
        parts = [slice(None)]
    names = [""] if len(parts) == 1 else ["-open", "-all", "-few"]
    for name, part in zip(names, parts, strict=True):
        path = given.output.with_stem(given.output.stem + name)
        size = write(path, plan, part)
        print(f"{path}: {len(range(len(plan))[part]):,} packets, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
