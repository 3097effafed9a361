"""Which plain rule may want a slice: told for a whole step at once, so that most cost nothing."""

from __future__ import annotations

import numpy as np

from guardian.facts import FAILED
from guardian.tables import I64, Array, Conns

NOTHING, DNS, MESSAGES, MINING, REFUSED, KNOCK, SILENT, ANSWERED, OUTSIDE = range(9)
"""A question of DNS by UDP; much in an MQTT connection; a miner's words; a login that an MQTT
broker refused; a session that a machine outside opened where passwords are asked; TCP that nobody
answered; a new TCP connection within the home that was answered, and any outside."""

MANY_BYTES = 4_096
"""Less of an MQTT connection in a slice is not counted."""

MINERS = (b"stratum", b"monero")
"""Services that only coin miners and their network speak."""

ASKING = (b"ssh", b"ftp", b"telnet", b"rdp", b"rfb")
"""Services that ask for a password."""

_TCP, _UDP, _DNS_PORT = 6, 17, 53


def clues(slices: Conns, row: I64) -> Array:
    """Return int8[n]: what each of these rows of the slices may be wanted for, by the originator's
    side."""
    proto, service = slices.proto[row], slices.service[row]
    silent = np.isin(slices.conn_state[row], list(FAILED))
    first = slices.piece[row] == 0
    tcp = proto == _TCP
    out = np.zeros(len(row), dtype=np.int8)
    out[tcp & ~silent & first] = ANSWERED
    out[tcp & ~silent & ~slices.local_resp[row]] = OUTSIDE
    out[tcp & silent & first] = SILENT
    out[(proto == _UDP) & (slices.resp_p[row] == _DNS_PORT)] = DNS
    named = service != b""
    if named.any():
        mqtt = service == b"mqtt"
        if mqtt.any():
            out[mqtt & first & slices.refused[row]] = REFUSED
            out[mqtt & (slices.orig_bytes[row] >= MANY_BYTES)] = MESSAGES
        out[first & ~slices.local_orig[row] & np.isin(service, ASKING)] = KNOCK
        for miner in MINERS:
            out[service == miner] = MINING
    return out
