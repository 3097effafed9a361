"""AES-128 and its Galois mode against the vectors of the standards, and a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import aes


def one(key: str, block: str) -> str:
    blocks = np.frombuffer(bytes.fromhex(block), dtype=np.uint8).reshape(1, 16)
    return aes.encrypt(aes.schedule(bytes.fromhex(key)), blocks).tobytes().hex()


@pytest.mark.parametrize(
    ("key", "block", "sealed"),
    [
        # FIPS 197, appendices B and C.1
        ("2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734",
         "3925841d02dc09fbdc118597196a0b32"),
        ("000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff",
         "69c4e0d86a7b0430d8cdb78070b4c55a"),
        # SP 800-38A, F.1.1, first and last block
        ("2b7e151628aed2a6abf7158809cf4f3c", "6bc1bee22e409f96e93d7e117393172a",
         "3ad77bb40d7a3660a89ecaf32466ef97"),
        ("2b7e151628aed2a6abf7158809cf4f3c", "f69f2445df4f9b17ad2b417be66c3710",
         "7b0c785e27e8ad3f8223207104725dd4"),
    ],
)  # fmt: skip
def test_blocks_of_the_standards(key: str, block: str, sealed: str) -> None:
    assert one(key, block) == sealed


def test_the_schedule_of_the_standard() -> None:
    """FIPS 197, A.1: the last round's key."""
    keys = aes.schedule(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    assert keys[10].tobytes().hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"


@pytest.mark.parametrize(
    ("key", "nonce", "head", "text", "sealed", "tag"),
    [
        # The test cases 1, 2 and 4 of the mode's specification
        ("00" * 16, "00" * 12, "", "", "", "58e2fccefa7e3061367f1d57a4e7455a"),
        ("00" * 16, "00" * 12, "", "00" * 16, "0388dace60b6a392f328c2b971b2fe78",
         "ab6e47d42cec13bdf53a67b21257bddf"),
        ("feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
         "feedfacedeadbeeffeedfacedeadbeefabaddad2",
         "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24"
         "49a6b525b16aedf5aa0de657ba637b39",
         "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5a"
         "ac84aa051ba30b396a0aac973d58e091",
         "5bc94fbc3221a5db94fae95ae7121a47"),
    ],
)  # fmt: skip
def test_galois_mode(key: str, nonce: str, head: str, text: str, sealed: str, tag: str) -> None:
    keys, n, h = aes.schedule(bytes.fromhex(key)), bytes.fromhex(nonce), bytes.fromhex(head)
    whole = bytes.fromhex(sealed + tag)
    assert aes.unsealed(keys, n, h, whole) == bytes.fromhex(text)
    assert aes.unmasked(keys, n, bytes.fromhex(sealed)[:5]) == bytes.fromhex(text)[:5]
    for i in range(len(whole)):
        assert aes.unsealed(keys, n, h, whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :]) is None
    assert aes.unsealed(keys, n, h + b"x", whole) is None


def slow_product(a: int, b: int) -> int:
    """Multiply in GF(2^128) bit by bit, as the specification writes it: bit 127 is x^0."""
    product = 0
    for i in range(127, -1, -1):
        if a >> i & 1:
            product ^= b
        b = b >> 1 ^ (0xE1 << 120 if b & 1 else 0)
    return product


@settings(max_examples=30)
@given(st.binary(min_size=16, max_size=16), st.lists(st.binary(min_size=16, max_size=16)))
def test_the_hash_equals_its_slow_twin(key: bytes, blocks: list[bytes]) -> None:
    value = 0
    for block in blocks:
        value = slow_product(value ^ int.from_bytes(block, "big"), int.from_bytes(key, "big"))
    assert aes.ghash(key, b"".join(blocks)) == value.to_bytes(16, "big")


@settings(max_examples=20)
@given(st.binary(min_size=16, max_size=16), st.lists(st.binary(min_size=16, max_size=16)))
def test_many_blocks_are_each_alone(key: bytes, blocks: list[bytes]) -> None:
    keys = aes.schedule(key)
    many = np.frombuffer(b"".join(blocks), dtype=np.uint8).reshape(-1, 16)
    alone = [one(key.hex(), block.hex()) for block in blocks]
    assert [row.tobytes().hex() for row in aes.encrypt(keys, many)] == alone
