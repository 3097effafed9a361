"""What may enter a live capture: filters, fanout, promiscuous or not; and scapy's sniffer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guardian import bpf
from guardian.config import CaptureSettings
from guardian.decode import decode
from guardian.errors import CaptureError, ConfigError
from guardian.live import LiveCapture
from guardian.ring import Ring
from guardian.tables import Frames
from tests.conftest import ROOT
from tests.watching import FLOWS, Gateway, Reader, marked, numbers, send, two_lans

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to capture and to make networks"),
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with two_lans() as made:
        yield made


def test_a_filter_lets_nothing_else_in_from_the_first_moment(
    gateway: Gateway, tmp_path: Path
) -> None:
    """Traffic flows while the ring is opened: nothing of it comes before the filter."""
    flood = send(gateway.one, "eth0", marked(b"BAD.", 22), 10_000_000)
    time.sleep(0.3)
    for _ in range(3):
        reader = Reader(gateway.box, tmp_path, "lan1", filter="not port 22")
        assert send(gateway.one, "eth0", marked(b"GOOD"), 20).wait(20) == 0
        frames, got, _ = reader.finish()
        assert numbers(frames, b"GOOD") == list(range(20))
        assert numbers(frames, b"BAD.") == []
        assert got["drops"].tolist() == [0]
    assert flood.poll() is None
    flood.kill()


@pytest.mark.parametrize("fanout", [0, 79])
def test_the_filter_is_there_before_anything_can_come(
    monkeypatch: pytest.MonkeyPatch, fanout: int
) -> None:
    """A socket without a protocol takes nothing; a group is joined by one that lets nothing in."""
    attach, told = Ring.set_filter, []

    def filtered(ring: Ring, program: bpf.Program) -> None:
        told.append((program, ring._socket.getsockname()[:2]))
        attach(ring, program)

    monkeypatch.setattr(Ring, "set_filter", filtered)
    program = bpf.whole(77)
    Ring("lo", ring_bytes=1 << 20, program=program, fanout=fanout).close()
    assert told[0] == (bpf.NOTHING if fanout else program, ("", 0))
    assert told[1:] == ([(program, ("lo", 3))] if fanout else [])


def test_a_filter_looks_for_the_tag_where_the_kernel_puts_it(
    gateway: Gateway, tmp_path: Path
) -> None:
    """The tag is off the frame: `vlan 5` still finds it, and `port 9` finds what is inside."""
    ways = {"vlan 5": [b"FIVE"], "udp port 9": [b"FIVE", b"SIX.", b"NONE"], "not vlan": [b"NONE"]}
    readers = [Reader(gateway.box, tmp_path, "lan1", filter=text) for text in ways]
    for text, vlan in ((b"FIVE", 5), (b"SIX.", 6), (b"NONE", None)):
        assert send(gateway.one, "eth0", marked(text, vlan=vlan), 10).wait(20) == 0
    for reader, texts in zip(readers, ways.values(), strict=True):
        frames, _, _ = reader.finish()
        for text in (b"FIVE", b"SIX.", b"NONE"):
            assert len(numbers(frames, text)) == (10 if text in texts else 0)
        if len(frames):
            assert decode(frames).malformed == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("prot 22", "syntax error"),
        ("port 99999999", "port number 99999999"),
        ("tcp and udp", "expression rejects all packets"),
        ("host 1.2.3.999", "1.2.3.999"),
        ("not port 22)", "syntax error"),
    ],
)
def test_a_wrong_filter_is_named(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bpf.compiled(text, "lo", 2_048, ethernet=True)
    assert repr(text) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_filter_without_libpcap_is_one_sentence() -> None:
    script = (
        "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
        "from guardian.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "-i", "lo", "--filter", "udp"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("guardian: capture.filter needs libpcap, which cannot be had here")
    assert "install it" in said


def test_no_filter_needs_no_scapy() -> None:
    script = (
        "import sys; from guardian.config import CaptureSettings\n"
        "from guardian.live import LiveCapture\n"
        "LiveCapture(CaptureSettings(interface=('lo',))).close()\n"
        "print(any(name.startswith('scapy') for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"


def flows(frames: Frames) -> Counter[tuple[Any, ...]]:
    """Packets by flow, whichever its direction."""
    p = decode(frames).packets
    p = p.take(p.proto == 17)
    ends = [
        frozenset([(*src, sport), (*dst, dport)])
        for src, dst, sport, dport in zip(
            p.src.tolist(), p.dst.tolist(), p.sport.tolist(), p.dport.tolist(), strict=True
        )
        if sport >= 7_000 and dport >= 7_000
    ]
    return Counter((end,) for end in ends)


def test_a_group_shares_the_flows(gateway: Gateway, tmp_path: Path) -> None:
    """Each packet comes to one of two rings, both directions of a flow to the same one."""
    readers = [Reader(gateway.box, tmp_path, "lan1", "lan2", fanout=77) for _ in range(2)]
    alone = Reader(gateway.box, tmp_path, "lan1", "lan2")
    for host, own, far in ((gateway.one, "1", "2"), (gateway.two, "2", "1")):
        for net in ("10.81.{}.2", "fd81:{}::2"):
            here, there = net.format(own), net.format(far)
            host.run(sys.executable, "-c", FLOWS, here, there, "20000", "60", "30")
    first, second = (flows(reader.finish()[0]) for reader in readers)
    whole = flows(alone.finish()[0])
    assert len(whole) == 240
    assert set(whole.values()) == {8}
    assert first + second == whole
    assert not set(first) & set(second)
    # The hash splits by chance: less than a quarter at one of them would be a broken group.
    assert min(len(first), len(second)) > 60


def test_a_group_that_is_another_programs_is_named(gateway: Gateway, tmp_path: Path) -> None:
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))\n"
        "s.bind(('lan1', 3)); s.setsockopt(263, 18, 78 | 2 << 16)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    other = gateway.box.start(
        sys.executable, "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    reader = Reader(gateway.box, tmp_path, "lan1", fanout=78)
    assert reader.said.startswith("CaptureError lan1 cannot join fanout group 78")
    other.kill()


def test_promiscuous_only_where_asked(gateway: Gateway, tmp_path: Path) -> None:
    def promiscuity() -> int:
        shown = json.loads(gateway.box.run("ip", "-d", "-j", "link", "show", "lan1"))
        return int(shown[0]["promiscuity"])

    plain = Reader(gateway.box, tmp_path, "lan1")
    assert promiscuity() == 0
    asked = Reader(gateway.box, tmp_path, "lan1", promiscuous=True)
    assert promiscuity() == 1
    asked.finish()
    assert promiscuity() == 0
    plain.finish()


def test_the_sniffer_sees_what_the_ring_sees(gateway: Gateway, tmp_path: Path) -> None:
    """Same bytes, same packets, times to the clock's grain; cut and filtered alike."""
    settings: dict[str, Any] = {"filter": "udp", "snaplen": 60}
    ring = Reader(gateway.box, tmp_path, "lan1", backend="ring", **settings)
    sniffer = Reader(gateway.box, tmp_path, "lan1", backend="sniffer", **settings)
    gateway.one.run(sys.executable, "-c", FLOWS, "10.81.1.2", "10.81.1.1", "20000", "10", "100")
    gateway.one.run(sys.executable, "-c", FLOWS, "fd81:1::2", "fd81:1::1", "20000", "10", "3")
    theirs, _, _ = ring.finish()
    mine, got, log = sniffer.finish()
    assert "loses bursts" in log
    assert got["drops"].tolist() == [0]

    def rows(frames: Frames) -> list[tuple[bytes, int, int]]:
        return sorted(
            (frames.data[at : at + size].tobytes(), wirelen, ts)
            for at, size, wirelen, ts in zip(
                frames.start.tolist(), frames.caplen.tolist(),
                frames.wirelen.tolist(), frames.ts.tolist(), strict=True,
            )
        )  # fmt: skip

    assert len(mine) == len(theirs) == 160
    assert mine.caplen.max() == 60
    assert [row[:2] for row in rows(mine)] == [row[:2] for row in rows(theirs)]
    apart = [abs(a[2] - b[2]) for a, b in zip(rows(mine), rows(theirs), strict=True)]
    assert max(apart) < 1_000  # a float of seconds holds a quarter of a microsecond
    # Sent with checksums that the card would have filled in: none counts as damaged.
    assert not decode(mine).packets.bad_csum.any()


def test_the_sniffer_comes_back_too(gateway: Gateway, tmp_path: Path) -> None:
    reader = Reader(gateway.box, tmp_path, "lan1", "lan2", backend="sniffer")
    assert "loses bursts" in reader.logged()
    assert "loses bursts" in reader.logged()
    gateway.box.ip("link", "set", "lan2", "down")
    try:
        assert reader.logged().startswith("lan2 cannot be read")
    finally:
        gateway.box.ip("link", "set", "lan2", "up")
    while reader.logged() != "lan2 is back":
        pass
    for host, text in ((gateway.one, b"ONE."), (gateway.two, b"TWO.")):
        assert send(host, "eth0", marked(text), 20, 0.005).wait(20) == 0
    frames, _, _ = reader.finish()
    assert numbers(frames, b"ONE.") == numbers(frames, b"TWO.") == list(range(20))


def test_the_sniffer_has_no_fanout_and_no_missing_interface() -> None:
    for settings, why in (
        (CaptureSettings(interface=("lo",), backend="sniffer", fanout=3), "no fanout"),
        (CaptureSettings(interface=("nosuch0",), backend="sniffer"), "there is no interface"),
        (CaptureSettings(interface=("lo",), backend="sniffer", filter="prot 3"), "prot 3"),
    ):
        with pytest.raises(CaptureError, match=why):
            LiveCapture(settings)
