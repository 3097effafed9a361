"""QUIC Initial packets made for the tests: sealed as a client seals them."""

from __future__ import annotations

import numpy as np

from guardian import aes, quic

V1, V2, DRAFT_29 = 1, 0x6B3343CF, 0xFF00001D
FIRST_ID = bytes.fromhex("8394c8f03e515708")
PADDED = 1_162


def number(value: int) -> bytes:
    """Return a number of variable length, in two bytes."""
    return (0x4000 | value).to_bytes(2, "big")


def crypto(offset: int, data: bytes) -> bytes:
    return b"\x06" + number(offset) + number(len(data)) + data


def sealed(
    frames: bytes,
    version: int = V1,
    to: bytes = FIRST_ID,
    first_id: bytes = b"",
    pn: int = 2,
    token: bytes = b"",
) -> bytes:
    """Return a client's Initial packet with frames, padded to 1,200 bytes as they are sent.

    first_id: what the keys are made of, if it is not the id that the packet is sent to.
    """
    keys = quic.keys_of(version, first_id or to)
    frames = frames.ljust(PADDED, b"\x00")
    first = (0xD3 if version == V2 else 0xC3).to_bytes(1, "big")
    head = first + version.to_bytes(4, "big") + bytes([len(to)]) + to + b"\x00"
    head += (number(len(token)) if token else b"\x00") + token
    head += number(4 + len(frames) + 16)
    at = len(head)
    head += pn.to_bytes(4, "big")
    nonce = (int.from_bytes(keys.nonce, "big") ^ pn).to_bytes(12, "big")
    text = aes.unmasked(keys.text, nonce, frames)
    blocks = np.zeros((2, 16), dtype=np.uint8)
    blocks[1] = np.frombuffer(nonce + b"\x00\x00\x00\x01", dtype=np.uint8)
    point, mask = aes.encrypt(keys.text, blocks)
    sizes = (8 * len(head)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    padded = head + bytes(-len(head) % 16) + text + bytes(-len(text) % 16) + sizes
    tag = bytes(
        a ^ b for a, b in zip(aes.ghash(point.tobytes(), padded), mask.tolist(), strict=True)
    )
    packet = bytearray(head + text + tag)
    sample = np.frombuffer(bytes(packet[at + 4 : at + 20]), dtype=np.uint8).reshape(1, 16)
    hidden = aes.encrypt(keys.header, sample)[0].tolist()
    packet[0] ^= hidden[0] & 0x0F
    for i in range(4):
        packet[at + i] ^= hidden[1 + i]
    return bytes(packet)
