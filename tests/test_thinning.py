"""A flood that fills the ring: what the kernel leaves out of it, and that others come through."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from guardian.bpf import Program, whole
from guardian.feed import SPARE_BYTES
from guardian.tables import Frames
from guardian.thinning import CALM_S, MOST, STEP, Pair, Thinning
from tests.conftest import ROOT
from tests.namespaces import hosts, join

FLOOD = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 9))
QUIET = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 7))


def batch(*counts: tuple[tuple[bytes, bytes], int]) -> Frames:
    """Return frames of (to, from) pairs."""
    heads = [to + by + bytes(48) for (to, by), count in counts for _ in range(count)]
    n = len(heads)
    data = np.frombuffer(b"".join(heads) + bytes(SPARE_BYTES), dtype=np.uint8)
    width = np.full(n, 60, dtype=np.int64)
    return Frames(data=data, start=np.arange(n, dtype=np.int64) * 60, caplen=width, wirelen=width,
                  ts=np.zeros(n, dtype=np.int64), link=1, csum_valid=np.ones(n, dtype=np.bool_),
                  now=0)  # fmt: skip


def run(program: Program, frame: bytes, chance: int) -> int:
    """Run a program as the kernel would; return what it returns."""
    at = accumulator = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == 0x06:
            return k
        if code == 0x20:
            accumulator = chance if k >= 0xFFFFF000 else struct.unpack_from("!I", frame, k)[0]
        elif code == 0x15:
            at += yes if accumulator == k else no
        elif code == 0x35:
            at += yes if accumulator >= k else no
        else:
            raise AssertionError(code)


def test_nothing_is_left_out_while_nothing_is_dropped() -> None:
    thinning = Thinning()
    for second in range(100):
        assert thinning.look(batch((FLOOD, 500), (QUIET, 10)), 0, float(second)) == []
    assert thinning.program(whole(9)) == whole(9)


def test_the_flood_alone_is_thinned_further_and_let_in_again() -> None:
    thinning = Thinning()
    flood = batch((FLOOD, 500), (QUIET, 10))
    mixed = batch((FLOOD, 50), (QUIET, 40), ((QUIET[1], QUIET[0]), 40))
    assert thinning.look(flood, 10, 9.0) == []  # a burst is no flood
    said = thinning.look(flood, 500, 10.0)
    assert said == [
        "more packets from 02:00:00:00:00:09 to 02:00:00:00:00:01 than this machine can read: "
        "one of 8 of them is looked at"
    ]
    assert thinning.look(flood, 800, 10.5) == []  # not at once again
    assert "one of 64" in thinning.look(flood, 1_300, 11.5)[0]
    assert thinning.look(mixed, 2_000, 13.0) == []  # no single one is to blame
    program = thinning.program(whole(9))
    to, by = FLOOD
    line = 1 << 32 - 2 * STEP
    assert [run(program, to + by, c) for c in (0, line - 1, line, (1 << 32) - 1)] == [9, 9, 0, 0]
    for others in (QUIET[0] + QUIET[1], by + to, to + bytes(6), bytes(6) + by):
        assert run(program, others, (1 << 32) - 1) == 9
    assert thinning.left_out == 500 * 7 + 500 * 7 + 50 * 63
    assert thinning.look(mixed, 2_000, 13.0 + CALM_S) == []  # back to an eighth, silently
    assert thinning.shifts == {Pair(to + by): STEP}
    assert "looked at again" in thinning.look(mixed, 2_000, 13.0 + 2 * CALM_S)[0]
    assert thinning.program(whole(9)) == whole(9)


def test_there_is_an_end_to_it() -> None:
    thinning = Thinning()
    for second in range(50):
        pair = (FLOOD[0], bytes((2, 0, 0, 0, 1, second // 10)))
        thinning.look(batch((pair, 500)), 500 * (second + 1), 2.0 * second)
    assert max(thinning.shifts.values()) == MOST
    assert len(thinning.shifts) == 4


SLOW = """
import json, logging, sys, time
logging.basicConfig(format="%(message)s")
from guardian.live import LiveCapture
from tests.live_reader import settings_of
capture = LiveCapture(settings_of(sys.argv[1]))
thin = sys.argv[2] == "thin"
if not thin:
    capture._watches[0]._thinning.look = lambda *_: []
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[3])
quiet, by_second = bytes.fromhex("020000000007"), {}
while time.monotonic() < end:
    frames = capture.read(0.1)
    if frames is not None and len(frames):
        time.sleep(len(frames) * 40e-6)  # a machine that takes 25,000 packets a second
        for k, at in enumerate(frames.start.tolist()):
            if frames.data[at + 6 : at + 12].tobytes() == quiet:
                number = int.from_bytes(frames.data[at + 14 : at + 18].tobytes(), "big")
                by_second[number] = 1
print(json.dumps({"numbers": sorted(by_second), "drops": capture._watches[0].drops,
                  "unread": capture.drops}), flush=True)
capture.close()
"""
TALK = """
import socket, struct, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
head = bytes.fromhex("020000000001" "020000000007" "88b5")
begun = time.monotonic()
for n in range(int(sys.argv[1])):
    s.send(head + struct.pack("!I", n) + bytes(42))
    time.sleep(max(0.0, begun + n / 200 - time.monotonic()))
"""


@pytest.mark.net
@pytest.mark.slow
def test_a_quiet_device_comes_through_a_flood_that_the_machine_cannot_take(tmp_path: Path) -> None:
    path = tmp_path / "flood.pcap"
    frame = FLOOD[0] + FLOOD[1] + b"\x88\xb5" + bytes(46)
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
        for _ in range(1_000):
            file.write(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)
    heard = {}
    for how in ("thin", "plain"):
        with hosts("home", "gateway") as (home, gateway):
            join(home, "eth0", gateway, "lan0")
            settings = json.dumps({"interface": ["lan0"], "ring_mib": 1})
            reader = gateway.start(sys.executable, "-c", SLOW, settings, how, "4.5", cwd=ROOT,
                                   stdout=subprocess.PIPE, text=True)  # fmt: skip
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            flood = home.start(sys.executable, "-m", "tests.wire_sender", "eth0", str(path),
                               "120000", "4", cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True)  # fmt: skip
            assert flood.stdin is not None
            flood.stdin.write("go\n")
            flood.stdin.flush()
            time.sleep(0.2)
            home.run(sys.executable, "-c", TALK, "600")
            heard[how] = json.loads(reader.stdout.readline())
            reader.wait()
            flood.wait()
    assert heard["plain"]["drops"] > 0
    late = {how: sum(n >= 400 for n in h["numbers"]) for how, h in heard.items()}
    assert late["thin"] >= 190  # after two seconds hardly any is lost
    assert late["plain"] < 170
    assert heard["thin"]["drops"] < heard["plain"]["drops"] / 2
    # What was left out is told, too.
    assert heard["thin"]["unread"] > heard["thin"]["drops"] + 50_000
