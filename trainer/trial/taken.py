"""One capture or log, parsed once: its slices, its devices, its packets of malice."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardian import capture, simulate
from guardian.addresses import Lan, mac_pack
from guardian.arpwatch import ArpWatch, Finding
from guardian.conns import ConnTable
from guardian.decode import Decoder
from guardian.devices import DeviceTable
from guardian.errors import InputError
from guardian.source import is_log, read_log
from guardian.tables import I64, Arps, Array, Bool, Conns, Packets
from trainer import streams
from trainer.labels import DROP, codes
from trainer.streams import Judge, Stream

_TCP, _UDP = 6, 17


@dataclass(frozen=True)
class Taken:
    """A parsed capture."""

    stream: Stream
    devices: DeviceTable
    """As it stands at the end; a device's first sighting is what it was."""
    arps: tuple[Finding, ...]
    """What its ARP gave away."""
    malice: I64 | None
    """int64[k], rising: the moments of the packets of malicious connections; None for logs."""

    @property
    def lan(self) -> Lan:
        return Lan(self.stream.lan)

    def key(self, device: int) -> str:
        """Return a device's stable key."""
        return self.devices.key(device)


def take(
    path: Path, *, lan: tuple[str, ...] = (), judge: Judge | None = None, infected: str = ""
) -> Taken:
    """Parse a capture or log with its labels, as trainer.streams.read does.

    `infected` is the MAC of a device all of whose packets and ARPs count as malicious, where the
    capture does not say which connections are. Raises InputError where nothing can be read.
    """
    if is_log(path):
        stream = streams.read(path, lan=lan, judge=judge)
        devices = DeviceTable(Lan(lan))
        devices.learn_from_conns(read_log(path, Lan(lan)).conns)
        return Taken(stream, devices, (), None)
    home = Lan(lan)
    devices, table, decoder = DeviceTable(home), ConnTable(home), Decoder(ignore_checksums=True)
    parts: list[tuple[Conns, Array, Array]] = []
    packets: list[Packets] = []
    arps: list[Arps] = []
    watch, found = ArpWatch(), list[Finding]()

    def add(pieces: Conns) -> None:
        if len(pieces):
            parts.append((pieces, *devices.sides(pieces)))

    with suppress(InputError):  # a capture that is cut off gives what came before
        for frames in capture.read_frames(path):
            decoded = decoder.decode(frames)
            devices.step(decoded)
            packets.append(decoded.packets)
            arps.append(decoded.arps)
            found += watch.step(decoded.arps)
            add(table.step(decoded).slices)
    add(table.finish().slices)
    if not packets:
        raise InputError(f"{path} holds no packets: leave it out")
    none = np.zeros(0, dtype=np.int32)
    slices = Conns.concat([p[0] for p in parts])
    stream = Stream(
        path.name,
        slices,
        np.concatenate([none, *(p[1] for p in parts)]),
        np.concatenate([none, *(p[2] for p in parts)]),
        labels(slices, path, judge),
        lan,
    )
    seen = Packets.concat(packets)
    if infected:
        mac = np.uint64(mac_pack(infected))
        asked = Arps.concat(arps)
        malice = [seen.ts[seen.src_mac == mac], asked.ts[asked.src_mac == mac]]
        return Taken(stream, devices, tuple(found), np.sort(np.concatenate(malice)))
    return Taken(stream, devices, tuple(found), _malice(seen, stream))


def labels(slices: Conns, path: Path, judge: Judge | None) -> Array:
    """Return int8[n] from a judge, or from the simulator's labels beside a capture."""
    marks = simulate.labels_path(path)
    if judge is not None:
        return codes(judge(slices))
    if marks.exists():
        return codes(name or DROP for name in simulate.match(slices, simulate.read_labels(marks)))
    return np.full(len(slices), -1, dtype=np.int8)


def _malice(packets: Packets, stream: Stream) -> I64:
    """Return when the packets of malicious connections came, rising."""
    bad = stream.slices.take(np.flatnonzero(stream.label > 0))
    if not len(bad):
        return np.zeros(0, dtype=np.int64)
    ports = np.isin(bad.proto, (_TCP, _UDP))
    wanted = _flow(bad.orig, bad.resp, bad.orig_p * ports, bad.resp_p * ports, bad.proto)
    ports = np.isin(packets.proto, (_TCP, _UDP))
    here = _flow(
        packets.src, packets.dst, packets.sport * ports, packets.dport * ports, packets.proto
    )
    first = int(bad.ts.min())
    hit: Bool = np.isin(here, wanted) & (packets.ts >= first)
    return np.sort(packets.ts[hit])


def _flow(a: Array, b: Array, ap: Array, bp: Array, proto: Array) -> Array:
    """Return one comparable value for each flow, the same in either direction."""
    one = np.column_stack([a, ap.astype(np.uint64)])
    other = np.column_stack([b, bp.astype(np.uint64)])
    swap = np.zeros(len(a), dtype=np.bool_)
    equal = np.ones(len(a), dtype=np.bool_)
    for k in range(3):
        swap |= equal & (one[:, k] > other[:, k])
        equal &= one[:, k] == other[:, k]
    low = np.where(swap[:, None], other, one)
    high = np.where(swap[:, None], one, other)
    rows = np.ascontiguousarray(np.column_stack([low, high, proto.astype(np.uint64)]))
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
