"""Walking many records of a pcap at once finds what walking one by one finds."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from guardian import pcapwalk

SECONDS = 1_700_000_000


def records(order: str, sizes: list[int], fill: bytes, second: int = SECONDS) -> bytes:
    """Return records whose frames repeat `fill`."""
    out = []
    for k, size in enumerate(sizes):
        head = struct.pack(order + "4I", second + k // 500, k, size, size + k % 3)
        out.append(head + (fill * (size // len(fill) + 1))[:size])
    return b"".join(out)


def walked(data: bytes, at: int, order: str) -> tuple[list[int], int]:
    """The plain way."""
    found = []
    while at + 16 <= len(data):
        end = at + 16 + struct.unpack_from(order + "I", data, at + 8)[0]
        if end > len(data):
            break
        found.append(at)
        at = end
    return found, at


def many(seed: int, count: int = 2_000) -> list[int]:
    """Sizes of frames: acknowledgements, full ones, a few super-frames, an empty one."""
    chance = np.random.default_rng(seed)
    sizes = chance.choice([60, 66, 200, 600, 1_514], count)
    sizes[::311] = 60_000
    sizes[777] = 0
    return [int(size) for size in sizes]


def both(data: bytes, at: int, order: str) -> tuple[list[int], int]:
    block = np.frombuffer(data + bytes(64), dtype=np.uint8)
    found, stop = pcapwalk.offsets(block, len(data), at, order)
    return found.tolist(), stop


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("cut", [0, 1, 15, 16, 40, 1_000])
def test_all_at_once_and_one_by_one(order: str, cut: int) -> None:
    data = bytes(24) + records(order, many(cut), b"\x5a\x01\x02")
    data = data[: len(data) - cut]
    assert both(data, 24, order) == walked(data, 24, order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_many_are_indeed_found_at_once(order: str) -> None:
    data = records(order, many(1), b"\x00")
    block = np.frombuffer(data + bytes(64), dtype=np.uint8)
    begins = np.append(0, pcapwalk._guess(block, len(data), 0, order))
    assert len(begins) > len(data) // pcapwalk.STRETCH // 2
    found = pcapwalk._together(block, begins, order)
    assert found is not None
    assert found.tolist() == [at for at in walked(data, 0, order)[0] if at < begins[-1]]


def test_frames_that_hold_a_capture_mislead_nobody() -> None:
    """The records inside of frames look as those outside, but are not in the chain."""
    inside = records("<", [90] * 8, b"\x11")
    data = records("<", [len(inside) * 9 + k % 7 for k in range(400)], inside)
    block = np.frombuffer(data + bytes(64), dtype=np.uint8)
    begins = np.append(0, pcapwalk._guess(block, len(data), 0, "<"))
    assert pcapwalk._together(block, begins, "<") is None  # guessed wrong, and known to be
    assert both(data, 0, "<") == walked(data, 0, "<")


@pytest.mark.parametrize("seed", range(12))
def test_damage_anywhere(seed: int) -> None:
    chance = np.random.default_rng(seed)
    data = bytearray(records("<", many(seed), b"\x00\x10"))
    heads = walked(bytes(data), 0, "<")[0]
    for _ in range(3):
        at = int(chance.choice(heads)) + int(chance.integers(16))
        data[at] = int(chance.integers(256))
    assert both(bytes(data), 0, "<") == walked(bytes(data), 0, "<")


def test_times_near_zero_in_frames_of_zeros_tell_nothing() -> None:
    data = records("<", [1_000] * 200, b"\x00", second=1)
    block = np.frombuffer(data + bytes(64), dtype=np.uint8)
    assert not len(pcapwalk._guess(block, len(data), 0, "<"))
    assert both(data, 0, "<") == walked(data, 0, "<")
