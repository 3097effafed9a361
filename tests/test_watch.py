"""Live capture as the daemon has it: several interfaces, one clock."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardian import interfaces, live
from guardian import ring as rings
from guardian.addresses import Lan
from guardian.config import CaptureSettings
from guardian.conns import ConnTable
from guardian.const import NS
from guardian.decode import decode
from guardian.frames import not_ahead
from guardian.live import LiveCapture
from guardian.ring import Ring
from guardian.tables import Frames
from tests import wire
from tests.conftest import ROOT
from tests.namespaces import Host, hosts, join
from tests.watching import FLOWS, PING, Gateway, Reader, marked, numbers, order, send, two_lans

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to capture and to make networks"),
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with two_lans() as made:
        yield made


def test_two_interfaces_are_one_stream_in_order_of_time(gateway: Gateway, tmp_path: Path) -> None:
    reader = Reader(gateway.box, tmp_path, "lan1", "lan2")
    both = [
        send(gateway.one, "eth0", marked(b"ONE."), 300, 0.003),
        send(gateway.two, "eth0", marked(b"TWO."), 300, 0.003),
    ]
    for sender in both:
        assert sender.wait(20) == 0
    frames, got, _ = reader.finish()
    assert numbers(frames, b"ONE.") == numbers(frames, b"TWO.") == list(range(300))
    # But for the little that two processors put into one ring in another order.
    assert np.diff(frames.ts).min() > -20_000_000
    assert (np.diff(frames.ts) < 0).mean() < 0.05
    turns = order(frames, b"ONE.", b"TWO.")
    assert np.count_nonzero(np.diff(turns)) > 100  # they really are interleaved
    assert got["drops"].tolist() == [0, 0]


def test_one_interface_down_does_not_stop_the_other(gateway: Gateway, tmp_path: Path) -> None:
    reader = Reader(gateway.box, tmp_path, "lan1", "lan2")
    gateway.box.ip("link", "set", "lan2", "down")
    try:
        assert reader.logged().startswith("lan2 is down")
        assert send(gateway.one, "eth0", marked(b"ONE."), 50, 0.01).wait(20) == 0
        time.sleep(0.6)  # tried again several times, without a word
    finally:
        gateway.box.ip("link", "set", "lan2", "up")
    assert reader.logged() == "lan2 is back"
    assert send(gateway.two, "eth0", marked(b"TWO."), 50).wait(20) == 0
    frames, _, log = reader.finish()
    assert numbers(frames, b"ONE.") == numbers(frames, b"TWO.") == list(range(50))
    assert log == ""


def test_each_interface_tells_its_own_drops(gateway: Gateway, tmp_path: Path) -> None:
    """A reader that does not read: a ring of 1 MiB overflows, that of the other does not."""
    reader = Reader(gateway.box, tmp_path, "lan1", "lan2", ring_mib=1)
    reader.order("pause")
    assert reader.line() == "paused"
    assert send(gateway.two, "eth0", marked(b"TWO." + bytes(1_000)), 3_000).wait(20) == 0
    assert send(gateway.one, "eth0", marked(b"ONE."), 100).wait(20) == 0
    reader.order("go")
    frames, got, log = reader.finish()
    first, second = got["drops"].tolist()
    there = len(order(frames, b"TWO."))
    assert numbers(frames, b"ONE.") == list(range(100))
    assert first == 0
    assert 0 < there < 3_000
    assert abs(second + there - 3_000) <= 5  # its own chatter may have been dropped too
    assert f"lan2: the kernel dropped {second:,} packets" in log
    assert "lan1: " not in log


def test_what_is_routed_from_one_to_the_other_counts_once(gateway: Gateway, tmp_path: Path) -> None:
    for here, there in (("10.81.1.2", "10.81.2.2"), ("fd81:1::2", "fd81:2::2")):
        for _ in range(2):  # all neighbours are known afterwards
            gateway.one.run(sys.executable, "-c", FLOWS, here, there, "20000", "1", "30")
            gateway.two.run(sys.executable, "-c", FLOWS, there, here, "20000", "1", "30")
            time.sleep(0.2)
    reader = Reader(gateway.box, tmp_path, "lan1", "lan2")
    for here, there in (("10.81.1.2", "10.81.2.2"), ("fd81:1::2", "fd81:2::2")):
        gateway.one.run(sys.executable, "-c", FLOWS, here, there, "20000", "5", "30")
        gateway.two.run(sys.executable, "-c", FLOWS, there, here, "20000", "5", "30")
    gateway.box.run(sys.executable, "-c", PING, "10.81.2.1", "10.81.2.2")
    # By its address in the other LAN: it speaks for itself, and nobody saw that come in.
    gateway.box.run(sys.executable, "-c", PING, "10.81.1.1", "10.81.2.2")
    frames, _, _ = reader.finish()
    p = decode(frames).packets
    udp = p.take(p.proto == 17)
    for v4 in (True, False):
        mine = udp.take((udp.src[:, 0] == 0) == v4)
        assert len(mine) == 2 * 5 * 2 * 4  # each datagram of both hosts, once
    echo = p.take((p.proto == 1) & np.isin(p.sport, [0, 8]))
    assert len(echo) == 12


def test_without_the_rule_it_would_count_twice(gateway: Gateway, tmp_path: Path) -> None:
    """The test above can fail: watched alone, the second interface shows what is routed to it."""
    reader = Reader(gateway.box, tmp_path, "lan2")
    gateway.one.run(sys.executable, "-c", FLOWS, "10.81.1.2", "10.81.2.2", "20000", "5", "30")
    frames, _, _ = reader.finish()
    p = decode(frames).packets
    assert np.count_nonzero(p.proto == 17) == 5 * 2 * 4


@contextmanager
def bridged() -> Iterator[Host]:
    """A box with a bridge over a port, an interface above that port, and one beside it."""
    with hosts("far", "box") as (far, box):
        join(far, "eth0", box, "port")
        join(far, "eth1", box, "beside")
        box.ip("link", "add", "br0", "type", "bridge")
        box.ip("link", "set", "port", "master", "br0")
        box.ip("link", "set", "br0", "up")
        box.ip("link", "add", "link", "beside", "name", "above", "type", "macvlan")
        yield box


def test_an_interface_that_shows_the_same_packets_is_left_out(tmp_path: Path) -> None:
    script = (
        "import logging, sys; logging.basicConfig(format='%(message)s', stream=sys.stdout)\n"
        "from guardian.config import CaptureSettings\n"
        "from guardian.daemon import once\n"
        "print(once(CaptureSettings(interface=tuple(sys.argv[1:]))).interface)"
    )
    with bridged() as box:
        ways = {
            ("br0", "port"): "('br0',)",
            ("port", "br0", "beside"): "('br0', 'beside')",
            ("above", "beside"): "('beside',)",
            ("port", "beside"): "('port', 'beside')",
        }
        for names, left in ways.items():
            told = box.run(
                "sh", "-c", f'cd {ROOT} && "$@"', "-", sys.executable, "-c", script, *names
            )
            *warnings, kept = told.splitlines()
            assert kept == left
            assert len(warnings) == len(names) - kept.count("'") // 2
            assert all("is left out" in line for line in warnings)
        done = subprocess.run(
            box.command(
                sys.executable, "-m", "guardian.cli", "check", "-i", "br0,port,wg9",
                "--filter", "not port 22",
            ),
            capture_output=True, text=True, check=False, cwd=ROOT,
            env={**os.environ, "GUARDIAN_STORE_PATH": str(tmp_path / "g.db")},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
    _, first, *lines = done.stdout.splitlines()
    assert first.startswith("ok    interface  br0 (")
    assert first.endswith("port (left out: br0 shows the same packets), wg9 (not there yet)")
    assert any(line.startswith("note  interface  br0: a bridge of port: ") for line in lines)
    assert "ok    rights     may capture; 2 rings of 8 MiB can be had; the filter is understood" in lines  # fmt: skip  # noqa: E501


def test_interfaces_that_are_not_there_show_nothing_twice() -> None:
    assert interfaces.seen_twice(["lo", "nosuch0"]) == []


def test_an_interface_that_is_removed_and_made_anew(tmp_path: Path) -> None:
    with hosts("far", "box") as (far, box):
        join(far, "eth0", box, "lan0")
        reader = Reader(box, tmp_path, "lan0")
        assert send(far, "eth0", marked(b"OLD."), 20).wait(20) == 0
        box.ip("link", "delete", "lan0")
        assert reader.logged().startswith("lan0 ")
        join(far, "eth0", box, "lan0")
        assert reader.logged() == "lan0 is back"
        assert send(far, "eth0", marked(b"NEW."), 20).wait(20) == 0
        frames, got, _ = reader.finish()
    assert numbers(frames, b"NEW.") == list(range(20))
    assert len(numbers(frames, b"OLD.")) <= 20  # what waited in a block went with the interface
    assert got["drops"].tolist() == [0]


def test_one_of_several_may_come_later(tmp_path: Path) -> None:
    """It is watched once it is there, and what is routed from it counts once then."""
    with hosts("one", "box", "two") as (one, box, two):
        join(one, "eth0", box, "lan1")
        one.ip("address", "add", "10.82.1.2/24", "dev", "eth0")
        one.ip("route", "add", "default", "via", "10.82.1.1")
        box.ip("address", "add", "10.82.1.1/24", "dev", "lan1")
        box.set("net/ipv4/ip_forward", "1")
        reader = Reader(box, tmp_path, "lan1", "lan2")
        assert reader.logged().startswith("there is no interface 'lan2'")
        assert send(one, "eth0", marked(b"ONE."), 20).wait(20) == 0
        join(two, "eth0", box, "lan2")
        two.ip("address", "add", "10.82.2.2/24", "dev", "eth0")
        two.ip("route", "add", "default", "via", "10.82.2.1")
        box.ip("address", "add", "10.82.2.1/24", "dev", "lan2")
        while reader.logged() != "lan2 is back":
            pass
        time.sleep(0.3)
        for first, k in (("22000", "1"), ("23000", "1"), ("20000", "5")):  # neighbours first
            one.run(sys.executable, "-c", FLOWS, "10.82.1.2", "10.82.2.2", first, k, "30")
            two.run(sys.executable, "-c", FLOWS, "10.82.2.2", "10.82.1.2", first, k, "30")
            time.sleep(0.2)
        frames, _, _ = reader.finish()
    assert numbers(frames, b"ONE.") == list(range(20))
    p = decode(frames).packets
    ports = np.maximum(p.sport, p.dport)
    assert np.count_nonzero((p.proto == 17) & (ports // 1_000 == 20)) == 2 * 5 * 2 * 4


class Script:
    """A source that gives what it is told to, in the place of a ring."""

    link = 1

    def __init__(self) -> None:
        self.ahead = self.restarts = 0
        self.batches: list[Frames] = []
        self.reads = 0
        self._ends = os.pipe()

    def give(self, ts: list[int], now: int) -> None:
        frames = wire.frames_of([bytes([i]) * 60 for i in range(len(ts))])
        self.batches.append(replace(frames, ts=np.array(ts, dtype=np.int64), now=now))

    def fileno(self) -> int:
        return self._ends[0]

    def filling(self) -> bool:
        return True

    def read(self, timeout_s: float) -> Frames:
        del timeout_s
        self.reads += 1
        return self.batches.pop(0)

    def drops(self) -> tuple[int, int]:
        return 0, 0

    def restart_clock(self) -> None:
        self.restarts += 1

    def close(self) -> None:
        for end in self._ends:
            os.close(end)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LiveCapture, Script, Script]]:
    scripts = Script(), Script()
    monkeypatch.setattr(live, "open_source", lambda _, number: scripts[number])
    monkeypatch.setattr(live, "HELD_BYTES", 100)
    capture = LiveCapture(CaptureSettings(interface=("a", "b")))
    yield capture, *scripts
    capture.close()


def times(frames: Frames | None) -> list[int]:
    assert frames is not None
    return [int(ts) for ts in frames.ts]


def test_a_clock_set_back_lets_all_go(
    scripted: tuple[LiveCapture, Script, Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    capture, a, b = scripted
    a.give([1_000], 1_000)
    b.give([], 900)
    assert times(capture.read(0.0)) == []
    monkeypatch.setattr(live, "time", Earlier(1))
    a.give([500], 500)
    b.give([450], 450)
    frames = capture.read(0.0)
    assert sorted(times(frames)) == [450, 500, 1_000]
    assert (a.restarts, b.restarts) == (1, 1)
    a.give([510], 510)
    b.give([], 500)
    assert times(capture.read(0.0)) == []
    a.give([], 620)
    b.give([], 640)
    assert times(capture.read(0.0)) == [510]
    assert (a.restarts, b.restarts) == (1, 1)


def test_an_interface_that_waits_for_another_stays_in_its_ring(
    scripted: tuple[LiveCapture, Script, Script],
) -> None:
    """More than HELD_BYTES wait: it is not read until the other has caught up."""
    capture, a, b = scripted
    a.give([1_000, 1_001], 1_001)
    b.give([], 900)
    assert times(capture.read(0.0)) == []
    found = []
    for now in (950, 1_000, 1_100):
        b.give([], now)
        found.append(times(capture.read(0.0)))
    assert (a.reads, found) == (1, [[], [1_000], [1_001]])
    a.give([1_150], 1_150)
    b.give([], 1_200)
    assert times(capture.read(0.0)) == [1_150]
    assert a.reads == 2


class Earlier:
    """The module `time` with a wall clock that lies some hours behind."""

    def __init__(self, hours: int) -> None:
        self._behind = hours * 3_600 * NS

    def time_ns(self) -> int:
        return time.time_ns() - self._behind

    monotonic, sleep = staticmethod(time.monotonic), staticmethod(time.sleep)


def test_a_frame_stamped_hours_ahead_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's clock is three hours ahead of ours while a few frames come, then right again."""
    with Ring("lo", ring_bytes=1 << 20) as ring, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        here = sock.getsockname()

        def said(hours: int, text: bytes) -> tuple[Frames, int]:
            """Read until the datagram came; return its batch and its row."""
            monkeypatch.setattr(rings, "time", Earlier(hours))
            sock.sendto(text, here)
            until = time.monotonic() + 10
            while time.monotonic() < until:
                frames = ring.read(1.0)
                ends = (frames.start + frames.caplen).tolist()
                bodies = [frames.data[end - len(text) : end].tobytes() for end in ends]
                if text in bodies:
                    return frames, bodies.index(text)
            pytest.fail("it never came")

        # Ours lies three hours behind: to us, the kernel's stamps are three hours ahead.
        before = time.time_ns() - 3 * 3_600 * NS
        frames, row = said(3, b"stamped ahead")
        assert before - NS < frames.ts[row] < before + 10 * NS
        assert before - NS < frames.now < before + 10 * NS
        assert ring.ahead > 0
        frames, row = said(0, b"right again")
        assert abs(int(frames.ts[row]) - time.time_ns()) < 10 * NS


def test_connections_live_on_after_a_stamp_hours_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the ring's guard is for: without it, each open connection would end there."""

    def told(*, guarded: bool) -> int:
        table = ConnTable(Lan(), seed=1)
        wall, ended = 1_700_000_000 * NS, 0
        for second in range(30):
            stamp = wall + second * NS + (3 * 3_600 * NS if second == 10 else 0)
            frames = wire.frames_of([wire.ether(wire.ip4(wire.udp(b"x"), 17))])
            ts = np.array([stamp], dtype=np.int64)
            if guarded:
                ts, _ = not_ahead(ts, wall + second * NS, wall + second * NS)
            late = Frames(**{**vars(frames), "ts": ts, "now": int(ts[0])})
            ended += len(table.step(decode(late)).records)
        return ended

    assert told(guarded=True) == 0
    assert told(guarded=False) > 0
