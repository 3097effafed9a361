"""Several interfaces become one: in order of time, whatever the moments at which they were read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.decode import decode
from guardian.frames import AHEAD_NS, not_ahead
from guardian.merge import ROOM, Merge
from guardian.tables import Frames
from tests import wire

FAR = 1 << 61


def batch(stream: int, first: int, ts: list[int], now: int) -> Frames:
    """Frames of a stream that say which they are: its number, then a count from `first`."""
    pieces = [bytes([stream, *(first + i).to_bytes(2, "big")]) for i in range(len(ts))]
    gaps = [bytes(i % 3) for i in range(len(ts))]
    frames = wire.frames_of(pieces, gaps=gaps, tail=b"--")
    return replace(frames, ts=np.array(ts, dtype=np.int64), now=now)


def said(frames: Frames) -> list[tuple[int, int, int]]:
    """Stream, count and time of each frame."""
    out = []
    for start, size, ts in zip(frames.start, frames.caplen, frames.ts, strict=True):
        body = frames.data[start : start + size].tobytes()
        out.append((body[0], int.from_bytes(body[1:], "big"), int(ts)))
    return out


def expected(streams: list[list[int]]) -> list[tuple[int, int, int]]:
    """Slowly and obviously: sorted by the latest time so far in the stream, then the stream."""
    keyed = []
    for stream, times in enumerate(streams):
        latest = 0
        for count, ts in enumerate(times):
            latest = max(latest, ts)
            keyed.append(((latest, stream, count), (stream, count, ts)))
    return [row for _, row in sorted(keyed)]


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.integers(1, 60), max_size=14), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
def test_the_order_does_not_depend_on_when_each_was_read(
    steps: list[list[int]], chance: object
) -> None:
    """Frames reach us in any batches, late, with ticks between; the order is that of time."""
    pick = chance.randint  # type: ignore[attr-defined]
    # Mostly rising times, with some that step back as two processors of a card make them.
    streams = []
    for gaps in steps:
        times, at = [], 0
        for gap in gaps:
            at += gap
            times.append(at - (pick(0, 30) if pick(0, 3) == 0 else 0) if at > 30 else at)
        streams.append(times)
    merge = Merge(len(streams))
    got: list[tuple[int, int, int]] = []
    nows = [0]
    done = [0] * len(streams)
    running = range(len(streams))
    while any(done[i] < len(streams[i]) for i in running):
        for i in running:
            upto = min(len(streams[i]), done[i] + pick(0, 4))
            ts = streams[i][done[i] : upto]
            # An interface's clock: the latest that it gave, or a tick that its next frame is after.
            ahead = [max(streams[i][: k + 1]) for k in range(upto, len(streams[i]))][:1]
            before = max(streams[i][:upto], default=0)
            tick = min(ahead[0] if ahead else FAR, before + pick(0, 20))
            merge.put(i, batch(i, done[i], ts, max(before, 0 if ts else tick)))
            done[i] = upto
        frames = merge.take(running)
        got += said(frames)
        assert not len(frames) or frames.now >= max(frames.ts)
        nows.append(frames.now)
    frames = merge.rest()
    got += said(frames)
    assert got == expected(streams)
    assert nows == sorted(nows)
    assert all(merge.held(i) == 0 for i in running)


def test_frames_wait_for_the_interface_that_is_behind() -> None:
    merge = Merge(2)
    merge.put(0, batch(0, 0, [10, 20, 30], 30))
    merge.put(1, batch(1, 0, [15], 15))
    assert said(merge.take([0, 1])) == [(0, 0, 10), (1, 0, 15)]
    assert merge.held(0) > 0
    merge.put(1, batch(1, 1, [], 25))  # a tick: nothing older is under way there
    frames = merge.take([0, 1])
    assert said(frames) == [(0, 1, 20)]
    assert frames.now == 24
    # One that went down is not waited for.
    frames = merge.take([0])
    assert (said(frames), frames.now) == ([(0, 2, 30)], 30)
    assert merge.held(0) == 0


def test_at_the_same_nanosecond_the_first_named_goes_first() -> None:
    merge = Merge(2)
    merge.put(0, batch(0, 0, [10], 10))
    merge.put(1, batch(1, 0, [10], 12))
    assert said(merge.take([0, 1])) == [(0, 0, 10)]  # the first may still give more of that moment
    merge.put(0, batch(0, 1, [10, 11], 11))
    assert said(merge.take([0, 1])) == [(0, 1, 10), (1, 0, 10), (0, 2, 11)]


def test_frames_of_one_are_not_copied() -> None:
    merge = Merge(2)
    frames = batch(0, 0, [10, 20], 20)
    merge.put(0, frames)
    merge.put(1, batch(1, 0, [], 50))
    assert merge.take([0, 1]).data is frames.data


def test_a_clock_set_back_holds_nothing_up() -> None:
    merge = Merge(2)
    merge.put(0, batch(0, 0, [1_000], 1_000))
    merge.put(1, batch(1, 0, [1_001], 1_001))
    assert said(merge.rest()) == [(0, 0, 1_000), (1, 0, 1_001)]
    merge.put(0, batch(0, 1, [500], 500))
    merge.put(1, batch(1, 1, [501], 510))
    frames = merge.take([0, 1])
    assert (said(frames), frames.now) == ([(0, 1, 500)], 1_001)  # the clock never runs back
    merge.put(0, batch(0, 2, [], 520))
    assert said(merge.take([0, 1])) == [(1, 1, 501)]


def test_packets_without_a_link_layer_go_beside_those_with_one() -> None:
    """A VPN beside a bridge: the packets are the same, those of the VPN without MAC addresses."""
    six = wire.ip6(wire.udp(b"six", wire.A6, wire.B6), 17)
    raw = [wire.ip4(wire.udp(b"four"), 17), six]
    room = bytes(ROOM)
    tunnel = wire.frames_of(raw, 101, gaps=[room, room])
    tunnel = replace(tunnel, data=tunnel.data.copy(), ts=np.array([10, 30]), now=40)
    cable = wire.frames_of([wire.ether(wire.ip4(wire.tcp(b"cable"), 6))])
    cable = replace(cable, ts=np.array([20], dtype=np.int64), now=50)
    alone = decode(tunnel).packets
    merge = Merge(2)
    merge.put(0, tunnel)
    merge.put(1, cable)
    frames = merge.take([0, 1])
    assert frames.link == 1
    p = decode(frames).packets
    assert p.proto.tolist() == [17, 6, 17]
    assert [mac != 0 for mac in p.src_mac.tolist()] == [False, True, False]
    for name in ("src", "dst", "sport", "dport", "ip_len", "payload_len", "src_mac", "ts"):
        assert np.array_equal(getattr(p, name)[[0, 2]], getattr(alone, name)), name
    assert not p.bad_csum.any()


def test_a_time_ahead_of_the_clock_is_the_moment_before() -> None:
    wall = 1_000_000_000_000
    late = wall + AHEAD_NS + 1
    ts = np.array([wall - 9, late, wall - 7, late + 5, late], dtype=np.int64)
    found, count = not_ahead(ts, wall, 5)
    assert (found - wall).tolist() == [-9, -9, -7, -7, -7]
    assert count == 3
    assert (not_ahead(ts[1:3], wall, 5)[0] - wall).tolist() == [-7, -7]
    assert not_ahead(ts[3:], wall, 5)[0].tolist() == [5, 5]
    fine = np.array([wall - 9, wall + AHEAD_NS], dtype=np.int64)
    assert not_ahead(fine, wall, 5) == (fine, 0)
