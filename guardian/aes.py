"""AES-128 over many blocks at once (FIPS 197), and its Galois mode (SP 800-38D).

Only to read what QUIC hides under keys that everybody on the path can make (quic.py). It must not
guard a secret: the time that it takes depends on the key.
"""

from __future__ import annotations

import struct

import numpy as np

from guardian.tables import U8, U32

BLOCK = 16
TAG = 16
ROUNDS = 10

Schedule = U32
"""uint32[11, 4]: the round keys, each word in the byte order of memory."""


def _doubled(n: int) -> int:
    return n << 1 ^ (0x11B if n & 0x80 else 0)


def _sbox() -> list[int]:
    """Return the substitution: the inverse in GF(2^8), then an affine map."""
    logs, powers, n = [0] * 256, [0] * 255, 1
    for i in range(255):
        logs[n], powers[i] = i, n
        n ^= _doubled(n)  # times 3, which generates the group
    box = [0x63]
    for byte in range(1, 256):
        inverse = powers[-logs[byte] % 255]
        turns = inverse ^ inverse << 1 ^ inverse << 2 ^ inverse << 3 ^ inverse << 4
        box.append((turns ^ turns >> 8) & 0xFF ^ 0x63)
    return box


_BOX = _sbox()
_SUB = np.array(_BOX, dtype=np.uint8)


def _columns() -> U32:
    """Return uint32[4 * 256]: what a byte in row r of a column makes of the whole column."""
    tables = np.zeros((4, 256, 4), dtype=np.uint8)
    for byte, s in enumerate(_BOX):
        two = _doubled(s) & 0xFF
        column = [two, s, s, two ^ s]
        for r in range(4):
            tables[r, byte] = column[-r:] + column[:-r] if r else column
    return tables.reshape(1024, 4).view(np.uint32).ravel()


_MIX = _columns()
_MIXES = _MIX.view("<u4").reshape(4, 256).tolist()
_SHIFT = np.array([(i + 4 * (i % 4)) % 16 for i in range(16)])
"""Where the byte at each place comes from when the rows shift."""
_ROW = np.tile(np.arange(4, dtype=np.int16) * 256, 4)


def schedule(key: bytes) -> Schedule:
    """Return the round keys of a key of 16 bytes."""
    a, b, c, d = struct.unpack("<4I", key)
    words, constant = [a, b, c, d], 1
    for _ in range(ROUNDS):
        a ^= _BOX[d >> 8 & 255] ^ constant | _BOX[d >> 16 & 255] << 8
        a ^= _BOX[d >> 24] << 16 | _BOX[d & 255] << 24
        b ^= a
        c ^= b
        d ^= c
        words += (a, b, c, d)
        constant = _doubled(constant)
    return np.array(words, dtype="<u4").view(np.uint32).reshape(ROUNDS + 1, 4)


def encrypt(keys: Schedule, blocks: U8) -> U8:
    """Return blocks, uint8[n, 16], each encrypted for itself."""
    state = (blocks.view(np.uint32) ^ keys[0]).view(np.uint8)
    for key in keys[1:ROUNDS]:
        mixed = _MIX.take(state.take(_SHIFT, axis=1) + _ROW)
        words = mixed[:, 0::4] ^ mixed[:, 1::4]
        words ^= mixed[:, 2::4]
        words ^= mixed[:, 3::4]
        words ^= key
        state = words.view(np.uint8)
    last: U32 = _SUB.take(state.take(_SHIFT, axis=1)).view(np.uint32) ^ keys[ROUNDS]
    return last.view(np.uint8)


def encrypt_one(keys: Schedule, block: bytes) -> bytes:
    """Return a block encrypted; for one alone this is quicker than encrypt()."""
    words = keys.ravel().view("<u4").tolist()
    a, b, c, d = struct.unpack("<4I", block)
    a, b, c, d = a ^ words[0], b ^ words[1], c ^ words[2], d ^ words[3]
    m, n, o, p = _MIXES
    for k in range(4, 4 * ROUNDS, 4):
        a, b, c, d = (
            m[a & 255] ^ n[b >> 8 & 255] ^ o[c >> 16 & 255] ^ p[d >> 24] ^ words[k],
            m[b & 255] ^ n[c >> 8 & 255] ^ o[d >> 16 & 255] ^ p[a >> 24] ^ words[k + 1],
            m[c & 255] ^ n[d >> 8 & 255] ^ o[a >> 16 & 255] ^ p[b >> 24] ^ words[k + 2],
            m[d & 255] ^ n[a >> 8 & 255] ^ o[b >> 16 & 255] ^ p[c >> 24] ^ words[k + 3],
        )
    box = _BOX
    last = (
        box[w & 255] | box[x >> 8 & 255] << 8 | box[y >> 16 & 255] << 16 | box[z >> 24] << 24
        for w, x, y, z in ((a, b, c, d), (b, c, d, a), (c, d, a, b), (d, a, b, c))
    )
    return struct.pack("<4I", *(x ^ y for x, y in zip(last, words[-4:], strict=True)))


def unsealed(keys: Schedule, nonce: bytes, head: bytes, sealed: bytes) -> bytes | None:
    """Return a text that was sealed in Galois mode, None where its tag does not vouch for it.

    nonce: 12 bytes; head: what was sent in the clear beside it; sealed: the text, and its tag.
    """
    text, tag = sealed[:-TAG], sealed[-TAG:]
    stream = encrypt(keys, _counters(nonce, len(text)))
    sizes = (8 * len(head)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    hashed = ghash(stream[0].tobytes(), _padded(head) + _padded(text) + sizes)
    if _xor(stream[1], hashed) != tag:
        return None
    return _xor(stream[2:], text)


def unmasked(keys: Schedule, nonce: bytes, text: bytes) -> bytes:
    """Return the first bytes of a sealed text whose end, with the tag, was cut off."""
    return _xor(encrypt(keys, _counters(nonce, len(text)))[2:], text)


def first_byte(keys: Schedule, nonce: bytes, sealed: bytes) -> int:
    """Return the first byte of a sealed text, whether its tag vouches for it or not."""
    return encrypt_one(keys, nonce + b"\0\0\0\2")[0] ^ sealed[0]


def _counters(nonce: bytes, size: int) -> U8:
    """Return the blocks that make the hash's key, the tag's mask, and that of a text's bytes."""
    n = 2 + -(-size // BLOCK)
    blocks = np.zeros((n, BLOCK), dtype=np.uint8)
    blocks[1:, :12] = np.frombuffer(nonce, dtype=np.uint8)
    blocks[1:, 12:] = np.arange(1, n, dtype=">u4").view(np.uint8).reshape(n - 1, 4)
    return blocks


def _xor(stream: U8, data: bytes) -> bytes:
    mixed: U8 = stream.ravel()[: len(data)] ^ np.frombuffer(data, dtype=np.uint8)
    return mixed.tobytes()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


# A polynomial over GF(2) is an integer with a byte for each coefficient: a product of integers
# is then one of polynomials, since no sum of 128 bits fills its byte.
_DEGREE = 8 * 128
_BELOW = (1 << _DEGREE) - 1
_ODD = int.from_bytes(b"\x01" * 256, "little")


def ghash(key: bytes, data: bytes) -> bytes:
    """Return the hash of whole blocks: a polynomial of them at the point key, in GF(2^128)."""
    point = int.from_bytes(_bits(key), "little")
    bits, value = _bits(data), 0
    for at in range(0, len(bits), 128):
        value ^= int.from_bytes(bits[at : at + 128], "little")
        value = _folded(_folded(value * point & _ODD))
    hashed: U8 = np.packbits(np.frombuffer(value.to_bytes(128, "little"), dtype=np.uint8))
    return hashed.tobytes()


def _bits(data: bytes) -> bytes:
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8)).tobytes()


def _folded(value: int) -> int:
    """Replace x^128 by x^7 + x^2 + x + 1."""
    high = value >> _DEGREE
    return value & _BELOW ^ high ^ high << 8 ^ high << 16 ^ high << 56
