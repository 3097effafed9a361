"""Captures as files and streams: every kind, any damage, nothing but InputError."""

from __future__ import annotations

import gzip
import io
import os
import struct
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import capture, feed
from guardian.const import MAX_FRAME_BYTES, NS
from guardian.errors import InputError
from guardian.pcapng import Interface
from guardian.tables import Frames

PACKETS = [bytes([i]) * (14 + 7 * i) for i in range(20)]


def pcap(
    packets: list[bytes], order: str = "<", nano: bool = False, link: int = 1, snap: int = 0
) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, link)
    for i, packet in enumerate(packets):
        kept = packet[:snap] if snap else packet
        out += struct.pack(order + "IIII", 1_000 + i, 500 + i, len(kept), len(packet)) + kept
    return out


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str = "<", link: int = 1, snap: int = 0, options: bytes = b"") -> bytes:
    return block(order, 1, struct.pack(order + "HHI", link, 0, snap) + options)


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def enhanced(order: str, which: int, ticks: int, packet: bytes, wirelen: int = 0) -> bytes:
    head = struct.pack(
        order + "IIIII", which, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), wirelen or len(packet)
    )
    return block(order, 6, head + packet)


def old_packet(order: str, which: int, ticks: int, packet: bytes) -> bytes:
    head = struct.pack(
        order + "HHIIII", which, 9, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), len(packet)
    )
    return block(order, 2, head + packet)


def simple(order: str, packet: bytes, wirelen: int = 0) -> bytes:
    return block(order, 3, struct.pack(order + "I", wirelen or len(packet)) + packet)


def pcapng(packets: list[bytes], order: str = "<") -> bytes:
    body = [enhanced(order, 0, (1_000 + i) * 1_000_000 + 500 + i, p) for i, p in enumerate(packets)]
    return section(order) + interface(order) + b"".join(body)


def bodies(batches: list[Frames]) -> list[bytes]:
    return [
        f.data[start : start + size].tobytes()
        for f in batches
        for start, size in zip(f.start, f.caplen, strict=True)
    ]


def column(batches: list[Frames], name: str) -> list[int]:
    return [int(value) for f in batches for value in getattr(f, name)]


def read(folder: Path, content: bytes, batch: int = 16_384) -> list[Frames]:
    path = folder / "it"
    path.write_bytes(content)
    return list(capture.read_frames(path, batch))


def until_fault(folder: Path, content: bytes) -> tuple[list[Frames], str]:
    """Everything that came before the fault, and the fault's sentence."""
    path = folder / "it"
    path.write_bytes(content)
    got = []
    try:
        for frames in capture.read_frames(path):
            got.append(frames)  # noqa: PERF402 - what came before an error is kept
    except InputError as error:
        return got, str(error)
    return got, ""


# --- what an input is -----------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (pcap([]), "pcap"),
        (pcap([], ">", nano=True), "pcap"),
        (pcapng([]), "pcapng"),
        (pcapng([], ">"), "pcapng"),
        (gzip.compress(pcap(PACKETS)), "pcap"),
        (gzip.compress(pcapng(PACKETS)), "pcapng"),
        (b"#separator \\x09\n#fields\tts\tuid\n", "log"),
        (b'{"ts":1.0,"uid":"C1"}\n', "log"),
        (b"ts,uid,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto\n", "log"),
        (gzip.compress(b"#separator \\x09\n#fields\tts\tuid\n"), "log"),
    ],
)
def test_sniff(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "it"
    path.write_bytes(content)
    assert capture.sniff(path) == kind


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (gzip.compress(b""), "nothing that gzip can unpack"),
        (b"\x1f\x8b\xff\xff", "nothing that gzip can unpack"),
        (b"Dear diary, today I captured nothing.\n", "neither a capture nor a connection log"),
        (bytes(range(256)), "neither a capture nor a connection log"),
        (b"PK\x03\x04" + bytes(40), "unpack it first"),
        (b"\x34\xcd\xb2\xa1" + bytes(20), "editcap"),
    ],
)
def test_sniff_refuses_with_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "it"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        capture.sniff(path)
    with pytest.raises(InputError, match=words):
        list(capture.read_frames(path))


def test_sniff_of_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        capture.sniff(tmp_path / "nothing")
    with pytest.raises(InputError, match="is a folder"):
        capture.sniff(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe"):
        capture.sniff(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be opened"):
        capture.sniff("a\0b")


def test_a_log_has_no_frames(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no packets"):
        read(tmp_path, b"#separator \\x09\n#fields\tts\n")


# --- sound captures -------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap(tmp_path: Path, order: str, nano: bool) -> None:
    got = read(tmp_path, pcap(PACKETS, order, nano, link=113 | 0x24000000, snap=50))
    assert bodies(got) == [packet[:50] for packet in PACKETS]
    assert column(got, "wirelen") == [len(packet) for packet in PACKETS]
    unit = 1 if nano else 1_000
    assert column(got, "ts") == [(1_000 + i) * NS + (500 + i) * unit for i in range(20)]
    assert (got[0].link, got[0].now) == (113, 1_019 * NS + 519 * unit)
    assert not got[0].csum_valid.any()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_pcapng(tmp_path: Path, order: str, pack: Callable[[bytes], bytes]) -> None:
    got = read(tmp_path, pack(pcapng(PACKETS, order)))
    assert bodies(got) == PACKETS
    assert column(got, "ts") == [(1_000 + i) * NS + (500 + i) * 1_000 for i in range(20)]


def everything(order: str) -> list[bytes]:
    """Return the blocks of two sections: interfaces that come late with options, the three kinds of
    packets, names, statistics, secrets of TLS, and a kind that nobody knows."""
    nano = option(order, 9, b"\x09") + option(order, 0, b"")
    binary = option(order, 2, b"eth9") + option(order, 9, b"\x8a") + option(
        order, 14, struct.pack(order + "q", 100)
    )  # fmt: skip
    name = struct.pack(order + "HH", 1, 6) + bytes([1, 2, 3, 4]) + b"a\0\0\0" + bytes(4)
    secrets = struct.pack(order + "II", 0x544C534B, 5) + b"CLIEN\0\0\0"
    return [
        section(order),
        interface(order, 1, snap=4),
        simple(order, b"aaaa", 9),
        enhanced(order, 0, 7_000_000, b"bbbbb", 50),
        simple(order, b"cc"),
        block(order, 4, name),
        interface(order, 101, options=nano),
        block(order, 10, secrets),
        enhanced(order, 1, 9_000_000_001, b"ddd"),
        old_packet(order, 0, 8_000_000, b"e"),
        section("<"),
        interface("<", 1, options=option("<", 9, b"\x09") + option("<", 0, b"")),
        block("<", 5, bytes(16)),
        section(order),
        interface(order, 113, options=binary),
        block(order, 0xBAD, bytes(20)),
        enhanced(order, 0, 5 * 1024 + 512, b"ffffff"),
    ]


EVERYTHING = [b"aaaa", b"bbbbb", b"cc", b"ddd", b"e", b"ffffff"]
"""Its packets."""


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_with_everything(tmp_path: Path, order: str) -> None:
    got = read(tmp_path, b"".join(everything(order)))
    assert bodies(got) == EVERYTHING
    assert column(got, "wirelen") == [9, 50, 2, 3, 1, 6]
    ts = [0, 7 * NS, 7 * NS, 9 * NS + 1, 8 * NS, 105 * NS + NS // 2]
    assert column(got, "ts") == ts
    assert [f.link for f in got] == [1, 101, 1, 113]
    assert [f.now for f in got] == [7 * NS, 9 * NS + 1, 9 * NS + 1, 105 * NS + NS // 2]


@pytest.mark.parametrize("order", ["<", ">"])
def test_everything_cut_anywhere_gives_what_came_before(tmp_path: Path, order: str) -> None:
    """Each kind of block, at each of its bytes."""
    blocks = everything(order)
    ends = [sum(map(len, blocks[:k])) for k in range(len(blocks) + 1)]
    whole = b"".join(blocks)
    for cut in range(4, len(whole)):
        got, fault = until_fault(tmp_path, whole[:cut])
        done = sum(end <= cut for end in ends) - 1
        held = [k for k, b in enumerate(blocks[:done]) if b[:4] in _PACKET_BLOCKS]
        assert bodies(got) == EVERYTHING[: len(held)], cut
        assert bool(fault) == (cut not in ends), cut


_PACKET_BLOCKS = {struct.pack(order + "I", kind) for order in "<>" for kind in (2, 3, 6)}


@settings(max_examples=300)
@given(
    resolution=st.integers(0, 255),
    ticks=st.integers(0, (1 << 64) - 1),
    offset=st.integers(-9, 9) | st.integers(-(1 << 63), (1 << 63) - 1),
)
def test_clocks_of_any_resolution(resolution: int, ticks: int, offset: int) -> None:
    clock = Interface(1, 0, resolution, offset)
    got = int(clock.nanoseconds(np.array([ticks], dtype=np.uint64))[0])
    exponent = resolution & 0x7F
    exact = ticks * NS // (2**exponent if resolution & 0x80 else 10**exponent)
    latest = (1 << 63) - 1
    if abs(offset) > 9:  # nobody's clock: a time that can be written comes of it
        assert 0 <= got <= latest
    elif exact + 20 * NS > latest:
        assert latest - 30 * NS <= got <= latest  # it stays a time, the latest there is
    else:
        # Binary fractions are cut at 30 bits.
        assert abs(got - max(0, exact + offset * NS)) <= 1


@pytest.mark.parametrize("batch", [1, 7, 20])
def test_batches_and_blocks_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    init = feed.Feed.__init__

    def small_blocks(self: feed.Feed, stream: io.BufferedReader, block: int = 100) -> None:
        init(self, stream, min(block, 100))

    for content in (pcap(PACKETS), pcapng(PACKETS)):
        whole = read(tmp_path, content)
        with monkeypatch.context() as patch:
            patch.setattr(feed.Feed, "__init__", small_blocks)
            patch.setattr(feed, "LEAST_BYTES", 100)
            patch.setattr(feed, "MOST_BYTES", 800)
            got = read(tmp_path, content, batch)
        assert len(got) > 1
        assert max(len(f) for f in got) <= batch
        for name in ("ts", "caplen", "wirelen"):
            assert column(got, name) == column(whole, name)
        assert bodies(got) == bodies(whole)
        assert [f.now for f in got] == sorted(f.now for f in got)


def test_the_clock_never_runs_back(tmp_path: Path) -> None:
    late = struct.pack("<IIII", 9, 0, 1, 1) + b"x"
    early = struct.pack("<IIII", 3, 0, 1, 1) + b"y"
    got = read(tmp_path, pcap([]) + late + early, batch=1)
    assert column(got, "ts") == [9 * NS, 3 * NS]
    assert [f.now for f in got] == [9 * NS, 9 * NS]


def test_a_frame_larger_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "LEAST_BYTES", 100)
    big = [bytes(MAX_FRAME_BYTES), b"small"]
    assert bodies(read(tmp_path, pcap(big))) == big
    assert bodies(read(tmp_path, pcapng(big))) == big


def test_memory_stays_a_few_blocks(tmp_path: Path) -> None:
    """A capture of 80 MB (packed to nearly nothing) is read in a fraction of that."""
    record = struct.pack("<IIII", 1, 1, 1_000, 1_000) + bytes(1_000)
    path = tmp_path / "it"
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(pcap([]))
        for _ in range(80):
            out.write(record * 1_000)
    tracemalloc.start()
    packets = sum(len(frames) for frames in capture.read_frames(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert packets == 80_000
    assert peak < 5 * feed.MOST_BYTES  # four and the buffers of gzip, which grew in 3.13


# --- standard input --------------------------------------------------------------


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], io.BufferedWriter]]:
    """A pipe that stands for standard input; calling it returns the writing end."""
    reading, writing = os.pipe()
    text = io.TextIOWrapper(io.BufferedReader(io.FileIO(reading)))
    monkeypatch.setattr(sys, "stdin", text)
    out = open(writing, "wb")  # noqa: SIM115, PTH123 - it is a descriptor, closed below
    yield lambda: out
    out.close()
    text.close()


@pytest.mark.parametrize(
    "content", [pcap(PACKETS * 900), pcapng(PACKETS * 900), gzip.compress(pcap(PACKETS * 900))]
)
def test_standard_input(stdin: Callable[[], io.BufferedWriter], content: bytes) -> None:
    out = stdin()

    def write() -> None:
        out.write(content)
        out.close()

    writer = threading.Thread(target=write)
    writer.start()
    kind = capture.sniff("-")
    got = list(capture.read_frames("-"))
    writer.join()
    assert kind in ("pcap", "pcapng")
    assert bodies(got) == PACKETS * 900


def test_a_live_pipe_is_not_waited_for(stdin: Callable[[], io.BufferedWriter]) -> None:
    """`tcpdump -w - | guardian`: packets come out as they come in, long before the end."""
    out = stdin()
    content = pcap(PACKETS)
    out.write(content[:200])
    out.flush()
    frames = capture.read_frames("-")
    first = next(frames)
    assert 0 < len(first) < 20
    out.write(content[200:])
    out.close()
    assert bodies([first, *frames]) == PACKETS


# --- faults ---------------------------------------------------------------------


def test_a_pcap_cut_anywhere_gives_what_came_before(tmp_path: Path) -> None:
    packets = PACKETS[:4]
    whole = pcap(packets)
    ends = [24]
    for packet in packets:
        ends.append(ends[-1] + 16 + len(packet))
    for cut in range(1, len(whole)):
        got, fault = until_fault(tmp_path, whole[:cut])
        n = sum(end <= cut for end in ends[1:])
        assert bodies(got) == packets[:n]
        if cut in ends:
            assert not fault
        elif cut >= 24:
            assert f"cut off after packet {n} at byte {cut};" in fault
            assert "packets before it were read" in fault
        else:
            assert fault


def test_a_pcapng_cut_anywhere_gives_what_came_before(tmp_path: Path) -> None:
    packets = PACKETS[:4]
    whole = pcapng(packets)
    ends = [28, 48]
    for packet in packets:
        ends.append(ends[-1] + 32 + len(packet) + -len(packet) % 4)
    for cut in range(4, len(whole)):
        got, fault = until_fault(tmp_path, whole[:cut])
        n = sum(end <= cut for end in ends[2:])
        assert bodies(got) == packets[:n]
        assert (not fault) == (cut in ends)
        if fault:
            assert f"cut off after packet {n} at byte {cut};" in fault


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_cut_gzip_gives_what_came_before(
    tmp_path: Path, make: Callable[[list[bytes]], bytes]
) -> None:
    chance = Random(3)
    packets = [chance.randbytes(200) for _ in range(2_000)]
    packed = gzip.compress(make(packets))
    got, fault = until_fault(tmp_path, packed[: len(packed) // 2])
    n = len(bodies(got))
    assert 500 < n < 1_500
    assert bodies(got) == packets[:n]
    assert f"after packet {n}" in fault
    damaged = bytearray(packed)
    damaged[len(packed) // 2 : len(packed) // 2 + 100] = bytes(100)
    got, fault = until_fault(tmp_path, bytes(damaged))
    assert len(bodies(got)) > 500
    assert "after packet" in fault


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("claimed", [MAX_FRAME_BYTES + 1, 0xFFFFFFFF])
def test_a_record_that_claims_too_much_is_damage(tmp_path: Path, order: str, claimed: int) -> None:
    content = pcap(PACKETS[:3], order) + struct.pack(order + "IIII", 1, 1, claimed, claimed)
    got, fault = until_fault(tmp_path, content + bytes(600_000))
    assert bodies(got) == PACKETS[:3]
    assert "damaged after packet 3 at byte" in fault
    assert str(claimed) in fault


@pytest.mark.parametrize(
    "bad",
    [
        enhanced("<", 7, 1, b"of an interface that is not there"),
        block("<", 6, struct.pack("<IIIII", 0, 0, 0, 5_000, 5_000) + b"too short for that"),
        block("<", 6, bytes(4)),
        block("<", 3, b""),
        struct.pack("<II", 6, 0),
        struct.pack("<II", 5, 3),
        struct.pack("<II", 5, 0xFFFFFFF0),
        struct.pack("<II", 6, 0xFFFFFFF0),
        enhanced("<", 0, 1, b"its last length differs")[:-4] + b"\1\2\3\4",
        section()[:8] + b"none",
    ],
)
def test_a_block_that_contradicts_itself_is_damage(tmp_path: Path, bad: bytes) -> None:
    got, fault = until_fault(tmp_path, pcapng(PACKETS[:3]) + bad.ljust(64, b"\0"))
    assert bodies(got) == PACKETS[:3]
    assert "damaged after packet 3 at byte" in fault


@settings(max_examples=400)
@given(
    chance=st.randoms(use_true_random=False),
    content=st.sampled_from(
        [pcap(PACKETS), pcap(PACKETS, ">", nano=True), pcapng(PACKETS), pcapng(PACKETS, ">"),
         b"".join(everything("<")), b"".join(everything(">")),
         gzip.compress(pcap(PACKETS)), gzip.compress(pcapng(PACKETS)),
         gzip.compress(b"".join(everything(">")))]
    ),
)  # fmt: skip
def test_flipped_anywhere_it_never_raises_but_input_error(
    tmp_path: Path, chance: Random, content: bytes
) -> None:
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 10])):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    if chance.random() < 0.3:
        del damaged[chance.randrange(len(damaged)) :]
    got, _ = until_fault(tmp_path, bytes(damaged))
    for frames in got:
        assert len(frames) > 0
        assert frames.caplen.max() <= MAX_FRAME_BYTES
        assert frames.start.min() >= 0
        assert (frames.start + frames.caplen).max() <= len(frames.data)
        assert frames.ts.min() >= 0


# --- real captures ---------------------------------------------------------------


def test_counts_equal_a_second_reader_on_all_real_captures(data: Path) -> None:
    """scapy's reader counts the same packets, with the same bytes, in every capture."""
    from scapy.utils import RawPcapReader  # noqa: PLC0415

    captures = sorted(path for path in data.rglob("*.pcap*") if path.suffix != ".out")
    checked = packets = 0
    for path in filter(Path.is_file, captures):
        mine = sizes = 0
        for frames in capture.read_frames(path):
            mine += len(frames)
            sizes += int(frames.caplen.sum() + frames.wirelen.sum())
        theirs = their_sizes = 0
        with RawPcapReader(str(path)) as reader:
            for body, about in reader:
                theirs += 1
                their_sizes += len(body) + about.wirelen
        assert (mine, sizes) == (theirs, their_sizes), path
        checked += 1
        packets += mine
    assert checked > 500
    assert packets > 300_000


def test_times_equal_a_second_reader(data: Path) -> None:
    from scapy.utils import RawPcapReader  # noqa: PLC0415

    paths = ["mqttset/bruteforce-train.pcapng", "mqttset/benign-train.pcap"]
    for name in paths:
        ts = column(list(capture.read_frames(data / name)), "ts")
        theirs: list[int] = []
        with RawPcapReader(str(data / name)) as reader:
            for _, about in reader:
                theirs.append(their_time(about))
        assert ts == theirs


def their_time(about: Any) -> Any:
    """Nanoseconds of scapy's metadata, of either reader."""
    if hasattr(about, "tshigh"):
        return (about.tshigh << 32 | about.tslow) * NS // int(about.tsresol)
    return int(about.sec) * NS + int(about.usec) * 1_000


def test_blocks_fit_what_they_hold(tmp_path: Path) -> None:
    """Blocks grow while they hold few frames, and shrink where they hold too many for a batch."""
    path = tmp_path / "it"
    head = struct.pack("<IIII", 1, 1, 1_000, 1_000)
    small = struct.pack("<IIII", 1, 1, 0, 0) * 400_000
    path.write_bytes(pcap([]) + (head + bytes(1_000)) * 12_000 + small)
    blocks = [len(f.data) - feed.SPARE_BYTES for f in capture.read_frames(path, batch=8_192)]
    assert blocks[0] == feed.LEAST_BYTES
    assert max(blocks) >= 2 * feed.LEAST_BYTES
    assert min(blocks[-20:-1]) < max(blocks)
    assert sum(len(f) for f in capture.read_frames(path, batch=8_192)) == 412_000
