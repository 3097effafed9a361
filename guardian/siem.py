"""An incident in the words of other tools: Suricata's EVE-JSON, a line of syslog, a push's text."""

from __future__ import annotations

import os
import socket
import zlib
from datetime import datetime, timezone
from typing import Any

import guardian
from guardian.names import printable
from guardian.outbox import encode

Payload = dict[str, Any]

SIGNATURES = ("scan", "c2", "flood", "brute-force", "download", "other", "unusual")
"""Causes in order of their signature_id, from FIRST_ID on; never renumber."""
FIRST_ID = 9_600_001
"""Above 9,000,000 signatures are for local use."""

EVE_SEVERITY = {"high": 1, "medium": 2, "low": 3}
"""Suricata's: 1 is worst."""

FACILITY = 13
"""Syslog's `log audit`."""
SYSLOG_SEVERITY = {"high": 2, "medium": 4, "low": 5}
"""critical, warning, notice; what is over is 6, informational."""

MAX_SYSLOG = 2_048
"""Bytes of a message: what every receiver takes (RFC 5424 asks for it)."""


def eve(incident: Payload) -> str:
    """Return a line of EVE-JSON, an alert with all of the incident below `guardian`."""
    peer = incident["peers"][0] if incident["peers"] else {}
    cause = incident["cause"]
    number = SIGNATURES.index(cause) if cause in SIGNATURES else len(SIGNATURES)
    out: Payload = {
        "timestamp": datetime.fromtimestamp(incident["updated"], timezone.utc).strftime(
            "%Y-%m-%dT%H:%M:%S.%f+0000"
        ),
        # The same for all that is told of an incident; 53 bits, which JSON keeps everywhere.
        "flow_id": zlib.crc32(incident["id"].encode()) << 16,
        "event_type": "alert",
        "src_ip": incident["device"]["ip"],
        "dest_ip": peer.get("ip", ""),
        "dest_port": peer.get("port", 0),
        "proto": str(peer.get("proto", "")).upper(),
        "host": socket.gethostname(),
        "alert": {
            "action": "allowed",
            "gid": 1,
            "signature_id": FIRST_ID + number,
            "rev": 1,
            "signature": f"GUARDIAN {cause} {incident['event_type']}",
            "category": cause,
            "severity": EVE_SEVERITY.get(incident["severity"], 3),
        },
        "guardian": incident,
    }
    if incident["device"]["mac"]:
        out["ether"] = {"src_mac": incident["device"]["mac"]}
    return encode(out)


def sentence(incident: Payload) -> str:
    """Return an incident in one line for a person."""
    name = printable(str(incident["device"]["name"]), 64)
    said = incident["event_type"] + (", from earlier" if incident.get("late") else "")
    drill = "DRILL " if incident.get("drill") else ""
    told = "" if incident["event_type"] == "closed" else f": {incident['explanation']}"
    return printable(
        f"{drill}{name}: {incident['cause']} ({incident['severity']}) {said}{told}", 1_200
    )


def syslog(incident: Payload, form: str) -> bytes:
    """Return a message of RFC 5424; `form` is `text` or `eve`."""
    closed = incident["event_type"] == "closed"
    severity = 6 if closed else SYSLOG_SEVERITY.get(incident["severity"], 5)
    moment = datetime.fromtimestamp(incident["updated"], timezone.utc)
    host = printable(socket.gethostname(), 255).replace(" ", "-") or "-"
    head = (
        f"<{FACILITY * 8 + severity}>1 {moment:%Y-%m-%dT%H:%M:%S.%f}Z {host} guardian "
        f"{os.getpid()} incident - "
    )
    if form == "eve":
        return (head + eve(incident)).encode("ascii")
    # A byte order mark says that UTF-8 follows.
    text = head.encode("ascii", "replace") + b"\xef\xbb\xbf" + sentence(incident).encode()
    return text[:MAX_SYSLOG].decode("utf-8", "ignore").encode()


def push(incident: Payload) -> tuple[str, str]:
    """Return title and text for a phone."""
    name = printable(str(incident["device"]["name"]), 64)
    drill = "Drill: " if incident.get("drill") else ""
    late = ", from earlier" if incident.get("late") else ""
    title = f"{drill}{name}: {incident['cause']} ({incident['severity']}){late}"
    return title, printable(f"{incident['explanation']} {incident['advice']}", 1_500)


USER_AGENT = f"Guardian/{guardian.__version__}"
