"""The live ring beside tcpdump, in network namespaces of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from guardian import capture
from guardian.const import NS
from guardian.decode import decode
from guardian.errors import CaptureError
from guardian.ring import Ring
from guardian.tables import Array, Frames, Packets
from tests import wire
from tests.conftest import ROOT
from tests.namespaces import Host, hosts, join

pytestmark = pytest.mark.net

TALK = """
import socket, sys, threading
there, burst = sys.argv[1], int(sys.argv[2])
u = socket.socket(socket.AF_INET6 if ":" in there else socket.AF_INET, socket.SOCK_DGRAM)
for i in range(burst):
    u.sendto(bytes(i % 700), (there, 9))
for _ in range(5):
    s = socket.create_connection((there, 8000), timeout=10)
    s.sendall(b"x" * 300_000)
    s.shutdown(socket.SHUT_WR)
    while s.recv(65536):
        pass
    s.close()
"""
SEND = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(50):
    s.sendto(b"%d" % i, ("127.0.0.1", 9))
"""
TUNNEL = """
import fcntl, os, socket, struct, subprocess, sys
sys.path.insert(0, sys.argv[1])
from guardian.decode import decode
from guardian.ring import Ring
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"tun9", 0x1001))
subprocess.run("ip address add 10.79.0.1/24 dev tun9; ip link set tun9 addrgenmode none up",
               shell=True, check=True)
ring = Ring("tun9")
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("10.79.0.7", 9))
d = decode(ring.read(2))
p = d.packets
print(ring.link, p.proto.tolist(), p.dport.tolist(), p.payload_len.tolist(), d.malformed)
ring.close()
"""
LISTEN = """
import socket, threading
s = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
def serve(c):
    while c.recv(65536):
        pass
    c.sendall(b"y" * 100_000)
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


TAGGED = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind(("right", 0))
for i in range(int(sys.argv[2])):
    s.send(bytes.fromhex(sys.argv[1]) + bytes([i]))
"""


@dataclass(frozen=True)
class Pair:
    """Two hosts; `left` of a and `right` of b are the ends of one cable."""

    a: Host
    b: Host

    def talk(self, there: str, burst: int = 50) -> None:
        self.a.run(sys.executable, "-c", TALK, there, str(burst))


def start(host: Host, *words: str) -> subprocess.Popen[str]:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return host.start(*words, **pipes, text=True, cwd=ROOT)


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Close its input, wait for it, and return what it said."""
    return process.communicate(timeout=20)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tcpdump"):
        pytest.skip("needs root, ip and tcpdump")
    with hosts("a", "b") as (a, b):
        join(a, "left", b, "right")
        for host, side, last in ((a, "left", "1"), (b, "right", "2")):
            host.ip("address", "add", f"10.77.0.{last}/24", "dev", side)
            host.ip("address", "add", f"fd77::{last}/64", "dev", side, "nodad")
        yield Pair(a, b)


@pytest.fixture(scope="module")
def server(pair: Pair) -> None:
    process = start(pair.b, sys.executable, "-c", LISTEN)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


class Reader:
    """A Ring in a namespace, and what it saw."""

    def __init__(self, host: Host, interface: str, out: Path, snaplen: int = 262_144) -> None:
        self._out = out
        self._process = start(
            host, sys.executable, "-m", "tests.ring_reader", interface, str(out), str(snaplen)
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def finish(self) -> tuple[Frames, dict[str, Array]]:
        _, errors = end(self._process)
        assert self._process.returncode == 0, errors
        with np.load(self._out) as saved:
            got = {name: saved[name] for name in saved.files}
        caplen = got["caplen"]
        frames = Frames(
            data=got["data"],
            start=np.cumsum(caplen) - caplen,
            caplen=caplen,
            wirelen=got["wirelen"],
            ts=got["ts"],
            link=1,
            csum_valid=got["csum_valid"],
            now=int(got["nows"][-1]),
        )
        return frames, got


class Tcpdump:
    """tcpdump on the same interface, to the nanosecond."""

    def __init__(self, host: Host, interface: str, out: Path) -> None:
        self._out = out
        self._process = start(
            host, "tcpdump", "-i", interface, "-w", str(out), "-U", "-s", "0", "-B", "16384",
            "--time-stamp-precision=nano", "-Z", "root",
        )  # fmt: skip
        assert self._process.stderr is not None
        while "listening on" not in self._process.stderr.readline():
            pass

    def finish(self) -> Frames:
        time.sleep(1.5)  # tcpdump asks the kernel for what is left once a second
        self._process.terminate()
        _, told = end(self._process)
        assert "0 packets dropped by kernel" in told
        return whole(list(capture.read_frames(self._out)))


def whole(batches: list[Frames]) -> Frames:
    """Return batches as one; a file is read in blocks."""
    offset = np.cumsum([0, *(len(one.data) for one in batches)])
    moved = [one.start + at for one, at in zip(batches, offset, strict=False)]
    names = ("caplen", "wirelen", "ts", "csum_valid")
    columns = {name: np.concatenate([getattr(one, name) for one in batches]) for name in names}
    return Frames(
        data=np.concatenate([one.data for one in batches]),
        start=np.concatenate(moved),
        link=batches[-1].link,
        now=batches[-1].now,
        **columns,
    )


def bodies(frames: Frames) -> list[bytes]:
    return [
        frames.data[start : start + size].tobytes()
        for start, size in zip(frames.start, frames.caplen, strict=True)
    ]


def pick(frames: Frames, which: Array) -> Frames:
    names = ("start", "caplen", "wirelen", "ts", "csum_valid")
    columns = {name: getattr(frames, name)[which] for name in names}
    return Frames(data=frames.data, link=frames.link, now=frames.now, **columns)


def in_order(frames: Frames) -> Frames:
    """By bytes, then time: two processors may fill two sockets in different orders."""
    said = bodies(frames)
    return pick(frames, np.array(sorted(range(len(said)), key=lambda i: (said[i], frames.ts[i]))))


def both(reader: Reader, dump: Tcpdump) -> tuple[Frames, Frames, dict[str, Array]]:
    """What the ring and tcpdump saw in the time of both, in one order."""
    theirs = dump.finish()
    mine, got = reader.finish()
    margin = 1_000_000
    low, high = theirs.ts.min() - margin, theirs.ts.max() + margin
    return in_order(pick(mine, (mine.ts >= low) & (mine.ts <= high))), in_order(theirs), got


def same_packets(mine: Packets, theirs: Packets) -> None:
    for name in ("src_mac", "dst_mac", "src", "dst", "proto", "sport", "dport", "ip_len",
                 "payload_len", "payload_cap", "flags", "seq", "ack", "window"):  # fmt: skip
        assert np.array_equal(getattr(mine, name), getattr(theirs, name)), name


@pytest.mark.parametrize("there", ["10.77.0.2", "fd77::2"])
def test_sees_what_tcpdump_sees(pair: Pair, server: None, tmp_path: Path, there: str) -> None:
    """Same packets, bytes, flags and times in both directions; no drops; checksums as they are."""
    reader = Reader(pair.a, "left", tmp_path / "ring.npz")
    dump = Tcpdump(pair.a, "left", tmp_path / "dump.pcap")
    pair.talk(there, 3_000)
    mine, theirs, got = both(reader, dump)
    packets, drops = got["counts"].tolist()
    assert (packets, drops) == (len(got["ts"]), 0)
    assert len(mine) > 3_050
    assert bodies(mine) == bodies(theirs)
    assert mine.wirelen.tolist() == theirs.wirelen.tolist()
    assert mine.wirelen.max() > 3_000  # super-frames, as the kernel passes them

    live, offline = decode(mine), decode(theirs, ignore_checksums=True)
    same_packets(live.packets, offline.packets)
    # The kernel stamps a frame once for all who listen; TCP segments that came over veth are
    # not stamped, so that each listener reads the clock for itself.
    apart = np.abs(live.packets.ts - offline.packets.ts)
    assert apart[live.packets.proto != 6].max() == 0
    assert apart.max() < 20_000_000
    assert not live.packets.bad_csum.any()
    # Without the kernel's word half of them would look damaged.
    assert decode(theirs).packets.bad_csum.sum() > 100
    flags = live.packets.flags[live.packets.proto == 6]
    assert (flags == 2).sum() == 5
    assert (flags & 1).sum() >= 10

    nows = got["nows"]
    assert (np.diff(nows) >= 0).all()
    assert 0 < got["wall"][0] - nows[-1] < 2 * NS  # the last batch was a tick


def test_loopback_frames_come_once(pair: Pair, tmp_path: Path) -> None:
    reader = Reader(pair.b, "lo", tmp_path / "ring.npz")
    pair.b.run(sys.executable, "-c", SEND)
    frames, _ = reader.finish()
    packets = decode(frames).packets
    sent = packets.take(packets.proto == 17)
    said = [
        frames.data[start : start + size].tobytes()
        for start, size in zip(sent.payload_start, sent.payload_cap, strict=True)
    ]
    assert said == [b"%d" % i for i in range(50)]


def test_a_snap_length_cuts_frames(pair: Pair, server: None, tmp_path: Path) -> None:
    reader = Reader(pair.a, "left", tmp_path / "ring.npz", 96)
    pair.talk("10.77.0.2")
    frames, _ = reader.finish()
    assert frames.caplen.max() == 96
    assert frames.wirelen.max() > 3_000
    assert decode(frames).malformed == 0


def test_a_vlan_tag_is_out_of_the_frame(pair: Pair, tmp_path: Path) -> None:
    """tcpdump puts the tag back in, the ring leaves it out: the packets are the same."""
    reader = Reader(pair.a, "left", tmp_path / "ring.npz")
    dump = Tcpdump(pair.a, "left", tmp_path / "dump.pcap")
    frame = wire.ether(b"\0\5\x08\0" + wire.ip4(wire.udp(b"tagged"), 17), 0x8100)
    pair.b.run(sys.executable, "-c", TAGGED, frame.hex(), "20")
    mine, theirs, _ = both(reader, dump)
    mine = pick(mine, np.array([b"tagged" in body for body in bodies(mine)]))
    theirs = pick(theirs, np.array([b"tagged" in body for body in bodies(theirs)]))
    assert len(mine) == 20
    assert (theirs.caplen - mine.caplen).tolist() == [4] * 20
    same_packets(decode(mine).packets, decode(theirs).packets)


def test_an_interface_that_goes_and_comes(pair: Pair, server: None, tmp_path: Path) -> None:
    reader = Reader(pair.a, "left", tmp_path / "ring.npz")
    pair.a.ip("link", "set", "left", "down")
    assert reader.line() == "lost left is down: `ip link set left up`"
    pair.a.ip("link", "set", "left", "up")
    assert reader.line() == "back"
    pair.talk("10.77.0.2")
    frames, _ = reader.finish()
    assert len(decode(frames).packets) > 50


def test_a_filter_in_the_kernel(pair: Pair, server: None, tmp_path: Path) -> None:
    """A program as `tcpdump -ddd` prints it lets UDP alone through."""
    told = subprocess.run(
        ["tcpdump", "-ddd", "-y", "EN10MB", "udp"], capture_output=True, text=True, check=True
    ).stdout
    program = [tuple(map(int, line.split())) for line in told.splitlines()[1:]]
    script = (
        "import sys, json; from guardian.ring import Ring; from guardian.decode import decode\n"
        "ring = Ring('left', program=json.loads(sys.argv[1])); print('ready', flush=True)\n"
        "sys.stdin.read(); frames = ring.read(1)\n"
        "print(sorted(set(decode(frames).packets.proto.tolist())), len(frames)); ring.close()"
    )
    process = start(pair.a, sys.executable, "-c", script, json.dumps(program))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    pair.talk("10.77.0.2", 40)
    time.sleep(0.3)
    said, errors = end(process)
    assert said == "[17] 40\n", errors


def test_a_tunnel_has_no_link_layer(pair: Pair) -> None:
    """tun, WireGuard, PPP: frames begin with the IP header."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("this kernel has no tun devices")
    said = pair.b.run(sys.executable, "-c", TUNNEL, str(ROOT))
    assert said == "101 [17] [9] [5] 0\n"


def test_no_frame_is_copied_by_itself() -> None:
    """The frames of a read lie in one buffer as the kernel laid them, its headers in between."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with Ring("lo", ring_bytes=1 << 20) as ring, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        for i in range(200):
            sock.sendto(bytes(i), sock.getsockname())
        until = time.monotonic() + 10
        batches: list[Frames] = []
        while sum(map(len, batches)) < 200 and time.monotonic() < until:
            batches.append(ring.read(1.0))
    frames = max(batches, key=len)
    assert len(frames) > 50
    assert (np.diff(frames.start) >= frames.caplen[:-1] + 68).all()  # tpacket3_hdr, sockaddr_ll
    assert len(frames.data) < frames.start[-1] + frames.caplen[-1] + 1_024


def test_missing_interface() -> None:
    for name in ("guard-none", "", "x" * 40):
        with pytest.raises(CaptureError, match=r"there is no interface .*this machine has .*lo"):
            Ring(name)


def test_no_rights() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give its rights away")
    os.seteuid(65_534)
    try:
        with pytest.raises(CaptureError, match=r"CAP_NET_RAW.*systemd.*sudo.*setcap"):
            Ring("lo")
    finally:
        os.seteuid(0)


def test_close_twice() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    ring = Ring("lo", ring_bytes=1 << 20)
    ring.close()
    ring.close()
