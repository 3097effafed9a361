"""Live frames through scapy's sniffing sockets, where there is no AF_PACKET ring.

The same Frames as the ring gives, a frame at a time through Python: some thousand a second, and a
burst that the system's small buffer does not hold is lost. Imports scapy when opened.
"""

from __future__ import annotations

import logging
import os
import select
import struct
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np

from guardian import interfaces
from guardian.const import MAX_FRAME_BYTES, NS
from guardian.errors import CaptureError
from guardian.feed import SPARE_BYTES
from guardian.frames import not_ahead
from guardian.merge import LINK_ETHERNET, LINK_RAW, ROOM
from guardian.tables import Frames

log = logging.getLogger("guardian.capture")

BUFFER_BYTES = 8 << 20
"""Bytes that wait here at most while the pipeline works: as much as the default ring."""
TICK_LAG_NS = 300_000_000
"""How far the clock of an empty batch stays behind the wall clock: BPF devices hand over late."""
STOP_S = 0.2
"""Seconds after which the reading thread sees that it shall stop."""

_SOL_PACKET, _STATISTICS = 263, 6


class Sniffer:
    """Frames of one interface, both directions, while it is up; the same as a Ring's.

    `text` is a filter in tcpdump's words. Raises CaptureError where it cannot be opened. Where the
    kernel has a loopback that passes each frame twice, each comes twice.
    """

    def __init__(
        self,
        interface: str,
        *,
        snaplen: int = MAX_FRAME_BYTES,
        promiscuous: bool = False,
        text: str = "",
    ) -> None:
        self.interface = interface
        self.ahead = 0
        """Frames whose stamp was ahead of the wall clock, and was not believed."""
        if interface not in interfaces.names():
            raise CaptureError(
                f"there is no interface {interface!r}: this machine has "
                f"{', '.join(interfaces.names())}"
            )
        self._snaplen = snaplen
        self._now = self._packets = self._drops = 0
        self._lock = threading.Lock()
        self._waiting: list[tuple[bytes, float]] = []
        self._size = self._lost = 0
        self._fault = ""
        self._stopping = False
        self._socket = _open(interface, promiscuous, text)
        self.link = _link(self._socket)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._thread = threading.Thread(target=self._listen, name=f"sniff {interface}", daemon=True)
        self._thread.start()
        log.warning(
            "%s is read through scapy's sniffer, which loses bursts: use a Linux gateway for more "
            "than a few thousand packets a second",
            interface,
        )

    def fileno(self) -> int:
        """Return what is readable when frames wait."""
        return self._woken

    def filling(self) -> bool:
        """Tell whether a quarter of the buffer waits to be read."""
        return self._size > BUFFER_BYTES // 4

    def read(self, timeout_s: float) -> Frames:
        """Return the frames that came, waiting for some if there are none.

        After timeout_s an empty batch carries the wall clock. Raises CaptureError where the
        interface went away.
        """
        if self._poll.poll(timeout_s * 1_000):
            os.read(self._woken, 4_096)
        with self._lock:
            waiting, self._waiting, self._size = self._waiting, [], 0
        if self._fault and not waiting:
            raise CaptureError(f"{self.interface} cannot be read ({self._fault}): is it up?")
        return self._frames(waiting)

    def _frames(self, waiting: list[tuple[bytes, float]]) -> Frames:
        wall = time.time_ns()
        tick = wall - TICK_LAG_NS
        stamps = np.array([round(moment * NS) for _, moment in waiting], dtype=np.int64)
        ts, ahead = not_ahead(stamps, wall, max(self._now, tick))
        self.ahead += ahead
        self._now = max(self._now, int(ts.max()) if len(ts) else tick)
        kept = [body[: self._snaplen] for body, _ in waiting]
        caplen = np.array([len(body) for body in kept], dtype=np.int64)
        spare = bytes(ROOM)
        data = bytearray().join([part for body in kept for part in (spare, body)])
        data += bytes(SPARE_BYTES)
        return Frames(
            data=np.frombuffer(data, dtype=np.uint8),
            start=np.cumsum(caplen + ROOM) - caplen,
            caplen=caplen,
            wirelen=np.array([len(body) for body, _ in waiting], dtype=np.int64),
            ts=ts,
            link=self.link,
            # The system does not say which checksums its card has yet to fill in: none is judged.
            csum_valid=np.ones(len(ts), dtype=np.bool_),
            now=self._now,
        )

    def _listen(self) -> None:
        """Take frames from the socket until told to stop; runs in a thread of its own."""
        sock = self._socket
        try:
            while not self._stopping:
                for ready in sock.select([sock], STOP_S):
                    _, body, moment = ready.recv_raw(MAX_FRAME_BYTES)
                    if body is not None:
                        self._keep(body, float(moment))
        except Exception as error:  # each system's socket has errors of its own
            self._fault = str(error) or type(error).__name__
            self._tell()

    def _keep(self, body: bytes, moment: float) -> None:
        with self._lock:
            if self._size + len(body) > BUFFER_BYTES:
                self._lost += 1
                return
            self._waiting.append((body, moment))
            self._size += len(body)
        self._tell()

    def _tell(self) -> None:
        with suppress(BlockingIOError):  # full of wakes already
            os.write(self._wake, b"!")

    def restart_clock(self) -> None:
        """Let the clock begin anew: the wall clock was set back."""
        self._now = 0

    def drops(self) -> tuple[int, int]:
        """Return packets seen and packets lost since this was opened, as far as the system says."""
        packets, drops = self._system_counts()
        self._packets, self._drops = self._packets + packets, self._drops + drops
        return self._packets, self._drops + self._lost

    def _system_counts(self) -> tuple[int, int]:
        """Return packets and drops since the last look, where the system tells them."""
        with suppress(AttributeError, OSError, struct.error):
            packed: bytes = self._socket.ins.getsockopt(_SOL_PACKET, _STATISTICS, 8)
            packets, drops = struct.unpack("=II", packed)
            return packets, drops
        return 0, 0

    def close(self) -> None:
        """Give the socket back; may be called twice."""
        if self._stopping:
            return
        self._stopping = True
        self._thread.join(2 * STOP_S)
        self._socket.close()
        os.close(self._woken)
        os.close(self._wake)


def _open(interface: str, promiscuous: bool, text: str) -> Any:
    """Open scapy's listening socket of this system."""
    try:
        import scapy.layers.inet6  # noqa: PLC0415 - 50 MB, and only here; tells the link layers
        from scapy.config import conf  # noqa: PLC0415
    except ImportError as error:
        raise CaptureError(
            f"the sniffer needs scapy ({error.name} is missing): pip install scapy"
        ) from error
    del scapy
    try:
        return conf.L2listen(iface=interface, promisc=promiscuous, filter=text or None)
    except Exception as error:
        if isinstance(error, PermissionError):
            raise CaptureError(
                f"no right to capture on {interface}: run with sudo, or give the user the right "
                "to open packet sockets"
            ) from error
        raise CaptureError(f"{interface} cannot be sniffed: {error}") from error


def _link(sock: Any) -> int:
    """Return the link type of what a socket hands over."""
    from scapy.config import conf  # noqa: PLC0415

    name = sock.LL.__name__ if hasattr(sock, "LL") else sock.guessed_cls.__name__
    if name == "Ether":
        return LINK_ETHERNET
    if name in {"IP", "IPv6"}:
        return LINK_RAW
    return int(conf.l2types.layer2num.get(getattr(sock, "LL", None), LINK_ETHERNET))
