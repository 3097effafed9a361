"""The tables that the stages pass to each other: columns, not objects.

Each is a frozen dataclass of numpy arrays of equal length n (the first axis).
docs/data-model.md explains every column. Two rules hold everywhere:

* times are int64 nanoseconds since the epoch (UTC), spans are float64 seconds;
* an address is uint64[2], high half first; IPv4 is written as ::ffff:a.b.c.d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from guardian.const import HISTORY_BYTES, HOST_BYTES, PARENTS_BYTES, SERVICE_BYTES, UID_BYTES

Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.bytes_]

T = TypeVar("T", bound="Table")


def col(dtype: str, width: int = 0) -> Any:
    """Declare a column: its numpy dtype, and its second axis where it has one."""
    return field(metadata={"dtype": dtype, "width": width})


@dataclass(frozen=True)
class Table:
    """Equal-length columns with the few operations that every stage needs."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    @classmethod
    def blank(cls: type[T], n: int) -> T:
        """Return n rows of zeros (empty strings, false)."""
        columns = {}
        for f in fields(cls):
            width = f.metadata["width"]
            shape = (n, width) if width else (n,)
            columns[f.name] = np.zeros(shape, dtype=f.metadata["dtype"])
        return cls(**columns)

    @classmethod
    def empty(cls: type[T]) -> T:
        return cls.blank(0)

    def take(self: T, index: Array | slice) -> T:
        """Return the rows that a boolean mask, an index array or a slice picks."""
        if isinstance(index, slice):
            return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})
        # A mask is searched once for all columns; take() is many times as fast as [] on pairs.
        rows = np.flatnonzero(index) if index.dtype == np.bool_ else index
        return type(self)(
            **{f.name: getattr(self, f.name).take(rows, axis=0) for f in fields(self)}
        )

    @classmethod
    def concat(cls: type[T], parts: Sequence[T]) -> T:
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty()
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


@dataclass(frozen=True)
class Frames:
    """A batch of captured frames in one buffer; not a Table, since the buffer is shared."""

    data: U8
    """uint8[bytes]: the buffer that holds all frames (a file's block, a ring's block)."""
    start: I64
    """int64[n]: offset in data of each frame's first byte."""
    caplen: I64
    """int64[n]: bytes captured; start + caplen <= len(data)."""
    wirelen: I64
    """int64[n]: bytes on the wire (live: a GSO/GRO super-frame's real size)."""
    ts: I64
    """int64[n]: nanoseconds since the epoch, in order of arrival (not always rising)."""
    link: int
    """Link type (DLT) of all frames in the batch."""
    csum_valid: Bool
    """bool[n]: the kernel vouches for the checksums (CSUMNOTREADY / GRO); false in files."""
    now: int
    """The clock, ns: the latest packet time so far, live the wall clock (an empty batch ticks)."""

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True)
class Packets(Table):
    """The IP packets of a batch, one row each, in order of arrival; what came through a tunnel
    has its own row after that of its carrier, and what came in fragments one row in all."""

    ts: I64 = col("i8")
    frame: I64 = col("i8")
    """Index into the batch's Frames."""
    src_mac: U64 = col("u8")
    """48 bits; 0 where the link layer has none."""
    dst_mac: U64 = col("u8")
    src: U64 = col("u8", 2)
    dst: U64 = col("u8", 2)
    v6: Bool = col("?")
    proto: U8 = col("u1")
    """IP protocol after extension headers: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6; others as they are."""
    sport: U16 = col("u2")
    """ICMP: the type. Other protocols without ports: 0."""
    dport: U16 = col("u2")
    """ICMP: the code."""
    ip_len: I64 = col("i8")
    """Bytes from the IP header on, as the IP header says (a super-frame: its real size)."""
    payload_len: I64 = col("i8")
    """Bytes above the transport header, by the lengths in the headers."""
    payload_start: I64 = col("i8")
    """Offset in Frames.data of the first payload byte."""
    payload_cap: I64 = col("i8")
    """Payload bytes captured; at most payload_len."""
    flags: U8 = col("u1")
    """TCP flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128."""
    seq: U32 = col("u4")
    ack: U32 = col("u4")
    window: U16 = col("u2")
    bad_csum: Bool = col("?")
    """The transport checksum is wrong; not judged where caplen cuts the packet, nor where
    csum_valid. Never set under --ignore-checksums."""
    icmp_id: U16 = col("u2")
    """Identifier of an ICMP echo; 0 for others."""
    carrier: I64 = col("i8")
    """Row in this table, counted from 1, of the packet within which this one came through a tunnel;
    0 for none. It stands before this one and has its time; frame and MACs are those of the
    outermost."""
    carries: U8 = col("u1")
    """What the payload is as a tunnel (tunnels.IP_TUNNEL, VXLAN, ...), 0 for none that we know."""


@dataclass(frozen=True)
class Arps(Table):
    """ARP packets for IPv4 over Ethernet."""

    ts: I64 = col("i8")
    op: U16 = col("u2")
    src_mac: U64 = col("u8")
    """Sender hardware address as the ARP body says."""
    src: U64 = col("u8", 2)
    dst: U64 = col("u8", 2)


@dataclass(frozen=True)
class Decoded:
    """What decode made of a batch of frames."""

    packets: Packets
    arps: Arps
    data: U8
    """Frames.data, for those who look into payloads; behind it lie datagrams that came in
    fragments."""
    not_understood: dict[str, int]
    """Frames that are no IP packet we decode, counted by kind (a fixed, small set of names)."""
    malformed: int
    """Frames whose headers contradict themselves or their length."""
    now: int

    @property
    def bad_checksums(self) -> int:
        """Packets that do not count, for the checksum of their IPv4 or transport header."""
        dropped = self.not_understood.get("ip checksum", 0)
        return dropped + int(np.count_nonzero(self.packets.bad_csum))


CONN_STATES = (
    "OTH", "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR",
)  # fmt: skip
"""Zeek's conn_state values; Conns.conn_state is an index into this."""

PROTO_NAMES = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
"""Zeek's names of transport protocols; all others are unknown_transport."""


@dataclass(frozen=True)
class Conns(Table):
    """Connection records and slices: Zeek's conn.log columns, and what a slice adds.

    A *record* is a whole finished connection. A *slice* is what a connection did since it last
    spoke: amounts (duration, bytes, packets, missed bytes) are those of the slice; identity,
    state, history and service are those of the connection so far. A connection that is over
    within its first five seconds has one slice, equal to its record.
    """

    uid: Bytes = col(f"S{UID_BYTES}")
    ts: I64 = col("i8")
    """First packet of the connection (of the whole connection in a slice, too)."""
    orig: U64 = col("u8", 2)
    resp: U64 = col("u8", 2)
    orig_p: U16 = col("u2")
    resp_p: U16 = col("u2")
    proto: U8 = col("u1")
    service: Bytes = col(f"S{SERVICE_BYTES}")
    """Zeek's service, comma-separated, empty when unknown."""
    duration: F64 = col("f8")
    """Seconds between first and last packet; Zeek's unset is 0."""
    orig_bytes: I64 = col("i8")
    """Payload bytes, TCP by sequence numbers; -1 is Zeek's unset (a record of duration 0)."""
    resp_bytes: I64 = col("i8")
    conn_state: U8 = col("u1")
    local_orig: Bool = col("?")
    local_resp: Bool = col("?")
    missed_bytes: I64 = col("i8")
    history: Bytes = col(f"S{HISTORY_BYTES}")
    orig_pkts: I64 = col("i8")
    orig_ip_bytes: I64 = col("i8")
    resp_pkts: I64 = col("i8")
    resp_ip_bytes: I64 = col("i8")
    orig_mac: U64 = col("u8")
    """MAC that sent the originator's packets; 0 where not seen (Zeek logs)."""
    resp_mac: U64 = col("u8")
    host: Bytes = col(f"S{HOST_BYTES}")
    """TLS server name, HTTP host or DNS query: printable ASCII only, for explanations."""
    tunnel_parents: Bytes = col(f"S{PARENTS_BYTES}")
    """uids of the connections through which it came, comma-separated; in records alone. GRE and IP
    in IP have no record of their own, as in Zeek."""
    piece: I32 = col("i4")
    """Number of the slice within its connection, from 0; a record has 0."""
    final: Bool = col("?")
    """The connection is over (always true in a record)."""
    age: F64 = col("f8")
    """Seconds from the connection's first packet to the slice's last."""
    refused: Bool = col("?")
    """An MQTT broker refused the login. Zeek has no such column; false where nobody saw."""
    told: I64 = col("i8")
    """The moment of packet time at which this row was due: rows come out in this order (then by
    ts, then by uid), however the input was cut into batches."""


@dataclass(frozen=True)
class FeatureRows(Table):
    """Features of slices, one row per slice and home device (a local connection counts twice)."""

    x: F32 = col("f4")
    """float32[n, F]: raw values, in the order of features.NAMES; see docs/features.md."""
    device: I32 = col("i4")
    """Index into the DeviceTable."""
    row: I64 = col("i8")
    """Index into the slices of this step."""
    outbound: Bool = col("?")
    """The device is the originator."""


@dataclass(frozen=True)
class Sequences(Table):
    """The last T feature rows of a device, up to and including one new slice."""

    x: F32 = col("f4")
    """float32[m, T, F], raw; left-padded with zeros."""
    length: I32 = col("i4")
    """How many of the T steps are real (the last ones)."""
    device: I32 = col("i4")
    row: I64 = col("i8")
    outbound: Bool = col("?")


@dataclass(frozen=True)
class Scores(Table):
    """What the models say of each sequence; same order as the Sequences."""

    anomaly: F32 = col("f4")
    """Reconstruction error over its threshold: 1.0 is the line."""
    threat: F32 = col("f4")
    """Probability of malice, 0 to 1: one minus that of benign."""
    label: U8 = col("u1")
    """Most probable class, an index into the bundle's classes."""
    probability: F32 = col("f4")
    """float32[m, classes]."""
    error: F32 = col("f4")
    """float32[m, F]: squared scaled reconstruction error of the last step, by feature."""
