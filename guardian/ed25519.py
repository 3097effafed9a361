"""Ed25519 signatures (RFC 8032), verified in plain Python: nothing secret passes through here.

A bundle's manifest is verified once, before it is loaded; that takes some milliseconds. Signing is
left to minisign or to the workstation (trainer/sign.py). docs/decisions.md says why this is not
a library's work.
"""

from __future__ import annotations

import hashlib

P = 2**255 - 19
"""The field."""
L = 2**252 + 27742317777372353535851937790883648493
"""The order of the base point."""
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
"""A square root of -1."""

Point = tuple[int, int, int, int]
"""(X, Y, Z, T) with x = X/Z, y = Y/Z, x y = T/Z, on -x^2 + y^2 = 1 + D x^2 y^2."""
ZERO: Point = (0, 1, 1, 0)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature of 64 bytes is the one of a message by a public key of 32."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, r = decoded(public), decoded(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or r is None or s >= L:
        return False
    # A key of small order would bless any message: it is no key.
    if same(multiplied(8, key), ZERO):
        return False
    h = challenge(signature[:32], public, message)
    return same(multiplied(s, BASE), added(r, multiplied(h, key)))


def challenge(r: bytes, public: bytes, message: bytes) -> int:
    """Return the number that binds a signature to its message."""
    return int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % L


def added(a: Point, b: Point) -> Point:
    """Return the sum; it holds for equal points and for zero, too."""
    u, v = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    w, z = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = v - u, z - w, z + w, v + u
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiplied(n: int, point: Point) -> Point:
    """Return n times a point."""
    out = ZERO
    while n:
        if n & 1:
            out = added(out, point)
        point = added(point, point)
        n >>= 1
    return out


def same(a: Point, b: Point) -> bool:
    """Tell whether two points are one."""
    return not ((a[0] * b[2] - b[0] * a[2]) % P or (a[1] * b[2] - b[1] * a[2]) % P)


def encoded(point: Point) -> bytes:
    """Return the 32 bytes of a point: y, and the lowest bit of x above it."""
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decoded(raw: bytes) -> Point | None:
    """Return the point of 32 bytes; None where they are none, or not written as they must be."""
    number = int.from_bytes(raw, "little")
    y, odd = number & ((1 << 255) - 1), number >> 255
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and odd):
        return None
    if x & 1 != odd:
        x = P - x
    return (x, y, 1, x * y % P)


_base = decoded((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
assert _base is not None
BASE: Point = _base
