"""Programs for the kernel's packet filter: from tcpdump's text, and against packets seen twice.

What they refuse never enters the ring. The layout of a program is in bpf(4) and in the kernel's
Documentation/networking/filter.rst.
"""

from __future__ import annotations

import ctypes
import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from guardian.errors import CaptureError, ConfigError

Instruction = tuple[int, int, int, int]
"""One instruction of a classic BPF program: code, jump if true, jump if false, constant."""
Program = tuple[Instruction, ...]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NOTHING: Program = ((6, 0, 0, 0),)
"""Lets no frame in."""

_LOAD, _AND, _EQUAL, _JUMP, _RETURN = 0x20, 0x54, 0x15, 0x05, 0x06
_PROTOCOL, _PACKET_TYPE, _NETWORK_HEADER = 0xFFFFF000, 0xFFFFF004, 0xFFF00000
"""Where the kernel shows what it knows of a frame besides its bytes, and its network header."""
_OUTGOING = 4
_SOURCE = {4: (0x0800, 12), 6: (0x86DD, 8)}
"""IP version -> EtherType, offset of the source address in its header."""
_NO_NETMASK = 0xFFFFFFFF
_DLT_ETHERNET, _DLT_RAW = 1, 12


def whole(snaplen: int) -> Program:
    """Return the program that lets each frame in, cut to snaplen bytes."""
    return ((_RETURN, 0, 0, snaplen),)


def compiled(text: str, interface: str, snaplen: int, *, ethernet: bool) -> Program:
    """Return the program of a filter in tcpdump's words; what it lets in is cut to snaplen.

    Raises ConfigError where the text is wrong, CaptureError where libpcap is missing.
    """
    try:
        import scapy.libs.winpcapy as pcap  # noqa: PLC0415 - only where a filter is given
    except (ImportError, OSError) as error:
        raise CaptureError(
            f"capture.filter needs libpcap, which cannot be had here ({error}): install it "
            "(Debian: libpcap0.8) or leave the filter empty"
        ) from error
    fault = ctypes.create_string_buffer(pcap.PCAP_ERRBUF_SIZE)
    handle = None
    if ethernet:
        # Asked on the interface itself, `vlan` looks where the kernel puts the tag.
        handle = pcap.pcap_open_live(interface.encode(), snaplen, 0, 100, fault)
    if not handle:
        handle = pcap.pcap_open_dead(_DLT_ETHERNET if ethernet else _DLT_RAW, snaplen)
    try:
        program = pcap.bpf_program()
        said = ctypes.create_string_buffer(text.encode())
        if pcap.pcap_compile(handle, ctypes.byref(program), said, 1, _NO_NETMASK):
            why = bytes(ctypes.cast(pcap.pcap_geterr(handle), ctypes.c_char_p).value or b"")
            raise ConfigError(
                f"capture.filter {text!r} is no filter as tcpdump takes it "
                f"({why.decode(errors='replace')}): see `man pcap-filter`"
            )
        found = tuple(_instructions(program))
        pcap.pcap_freecode(ctypes.byref(program))
        return found
    finally:
        pcap.pcap_close(handle)


def _instructions(program: Any) -> Iterator[Instruction]:
    for i in range(program.bf_len):
        one = program.bf_insns[i]
        yield one.code, one.jt, one.jf, one.k & 0xFFFFFFFF


def not_routed(elsewhere: Iterable[Network], own: Iterable[str], then: Program) -> Program:
    """Return a program that goes on with `then`, without what was seen before it was routed.

    That is what this machine sends out for others whose networks, `elsewhere`, it watches on
    another interface: it saw the packet come in there. `own` are its own addresses.
    """
    nets = [net for net in elsewhere if not net.is_link_local]
    if not nets:
        return then
    kept = [ipaddress.ip_network(address) for address in own]
    # None is a jump out of here, to `then`.
    flat: list[Instruction | None] = [
        (_LOAD, 0, 0, _PACKET_TYPE),
        (_EQUAL, 1, 0, _OUTGOING),
        None,
    ]
    for version, (kind, at) in _SOURCE.items():
        tests: list[Instruction | None] = []
        for net in kept:
            if net.version == version:
                tests += [*_inside(net, at, 1), None]
        for net in nets:
            if net.version == version:
                tests += [*_inside(net, at, 1), *NOTHING]
        flat += [(_LOAD, 0, 0, _PROTOCOL), (_EQUAL, 1, 0, kind), (_JUMP, 0, 0, len(tests))]
        flat += tests
    ahead = [(_JUMP, 0, 0, len(flat) - i - 1) if one is None else one for i, one in enumerate(flat)]
    return (*ahead, *then)


def _inside(net: Network, at: int, over: int) -> list[Instruction]:
    """Return the test for a source address: outside the network it jumps over what follows."""
    words = len(net.network_address.packed) // 4
    parts: list[tuple[int, int, int]] = []
    for i in range(words):
        low = slice(4 * i, 4 * i + 4)
        mask = int.from_bytes(net.netmask.packed[low], "big")
        if mask:
            parts.append((4 * i, mask, int.from_bytes(net.network_address.packed[low], "big")))
    out: list[Instruction] = []
    for number, (offset, mask, value) in enumerate(parts):
        left = 3 * (len(parts) - number - 1) + over
        out += [
            (_LOAD, 0, 0, _NETWORK_HEADER + at + offset),
            (_AND, 0, 0, mask),
            (_EQUAL, 0, left, value),
        ]
    return out
