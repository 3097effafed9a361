"""What miners of coins and their network say first; Zeek has no names for it."""

from __future__ import annotations

import re

_LEVIN = b"\x01\x21\x01\x01\x01\x01\x01\x01"
"""Begins each message of the Monero network and its relatives."""

_STRATUM = re.compile(
    rb'\{[^\r\n]{0,300}"method"\s?:\s?"(?:mining\.(?:subscribe|authorize|configure)"'
    rb'|eth_submitLogin"|login"[^\r\n]{0,300}"(?:login|agent)"\s?:)'
)
"""A miner that signs on at a pool; some put the parameters first."""


def mining(asking: bool, payload: bytes) -> bytes:
    """Return stratum or monero where a payload shows it, else nothing."""
    if payload.startswith(_LEVIN):
        return b"monero"
    return b"stratum" if asking and payload[:1] == b"{" and _STRATUM.match(payload) else b""
