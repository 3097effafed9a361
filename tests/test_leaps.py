"""A damaged packet time in a file does not stop the clock."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from guardian.addresses import Lan
from guardian.capture import read_frames
from guardian.conns import ConnTable
from guardian.const import NS
from guardian.decode import decode
from guardian.frames import LEAP_NS, believed
from tests import wire

START = 1_700_000_000
FAR = 4_000_000_000
LEAP_S = LEAP_NS // NS


def test_a_lone_leap_is_taken_back() -> None:
    at = np.array([5, 6, FAR, 7, 8], dtype=np.int64) * NS
    assert believed(at, NS).tolist() == [5 * NS, 6 * NS, 6 * NS, 7 * NS, 8 * NS]
    assert believed(at[2:], 6 * NS).tolist() == [6 * NS, 7 * NS, 8 * NS]
    several = np.array([5, FAR, 6, 2 * FAR, FAR, 7], dtype=np.int64) * NS
    assert believed(several, 0).tolist() == [5 * NS, 5 * NS, 6 * NS, 6 * NS, 6 * NS, 7 * NS]


def test_a_leap_that_others_follow_is_believed() -> None:
    for seconds in ([5, FAR, FAR + 1], [5, FAR], [FAR, 5, 6], [5, FAR, FAR - 1, 6], [7, 5, LEAP_S]):
        at = np.array(seconds, dtype=np.int64) * NS
        assert believed(at, 0).tolist() == at.tolist()


@given(st.lists(st.integers(0, 1 << 62), max_size=12), st.integers(0, 1 << 62))
def test_times_are_only_ever_taken_back(times: list[int], now: int) -> None:
    at = np.array(times, dtype=np.int64)
    found = believed(at, now)
    assert (found <= at).all()
    assert believed(np.sort(at), now).tolist() == sorted(times)


def test_timeouts_go_on_after_a_damaged_time(tmp_path: Path) -> None:
    """A datagram each second, one dated far ahead: the first connection still ends after 60 s."""
    path = tmp_path / "damaged.pcap"
    with path.open("wb") as stream:
        stream.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
        for i in range(100):
            port = 1_000 if i == 0 else 2_000
            frame = wire.ether(wire.ip4(wire.udp(b"x", sport=port, dport=9_999), 17))
            second = FAR if i == 50 else START + i
            stream.write(struct.pack("<IIII", second, 0, len(frame), len(frame)) + frame)
    for batch in (1, 30, 1_000):
        table = ConnTable(Lan())
        told = [table.step(decode(frames)) for frames in read_frames(path, batch)]
        records = [row for step in told for row in step.records.orig_p.tolist()]
        assert records == [1_000]
        assert table.live == 1
