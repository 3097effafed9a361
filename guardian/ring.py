"""Live frames from an AF_PACKET ring (TPACKET_V3), in pure Python.

The kernel writes frames into blocks of a shared memory and hands over a whole
block when it is full or old. A block is copied out in one piece and given back
at once; its frame headers are walked once for their offsets, and no frame is
copied by itself. See packet(7) and the kernel's
Documentation/networking/packet_mmap.rst for the layouts.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import select
import socket
import struct
import threading
import time

import numpy as np

from guardian import bpf, interfaces
from guardian.const import MAX_FRAME_BYTES, NS
from guardian.errors import CaptureError
from guardian.feed import SPARE_BYTES
from guardian.frames import not_ahead, words_at
from guardian.merge import LINK_ETHERNET, LINK_RAW
from guardian.tables import I64, U8, Frames

RING_BYTES = 8 << 20
"""Memory shared with the kernel: half a second of a full 100 Mbit/s line."""

BLOCK_BYTES = 256 << 10
"""Bytes of a block: holds the largest super-frame, and 32 of them make the default ring."""

RETIRE_MS = 100
"""Milliseconds after which the kernel hands over a block that is not full."""

TICK_LAG_NS = 2 * RETIRE_MS * 1_000_000
"""How far the clock of an empty batch stays behind the wall clock."""

READ_BYTES = 4 << 20
"""Bytes copied out in one read at most, so that a flood cannot starve the clock."""

_ETHERNET_HARDWARE, _LOOPBACK_HARDWARE = 1, 772
"""ARPHRD of Ethernet and of loopback, whose frames look the same."""

_ETH_P_ALL = 3
_SOL_PACKET, _ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION = 263, 1, 5, 6, 10
_FANOUT, _FANOUT_HASH = 18, 0
_TPACKET_V3, _MR_PROMISC = 2, 1
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS = 26, 35
_SIOCGIFHWADDR = 0x8927
_OUTGOING = 4

_STATUS_AT, _COUNT_AT, _USED_AT = 8, 12, 20
"""Offsets in a block's header: who owns it, number of frames (then the first), bytes used."""
_USER, _KERNEL = 1, 0
_CSUM_NOT_READY, _CSUM_VALID = 1 << 3, 1 << 7
_MAC_AT = 24
"""Offset of the offset of the frame itself."""
_PACKET_TYPE_AT = 48 + 10
"""Offset of the packet type (to us, outgoing ...) from a frame's header."""


class Ring:
    """Frames of one interface, both directions, while it is up.

    `snaplen` cuts frames; `program` is a compiled filter (guardian.bpf), whose return values then
    are the snap length. Rings with the same `fanout` share the interface's flows: each packet comes
    to one of them, those of a flow in both directions to the same one. Raises CaptureError where
    the interface is missing, the rights are, or the system has no such ring.

    A VLAN tag that the kernel took off (it takes the outermost) stays off: the frame reads as it
    would on the VLAN's own interface.
    """

    def __init__(
        self,
        interface: str,
        *,
        ring_bytes: int = RING_BYTES,
        snaplen: int = MAX_FRAME_BYTES,
        promiscuous: bool = False,
        program: bpf.Program | None = None,
        fanout: int = 0,
    ) -> None:
        self.interface = interface
        self.ahead = 0
        """Frames whose stamp was ahead of the wall clock, and was not believed."""
        self._packets = self._drops = 0
        self._next = self._now = 0
        self._fence = threading.Lock()
        self._blocks = max(2, ring_bytes // BLOCK_BYTES)
        self.link = LINK_ETHERNET if is_ethernet(interface) else LINK_RAW
        self._loopback = _hardware(interface) == _LOOPBACK_HARDWARE
        self._socket = _open(interface, self.link)
        try:
            self._set_up(promiscuous, program or bpf.whole(min(snaplen, MAX_FRAME_BYTES)), fanout)
        except CaptureError:
            self._socket.close()
            raise
        except OSError as error:
            self._socket.close()
            raise CaptureError(
                f"{interface} cannot be captured ({error.strerror}): the kernel must allow "
                f"AF_PACKET rings and {ring_bytes >> 20} MiB of memory for one"
            ) from error
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN | select.POLLERR)

    def _set_up(self, promiscuous: bool, program: bpf.Program, fanout: int) -> None:
        sock = self._socket
        sock.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
        # Frames are stamped where they arrive, not where they enter the ring.
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        # A member of a group would see all frames until it has joined: until then it sees none.
        self.set_filter(bpf.NOTHING if fanout else program)
        frame = 2048  # no meaning with this version, but it must divide the block
        ring = (BLOCK_BYTES, self._blocks, frame, self._blocks * BLOCK_BYTES // frame)
        sock.setsockopt(_SOL_PACKET, _RX_RING, struct.pack("=7I", *ring, RETIRE_MS, 0, 0))
        self._map = mmap.mmap(sock.fileno(), self._blocks * BLOCK_BYTES)
        self._ring: U8 = np.frombuffer(self._map, dtype=np.uint8)
        try:
            sock.bind((self.interface, _ETH_P_ALL))
            if fanout:
                self._join(fanout)
                self.set_filter(program)
            if promiscuous:
                index = socket.if_nametoindex(self.interface)
                request = struct.pack("=iHH8s", index, _MR_PROMISC, 0, b"")
                sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
        except (OSError, CaptureError):
            self._unmap()
            raise

    def set_filter(self, program: bpf.Program) -> None:
        """Let the kernel use another filter from the next frame on."""
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
        held = np.frombuffer(code, dtype=np.uint8)
        address = held.__array_interface__["data"][0]
        self._socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), address)
        )

    def _join(self, group: int) -> None:
        try:
            # Fragments are not put together: that would change what is counted.
            self._socket.setsockopt(_SOL_PACKET, _FANOUT, group | _FANOUT_HASH << 16)
        except OSError as error:
            raise CaptureError(
                f"{self.interface} cannot join fanout group {group} ({error.strerror}): where "
                "another program uses this number, set another [capture] fanout"
            ) from error

    def fileno(self) -> int:
        """The socket, readable when a block is ready."""
        return self._socket.fileno()

    def filling(self) -> bool:
        """Tell whether a quarter of the ring waits to be read."""
        return self._mine((self._next + self._blocks // 4) % self._blocks * BLOCK_BYTES)

    def read(self, timeout_s: float) -> Frames:
        """Return the frames that are ready, waiting for some if there are none.

        After timeout_s an empty batch carries the wall clock. Raises CaptureError where the
        interface went down or away; a new Ring may be tried later.
        """
        if not self._mine(self._next * BLOCK_BYTES):
            for _, event in self._poll.poll(timeout_s * 1_000):
                if event & ~select.POLLIN:
                    self._explain()
        ready: list[tuple[int, int, int]] = []
        heads, size = [np.zeros(0, dtype=np.int64)], 0
        while size < READ_BYTES and len(ready) < self._blocks:
            at = (self._next + len(ready)) % self._blocks * BLOCK_BYTES
            if not self._mine(at):
                break
            heads.append(_walk(self._map, at) - at + size)
            used = struct.unpack_from("=I", self._map, at + _USED_AT)[0]
            ready.append((at, size, used))
            size += used
        data = np.empty(size + SPARE_BYTES, dtype=np.uint8)
        data[size:] = 0
        for at, low, used in ready:
            data[low : low + used] = self._ring[at : at + used]
        self._give_back(len(ready))
        return self._frames(data, np.concatenate(heads))

    def _mine(self, at: int) -> bool:
        """The block at an offset of the ring is ours to read."""
        return bool(struct.unpack_from("=I", self._map, at + _STATUS_AT)[0] & _USER)

    def _give_back(self, blocks: int) -> None:
        # The kernel may write as soon as the status says so: on processors that reorder memory
        # (ARM), what was read must have been read before. A lock taken and released twice is a
        # full fence.
        for _ in range(2):
            with self._fence:
                pass
        for _ in range(blocks):
            struct.pack_into("=I", self._map, self._next * BLOCK_BYTES + _STATUS_AT, _KERNEL)
            self._next = (self._next + 1) % self._blocks

    def _frames(self, data: U8, heads: I64) -> Frames:
        if self._loopback:
            # Each frame passes twice here, out and in again: the way in is kept.
            heads = heads[data[heads + _PACKET_TYPE_AT] != _OUTGOING]
        words = words_at(data, heads, 28, "=u4")
        wall = time.time_ns()
        # A frame may still wait in a block that is not handed over: the tick stays behind it.
        tick = wall - TICK_LAG_NS
        stamps = words[1].astype(np.int64) * NS + words[2]
        ts, ahead = not_ahead(stamps, wall, max(self._now, tick))
        self.ahead += ahead
        clock = int(ts.max()) if len(ts) else tick
        self._now = max(self._now, clock)
        return Frames(
            data=data,
            start=heads + words_at(data, heads + _MAC_AT, 2, "=u2")[0],
            caplen=words[3].astype(np.int64),
            wirelen=words[4].astype(np.int64),
            ts=ts,
            link=self.link,
            csum_valid=words[5] & (_CSUM_NOT_READY | _CSUM_VALID) != 0,
            now=self._now,
        )

    def restart_clock(self) -> None:
        """Let the clock begin anew: the wall clock was set back."""
        self._now = 0

    def drops(self) -> tuple[int, int]:
        """Return packets seen and packets dropped by the kernel since this ring was opened."""
        # The kernel's counts start again at each look.
        packed = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12)
        packets, drops, _ = struct.unpack("=III", packed)
        self._packets += packets
        self._drops += drops
        return self._packets, self._drops

    def _explain(self) -> None:
        """Raise for the socket's pending error, if it has one."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ENETDOWN:
            raise CaptureError(f"{self.interface} is down: `ip link set {self.interface} up`")
        if code:
            raise CaptureError(
                f"{self.interface} cannot be read: {errno.errorcode.get(code, code)}"
            )

    def _unmap(self) -> None:
        self._ring = np.zeros(0, dtype=np.uint8)
        self._map.close()

    def close(self) -> None:
        """Give the ring back; may be called twice."""
        if self._socket.fileno() >= 0:
            self._unmap()
            self._socket.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _walk(ring: mmap.mmap, at: int) -> I64:
    """Return the offsets of the frame headers in the block at an offset of the ring."""
    count, first = struct.unpack_from("=II", ring, at + _COUNT_AT)
    step = struct.Struct("=I").unpack_from
    offsets: list[int] = []
    append = offsets.append
    at += first
    for _ in range(count):
        append(at)
        at += step(ring, at)[0]
    return np.array(offsets, dtype=np.int64)


def is_ethernet(interface: str) -> bool:
    """Tell whether frames begin with an Ethernet header; raises CaptureError where it is missing.

    Elsewhere (tun, WireGuard, PPP) they begin with the IP header.
    """
    return _hardware(interface) in (_ETHERNET_HARDWARE, _LOOPBACK_HARDWARE)


def _hardware(interface: str) -> int:
    """Return the ARPHRD number of an interface; raises CaptureError where it is missing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("256s", interface.encode()[:255])  # too long is missing
        try:
            answer = fcntl.ioctl(sock.fileno(), _SIOCGIFHWADDR, request)
        except OSError as error:
            raise CaptureError(
                f"there is no interface {interface!r}: this machine has "
                f"{', '.join(interfaces.names())}"
            ) from error
    return int(struct.unpack_from("=H", answer, 16)[0])


def _open(interface: str, link: int) -> socket.socket:
    """Open the socket; where frames are no Ethernet, it cuts their link layer off."""
    if not hasattr(socket, "AF_PACKET"):
        raise CaptureError("live capture needs Linux (AF_PACKET): replay a pcap instead")
    kind = socket.SOCK_RAW if link == LINK_ETHERNET else socket.SOCK_DGRAM
    try:
        # Without a protocol nothing arrives before the ring is there.
        return socket.socket(socket.AF_PACKET, kind, 0)
    except PermissionError:
        raise CaptureError(
            f"no right to capture on {interface}: it takes CAP_NET_RAW; use the systemd unit, "
            "or run with sudo, or `sudo setcap cap_net_raw+ep` on the Python that runs guardian"
        ) from None
    except OSError as error:
        raise CaptureError(
            f"{interface} cannot be captured: this system has no packet sockets ({error.strerror})"
        ) from error
