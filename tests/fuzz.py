"""Mutated real packets through decoding, service detection and the table of connections.

`python -m tests.fuzz --packets 1000000` is the bench's run; tests/test_fuzz.py runs a short one.
Everything follows from the seed. A fault is an AssertionError or any other exception.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guardian import datagrams, quic, service
from guardian.addresses import Lan
from guardian.capture import read_frames
from guardian.conns import EVICT_EVERY, ConnTable
from guardian.const import MAX_CONNS, MAX_FRAGMENTED, NS
from guardian.decode import Decoder
from guardian.reassembly import MAX_HOLES
from guardian.simulate import home, simulate
from guardian.tables import CONN_STATES, I64, Conns, Decoded, Frames, Packets
from guardian.tunnels import IP_TUNNEL
from tests.conftest import ROOT
from tests.quicpackets import sealed

CAPACITIES = (256, 256, MAX_CONNS)
"""Connections that a fuzzed table keeps: mostly few, so that it evicts."""
ROUND = 6_000
"""Packets that go through one table and one decoder."""
BATCHES = (1, 7, 64, 500, 1_500)
FROM_EACH = 300
"""Packets taken of each capture."""
MAX_BYTES = 2_000
"""Bytes kept of a packet; more would only slow the fuzzing down."""
MUTATED = 0.6
"""Share of packets that are changed; the others keep connections going."""
SLOWEST = 5.0
"""Seconds of CPU that a batch may take; the largest takes some 0.05."""
LETTERS = set(b"^SsHhAaDdFfRrCcGgTtWwIiQqXx")
SPANS = (1, NS, 6 * NS, 61 * NS, 3_600 * NS, 86_400 * NS, 86_400 * 365 * NS, 1 << 61)
LATEST = (1 << 32) * NS
"""The last moment that a pcap file can write."""
_WORDS = (0, 1, 2, 4, 0x14, 0x28, 0x45, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)

Sample = list[bytes]


@dataclass
class Count:
    """What went through."""

    packets: int = 0
    mutated: int = 0
    rows: int = 0
    records: int = 0
    evicted: int = 0
    malformed: int = 0
    most_live: int = 0


def packets() -> list[tuple[int, Sample]]:
    """Return what is mutated: real packets, or simulated ones where there are none."""
    found = corpus(Path(os.environ.get("GUARDIAN_DATA", ROOT.parent / "shared" / "data")))
    return found or simulated()


def simulated() -> list[tuple[int, Sample]]:
    """Return the packets of a simulated home's first minutes, cut into samples."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "home.pcap"
        simulate(home("telnet-scan", hours=0.2, at_hours=0.05), path)
        found = [(frames.link, cut(frames)) for frames in read_frames(path, FROM_EACH)]
    return found[:100]


def cut(frames: Frames) -> Sample:
    """Return the bytes of frames, of long ones the beginning."""
    return [
        bytes(frames.data[at : at + min(size, MAX_BYTES)])
        for at, size in zip(frames.start.tolist(), frames.caplen.tolist(), strict=True)
    ]


def corpus(data: Path) -> list[tuple[int, Sample]]:
    """Return (link type, packets in order) of captures of many protocols and link layers."""
    paths = sorted((data / "zeek-parity").glob("*/input.*"))
    paths += sorted((data / "zeek-parity-partial").glob("*/input.*"))
    paths += sorted((data / "protocol-pcaps").glob("*/*.pcap*"))
    found: dict[tuple[str, int], Sample] = {}
    for path in paths:
        if path.suffix not in {".pcap", ".pcapng", ".trace"} or path.stat().st_size > 2_000_000:
            continue
        kept = 0
        for frames in read_frames(path, FROM_EACH):
            found.setdefault((str(path), frames.link), []).extend(cut(frames))
            kept += len(frames)
            if kept >= FROM_EACH:
                break
    return [(link, sample) for (_, link), sample in found.items() if sample]


def mutate(rng: random.Random, packet: bytes, other: bytes) -> bytes:  # noqa: PLR0911
    """Return a packet changed in one of the ways that break parsers."""
    if not packet:
        return other
    data = bytearray(packet)
    upto = min(len(data), rng.choice((40, 60, 120, len(data))))
    at = rng.randrange(upto)
    kind = rng.randrange(8)
    if kind == 0:  # bits
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(upto)] ^= 1 << rng.randrange(8)
        return bytes(data)
    if kind == 1:  # a length, a count, a port: a word at its limits
        width = rng.choice((1, 2, 2, 4))
        word = rng.choice(_WORDS) if rng.random() < 0.7 else len(packet) + rng.randrange(-60, 4)
        data[at : at + width] = (word & (1 << 8 * width) - 1).to_bytes(width, "big")
        return bytes(data)
    if kind == 2:  # cut off
        return packet[:at] if rng.random() < 0.5 else packet[: rng.randrange(len(packet))]
    if kind == 3:  # the head of one, the tail of another
        return packet[:at] + other[min(at, len(other)) :]
    if kind == 4:  # a piece twice, or gone
        end = at + rng.randrange(1, 40)
        middle = packet[at:end] * rng.choice((0, 2, 20))
        return (packet[:at] + middle + packet[end:])[:MAX_BYTES]
    if kind == 5:  # all one byte
        end = at + rng.randrange(1, 60)
        data[at:end] = bytes([rng.choice((0, 0xFF, 0x41, 0x80))]) * (len(data[at:end]))
        return bytes(data)
    if kind == 6:  # a packet inside a packet
        return (packet[:at] + other + packet[at:])[:MAX_BYTES]
    return rng.randbytes(len(packet)) if rng.random() < 0.1 else packet[:at] + packet[at + 1 :]


def series(rng: random.Random, packet: bytes, n: int) -> Sample:
    """Return copies of a packet in which one word counts on: sequence numbers, ports, addresses."""
    at = rng.choice((38, 38, rng.randrange(max(len(packet), 1))))  # TCP's over Ethernet and IPv4
    first, step = int.from_bytes(packet[at : at + 4], "big"), rng.choice((1, 150, 150, 3_000, -150))
    words = [(first + i * step & 0xFFFFFFFF).to_bytes(4, "big") for i in range(n)]
    return [packet[:at] + word + packet[at + 4 :] for word in words]


def moments(rng: random.Random, n: int, wild: bool) -> list[int]:
    """Return times of n packets: small steps, and if wild, leaps to and fro."""
    now = 1_700_000_000 * NS
    out = []
    for i in range(n):
        now += rng.choice((int(wild), 1_000, 1_000_000, 50_000_000))
        if rng.random() < 0.002:
            now += rng.choice((NS, 6 * NS, 61 * NS, 301 * NS))
        ts = now
        if wild and rng.random() < 0.01:
            ts = min(max(ts + rng.choice((-1, 1)) * rng.choice(SPANS), i), LATEST - n * NS)
            if rng.random() < 0.3:
                now = ts  # the clock stays there
        out.append(ts)
    return out


def batches(
    rng: random.Random, samples: list[tuple[int, Sample]], n: int, count: Count
) -> Iterator[Frames]:
    """Yield about n packets of one round, those of a batch from one capture."""
    wild = rng.random() < 0.4
    times = moments(rng, n, wild)
    done = clock = 0
    while done < n:
        link, sample = rng.choice(samples)
        size = min(rng.choice(BATCHES), n - done, len(sample))
        begin = rng.randrange(len(sample) - size + 1)
        chosen = sample[begin : begin + size]
        mutated = MUTATED
        if rng.random() < 0.1:
            size = min(rng.choice((100, 300)), n - done)
            chosen, mutated = series(rng, rng.choice(chosen), size), 0.01
            count.mutated += size
        for i in range(size):
            if rng.random() < mutated:
                chosen[i] = mutate(rng, chosen[i], rng.choice(rng.choice(samples)[1]))
                count.mutated += mutated == MUTATED
        if rng.random() < 0.3:  # out of order
            for _ in range(max(size // 5, 1)):
                a, b = rng.randrange(size), rng.randrange(size)
                chosen[a], chosen[b] = chosen[b], chosen[a]
        ts = np.array(times[done : done + size], dtype=np.int64)
        clock = max(clock, int(ts.max()))
        yield frames_of(rng, chosen, ts, link, clock)
        done += size


def frames_of(rng: random.Random, packets: Sample, ts: I64, link: int, now: int) -> Frames:
    """Return packets as a batch of frames; some say they were longer on the wire."""
    size = np.array([len(p) for p in packets], dtype=np.int64)
    start = np.cumsum(size) - size
    longer = np.array([rng.choice((0, 0, 0, 1, 1_400, 70_000)) for _ in packets], dtype=np.int64)
    data = np.frombuffer(b"".join(packets) or b"\x00", dtype=np.uint8)
    vouched = np.array([rng.random() < 0.1 for _ in packets], dtype=np.bool_)
    return Frames(data, start, size, size + longer, ts, link, vouched, now)


def check_packets(frames: Frames, found: Decoded) -> None:
    """Assert what later stages rely on of decoded packets."""
    p = found.packets
    assert (p.payload_cap >= 0).all()
    assert (p.payload_cap <= p.payload_len).all()
    assert (p.payload_start >= 0).all()
    assert (p.payload_start + p.payload_cap <= len(found.data)).all()
    assert (p.ip_len >= 0).all()
    assert ((p.frame >= 0) & (p.frame < len(frames))).all()


def check_rows(rows: Conns, now: int | None) -> None:
    """Assert what holds for every record and slice."""
    for name in ("orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes", "missed_bytes"):
        assert (getattr(rows, name) >= 0).all(), name
    for name in ("orig_bytes", "resp_bytes"):
        assert (getattr(rows, name) >= -1).all(), name
    for name in ("duration", "age"):
        assert (getattr(rows, name) >= 0).all(), name
        assert np.isfinite(getattr(rows, name)).all(), name
    assert (rows.conn_state < len(CONN_STATES)).all()
    assert (np.diff(rows.told) >= 0).all()
    if now is not None:
        assert (rows.told <= now).all()
    assert set(b"".join(rows.history.tolist())) <= LETTERS
    for text in rows.host.tolist() + rows.service.tolist():
        assert all(33 <= b < 127 for b in text)


def check_table(table: ConnTable) -> None:
    """Assert that the table has not grown past its caps."""
    assert table.live <= table.capacity + EVICT_EVERY
    store = table._store
    assert len(store.due) <= 4 * (table.capacity + EVICT_EVERY)
    assert len(store.holes) <= table.live
    for sides in store.holes.values():
        assert all(len(pieces) <= MAX_HOLES for pieces in sides)
    assert len(store.hellos) <= quic.MAX_WAITING


def check_whole(records: Conns, slices: Conns, packets: int, evicted: int) -> None:
    """Assert that every packet is in one record, and the slices add up to the records.

    Two connections of one key that begin in the same nanosecond may have one uid: where the first
    was evicted, and where times are damaged (which is why moments() repeats none that is wild).
    """
    assert int((records.orig_pkts + records.resp_pkts).sum()) == packets
    assert int((slices.orig_pkts + slices.resp_pkts).sum()) == packets
    for name in ("orig_ip_bytes", "resp_ip_bytes"):
        assert int(getattr(records, name).sum()) == int(getattr(slices, name).sum()), name
    assert len(records) - len(np.unique(records.uid)) <= evicted
    assert np.isin(slices.uid, records.uid).all()


def sniff(rng: random.Random, found: Decoded) -> None:
    """Give payloads to the service detection as another connection's, in any order."""
    p, data = found.packets, found.data
    memory, name, host = 0, b"", b""
    proto, port = rng.choice((6, 17)), rng.choice((0, 21, 25, 53, 80, 110, 143, 389, 445, 6379))
    for i in np.flatnonzero(p.payload_cap > 0)[:20].tolist():
        start = int(p.payload_start[i])
        payload = data[start : start + min(int(p.payload_cap[i]), service.MAX_LOOK)].tobytes()
        asking = rng.random() < 0.6
        if service.hungry_one(memory, asking):
            memory, name, host = service.sniff(memory, asking, proto, port, payload, name, host)
        found_one, named = datagrams.datagram(rng.choice((port, int(p.dport[i]))), asking, payload)
        assert all(33 <= b < 127 for b in name + host + found_one + named)
        if rng.random() < 0.02:
            hello(rng, payload)


def hello(rng: random.Random, payload: bytes) -> None:
    """Give bytes to the search for QUIC's server name: under a right seal, and as a packet."""
    frames = payload[:1_100] if rng.random() < 0.5 else b"\x06\x00\x44\x00" + payload[:1_100]
    version = rng.choice((1, 0x6B3343CF, 0xFF00001D))
    hellos = quic.Hellos()
    for datagram in (sealed(frames, version), payload, mutate(rng, sealed(frames), payload)):
        name, _ = hellos.look((b"", b"", 1, 443), 0, datagram)
        assert len(name) <= quic.MAX_HELLO


def run_round(rng: random.Random, samples: list[tuple[int, Sample]], n: int, count: Count) -> None:
    """Take n packets through one decoder and one table, and check what comes out."""
    decoder = Decoder(ignore_checksums=rng.random() < 0.75)
    seed = rng.getrandbits(32)
    table = ConnTable(Lan(), rng.choice(CAPACITIES), seed, cut_is_gap=rng.random() < 0.5)
    records, slices, good = [], [], 0
    whole: list[Decoded] = []
    twice = rng.random() < 0.2
    for frames in batches(rng, samples, n, count):
        begun = time.process_time()
        found = decoder.decode(frames)
        check_packets(frames, found)
        told = table.step(found)
        assert time.process_time() - begun < SLOWEST
        check_rows(told.records, found.now)
        check_rows(told.slices, found.now)
        check_table(table)
        assert decoder.waiting <= 4 * MAX_FRAGMENTED
        records.append(told.records)
        slices.append(told.slices)
        # What only carries others by IP is no connection.
        good += int((~found.packets.bad_csum & (found.packets.carries != IP_TUNNEL)).sum())
        sniff(rng, found)
        if twice:
            whole.append(found)
        count.packets += len(frames)
        count.rows += len(found.packets)
        count.malformed += found.malformed
        count.most_live = max(count.most_live, table.live)
    told = table.finish()
    assert table.live == 0
    check_rows(told.records, None)
    check_rows(told.slices, None)
    records.append(told.records)
    slices.append(told.slices)
    check_whole(Conns.concat(records), Conns.concat(slices), good, table.evicted)
    count.records += sum(map(len, records))
    count.evicted += table.evicted
    if twice:
        again = replay(rng, whole, seed, table)
        assert sorted(Conns.concat(records).uid.tolist()) == sorted(again.uid.tolist())
        same_rows(Conns.concat(records), again)


def replay(rng: random.Random, whole: list[Decoded], seed: int, like: ConnTable) -> Conns:
    """Return the records of the same packets in other batches."""
    table = ConnTable(Lan(), like.capacity, seed, cut_is_gap=like._cut_is_gap)
    out = []
    for found in whole:
        p, now = found.packets, table._now
        outermost = [0, *np.flatnonzero(p.carrier == 0).tolist(), len(p)]
        border = rng.choice(outermost)  # what a tunnel carries stays with its carrier
        for part in (slice(0, border), slice(border, None)):
            rows = p.take(part)
            if part.start:
                carrier = np.where(rows.carrier > 0, rows.carrier - border, 0)
                rows = replace(rows, carrier=carrier)
            now = max([now, *rows.ts.tolist()])
            out.append(table.step(replace(found, packets=rows, now=now)).records)
        out.append(table.step(replace(found, packets=Packets.empty())).records)
    out.append(table.finish().records)
    return Conns.concat(out)


def same_rows(a: Conns, b: Conns) -> None:
    """Assert that two runs gave the same records in the same order."""
    for name in ("uid", "ts", "history", "service", "host", "orig_pkts", "resp_bytes", "told"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def fuzz(samples: list[tuple[int, Sample]], mutated: int, seed: int, tell: bool = False) -> Count:
    """Run rounds until so many mutated packets went through."""
    count = Count()
    number, next_line = 0, 100_000
    while count.mutated < mutated:
        rng = random.Random(f"{seed}/{number}")
        try:
            run_round(rng, samples, ROUND, count)
        except Exception as error:
            raise AssertionError(f"round {seed}/{number}: {error!r}") from error
        number += 1
        if tell and count.mutated >= next_line:
            print(f"{count.mutated} mutated, {memory_mib()} MiB", file=sys.stderr)
            next_line += 100_000
    return count


def memory_mib() -> int:
    """Return the most memory that this process held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=10_000, help="mutated packets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth", type=int, default=64, help="MiB of growth allowed")
    given = parser.parse_args()
    samples = packets()
    fuzz(samples, min(given.packets, 50_000), given.seed)  # buffers grow to their size
    before, begun = memory_mib(), time.perf_counter()
    count = fuzz(samples, given.packets, given.seed + 1, tell=True)
    grown = memory_mib() - before
    print(f"{count} in {time.perf_counter() - begun:.0f} s, memory grew by {grown} MiB")
    if grown > given.growth:
        sys.exit(f"memory grew by {grown} MiB, more than {given.growth}")


if __name__ == "__main__":
    main()
