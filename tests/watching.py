"""A gateway with two LANs for the tests of live capture, and a reader in it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian.tables import Array, Frames
from tests import wire
from tests.conftest import ROOT
from tests.namespaces import Host, hosts, join

SEND = """
import socket, sys, time
name, count, pause, frame = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind((name, 0))
body = bytes.fromhex(frame)
for i in range(count):
    s.send(body + i.to_bytes(4, "big"))
    if pause:
        time.sleep(pause)
"""
FLOWS = """
import socket, sys
here, there, first, flows, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
kind = socket.AF_INET6 if ":" in here else socket.AF_INET
for k in range(flows):
    for port, peer in ((first + k, 7_000 + k), (7_000 + k, first + k)):
        s = socket.socket(kind, socket.SOCK_DGRAM)
        s.bind((here, port))
        for i in range(4):
            s.sendto(bytes(size), (there, peer))
        s.close()
"""
"""Datagrams between ports 20000 and up of one end and 7000 and up of the other, and the reverse."""
PING = """
import socket, sys
here, there = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.bind((here, 0))
s.settimeout(5)
for i in range(3):
    s.sendto(bytes([8, 0, 0xf7, 0xfc - i, 0, 1, 0, 2 + i]), (there, 0))
    while s.recv(999)[20] != 0:
        pass
"""


@dataclass(frozen=True)
class Gateway:
    """A machine with two LANs, `lan1` and `lan2`, and a host on each."""

    one: Host
    box: Host
    two: Host


@contextmanager
def two_lans() -> Iterator[Gateway]:
    """Make the machine and its hosts; skip where this may not be."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and ip")
    with hosts("one", "box", "two") as (one, box, two):
        for number, host in ((1, one), (2, two)):
            join(host, "eth0", box, f"lan{number}")
            for there, name, last in ((host, "eth0", "2"), (box, f"lan{number}", "1")):
                there.ip("address", "add", f"10.81.{number}.{last}/24", "dev", name)
                there.ip("address", "add", f"fd81:{number}::{last}/64", "dev", name, "nodad")
            host.ip("route", "add", "default", "via", f"10.81.{number}.1")
            host.ip("-6", "route", "add", "default", "via", f"fd81:{number}::1")
        box.set("net/ipv4/ip_forward", "1")
        box.set("net/ipv6/conf/all/forwarding", "1")
        box.set("net/ipv6/conf/all/keep_addr_on_down", "1")
        yield Gateway(one, box, two)


class Reader:
    """A LiveCapture in a namespace, and what it saw."""

    def __init__(self, host: Host, folder: Path, *names: str, **settings: Any) -> None:
        self._out = folder / f"seen-{time.monotonic_ns()}.npz"
        given = json.dumps({"interface": names, "snaplen": 262_144, **settings})
        self.process: subprocess.Popen[str] = host.start(
            sys.executable, "-m", "tests.live_reader", given, str(self._out),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=ROOT,
        )  # fmt: skip
        self.said = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def logged(self) -> str:
        """Wait for the next line of its log."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().strip()

    def order(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def finish(self) -> tuple[Frames, dict[str, Array], str]:
        """End it; return frames, all that it wrote, and its log."""
        assert self.said == "ready", self.said
        _, log = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, log
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
        assert set(got["links"].tolist()) <= {1}
        assert (np.diff(got["nows"]) >= 0).all()
        assert (got["latest"] <= got["nows"]).all()
        return frames, got, log


def marked(text: bytes, port: int = 9, vlan: int | None = None) -> bytes:
    """A frame whose payload says what it is; the sender adds a number of four bytes."""
    packet = wire.ip4(wire.udp(text + bytes(4), sport=1, dport=port), 17)[:-4]
    if vlan is None:
        return wire.ether(packet)
    return wire.ether(struct.pack(">HH", vlan, 0x0800) + packet, 0x8100)


def send(host: Host, name: str, frame: bytes, count: int, pause: float = 0.0) -> Any:
    return host.start(sys.executable, "-c", SEND, name, str(count), str(pause), frame.hex())


def numbers(frames: Frames, text: bytes) -> list[int]:
    """The numbers of the frames that a sender marked, in the order in which they came."""
    out = []
    for start, size in zip(frames.start, frames.caplen, strict=True):
        body = frames.data[start : start + size].tobytes()
        at = body.find(text)
        if at >= 0:
            out.append(int.from_bytes(body[at + len(text) :][:4], "big"))
    return out


def order(frames: Frames, *texts: bytes) -> list[int]:
    """Which of the texts each marked frame holds, in order."""
    bodies = [
        frames.data[start : start + size].tobytes()
        for start, size in zip(frames.start, frames.caplen, strict=True)
    ]
    return [i for body in bodies for i, text in enumerate(texts) if text in body]
