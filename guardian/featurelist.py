"""The features of a slice: their names, order, groups, ranges, and words for a person.

The order is part of every bundle: a change here asks for a new bundle. docs/features.md is
this list as a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from guardian.const import CAP_AGE_S, CAP_PAIR_COUNT, CAP_WINDOW_COUNT, MAX_AMOUNT

Unit = Literal["seconds", "bytes", "packets", "count", "rate", "flag", "share", "times", "spread",
               "circle"]  # fmt: skip

AGE_SCALE = 10.0
"""Durations are log1p(10 s): fine enough below a second, too coarse for a network's latency."""
GAP_SCALE = 100.0
"""Gaps are log1p(100 s): a flood's milliseconds differ from a scan's tenths."""
MAX_RELATIVE = 5.0
"""Logarithms against a device's own maximum are cut here (a factor of 148)."""
MAX_SPREAD = 10.0
_AGE = math.log1p(AGE_SCALE * CAP_AGE_S)
_GAP = math.log1p(GAP_SCALE * CAP_AGE_S)
_WINDOW = math.log1p(CAP_WINDOW_COUNT)
_PAIR = math.log1p(CAP_PAIR_COUNT)
_AMOUNT = math.log1p(MAX_AMOUNT)


@dataclass(frozen=True)
class Feature:
    """One column of FeatureRows.x."""

    name: str
    group: str
    text: str
    """A phrase a person understands."""
    unit: Unit
    low: float = 0.0
    high: float = 1.0
    scale: float = 1.0
    """The raw value is log1p(scale * amount) where the unit is an amount."""


def _amount(name: str, group: str, text: str, unit: Unit, high: float = _AMOUNT) -> Feature:
    return Feature(name, group, text, unit, 0.0, high)


def _flag(name: str, text: str) -> Feature:
    return Feature(name, "raw", text, "flag")


def _gap(name: str, group: str, text: str) -> Feature:
    return Feature(name, group, text, "seconds", 0.0, _GAP, GAP_SCALE)


def _relative(name: str, text: str) -> Feature:
    return Feature(name, "relative", text, "times", -MAX_RELATIVE, MAX_RELATIVE)


FEATURES: tuple[Feature, ...] = (
    Feature("duration", "raw", "time the connection was busy", "seconds", 0.0, _AGE, AGE_SCALE),
    _amount("bytes_out", "raw", "amount sent by the device", "bytes"),
    _amount("bytes_in", "raw", "amount sent to the device", "bytes"),
    _amount("packets_out", "raw", "packets sent by the device", "packets"),
    _amount("packets_in", "raw", "packets sent to the device", "packets"),
    _amount("packet_size_out", "raw", "size of a packet sent by the device", "bytes"),
    _amount("packet_size_in", "raw", "size of a packet sent to the device", "bytes"),
    _amount("byte_rate_out", "raw", "bytes a second sent by the device", "rate"),
    _amount("packet_rate", "raw", "packets a second", "rate"),
    _flag("tcp", "a TCP connection"),
    _flag("udp", "a UDP exchange"),
    _flag("icmp", "an ICMP exchange (ping and the like)"),
    _flag("state_done", "a connection that was answered and ended as it should"),
    _flag("state_open", "a connection that was answered and is still open"),
    _flag("state_unanswered", "a connection that nobody answered"),
    _flag("state_refused", "a connection that was refused"),
    _flag("state_reset", "a connection that was broken off"),
    _flag("failed", "a connection that failed"),
    _flag("inbound", "a connection that another machine opened to the device"),
    _flag("peer_local", "the other side is in the home"),
    _flag("peer_multicast", "sent to many at once (multicast or broadcast)"),
    _flag("service_dns", "a name look-up (DNS)"),
    _flag("service_http", "plain web traffic (HTTP)"),
    _flag("service_tls", "encrypted traffic (TLS)"),
    _flag("service_other", "a service such as SSH, mail, chat or file transfer"),
    _flag("port_web", "a web port (80, 443 and their like)"),
    _flag("port_dns", "a port of name look-ups (53, 853)"),
    _flag("port_ntp", "the port of clocks (123)"),
    _flag("port_mail", "a mail port"),
    _flag("port_admin", "a port of remote control (telnet, SSH, remote desktop, file shares)"),
    _flag("port_iot", "a port of smart-home traffic (MQTT, CoAP, video, vendors' own)"),
    _flag("port_infra", "a port by which a network finds itself (DHCP, mDNS, SSDP)"),
    _flag("port_high", "a port above 1023 without a usual meaning"),
    _flag("retransmitted", "packets were sent again"),
    _flag("midstream", "the connection's beginning was not seen"),
    Feature("age", "raw", "time since the connection opened", "seconds", 0.0, _AGE, AGE_SCALE),
    _flag("update", "a later report of a connection that is still going on"),
    Feature("hour_sin", "hour", "time of day (sine)", "circle", -1.0),
    Feature("hour_cos", "hour", "time of day (cosine)", "circle", -1.0),
    _gap("gap_device", "gaps", "time since the device's previous connection"),
    _gap("gap_pair", "gaps", "time since the device last called this destination and port"),
    _gap("gap_port", "gaps", "time since the device last used this port anywhere"),
    _gap("pair_gap_median", "pair", "usual time between calls to this destination and port"),
    Feature("pair_regular", "pair", "how exactly the call kept its usual interval", "share"),
    Feature("pair_equal", "pair", "share of calls to this destination of exactly this size",
            "share"),
    Feature("pair_spread", "pair", "how much the sizes of calls to this destination differ",
            "spread", 0.0, MAX_SPREAD),
    Feature("pair_failed", "pair", "share of calls to this destination that failed", "share"),
    _amount("pair_fail_run", "pair", "failed calls to this destination in a row", "count", _PAIR),
    _amount("pair_count", "pair", "calls to this destination and port so far", "count", _PAIR),
    Feature("pair_new", "pair", "a destination and port it never called before", "flag"),
    _amount("minute_conns", "context", "connections in the last minute", "count", _WINDOW),
    _amount("minute_peers", "context", "different destinations in the last minute", "count",
            _WINDOW),
    _amount("minute_ports", "context", "different ports in the last minute", "count", _WINDOW),
    Feature("minute_failed", "context", "share of failed connections in the last minute", "share"),
    _amount("minute_new_peers", "context", "new destinations in the last minute", "count",
            _WINDOW),
    _amount("minute_local_peers", "context", "different machines of the home in the last minute",
            "count", _WINDOW),
    _amount("minute_bytes_out", "context", "amount sent by the device in the last minute",
            "bytes"),
    _amount("minute_bytes_in", "context", "amount sent to the device in the last minute", "bytes"),
    _amount("long_conns", "context", "connections in the last ten minutes", "count", _WINDOW),
    _amount("long_peers", "context", "different destinations in the last ten minutes", "count",
            _WINDOW),
    Feature("long_failed", "context", "share of failed connections in the last ten minutes",
            "share"),
    _amount("long_new_peers", "context", "new destinations in the last ten minutes", "count",
            _WINDOW),
    _relative("relative_conns", "connections in the last minute against its own past maximum"),
    _relative("relative_peers", "destinations in the last minute against its own past maximum"),
    _relative("relative_ports", "ports in the last minute against its own past maximum"),
    _relative("relative_failed", "failures in the last minute against its own past maximum"),
    _relative("relative_bytes_out",
              "amount sent in the last minute against its own past maximum"),
)  # fmt: skip

NAMES: tuple[str, ...] = tuple(f.name for f in FEATURES)
"""The order of FeatureRows.x."""
TEXTS: dict[str, str] = {f.name: f.text for f in FEATURES}
GROUPS: dict[str, str] = {f.name: f.group for f in FEATURES}
"""raw, hour, gaps, pair, context, relative: a trainer may leave groups out."""
UNITS: dict[str, str] = {f.name: f.unit for f in FEATURES}
_BY_NAME = {f.name: f for f in FEATURES}


def natural(name: str, value: float) -> float:
    """Turn a raw value back into the feature's own unit: seconds, bytes, a count, a factor.

    Raises KeyError where there is no such feature.
    """
    feature = _BY_NAME[name]
    if feature.unit in ("seconds", "bytes", "packets", "count", "rate"):
        return math.expm1(min(max(value, 0.0), 700.0)) / feature.scale
    if feature.unit in ("times", "spread"):
        return math.exp(min(value, 700.0))
    return value


def describe(name: str, value: float) -> str:
    """Return a raw value in a person's words: `3.2 s`, `1.4 kB`, `60 %`, `yes`.

    Raises KeyError where there is no such feature.
    """
    feature = _BY_NAME[name]
    amount = natural(name, value)
    unit = feature.unit
    if unit == "seconds":
        words = _seconds(amount)
        if value >= feature.high - 1e-3:
            words = "1 h or more" + (", or never before" if feature.scale == GAP_SCALE else "")
    elif unit == "rate" and not name.startswith("byte"):
        words = f"{_number(amount)} a second"
    elif unit in ("bytes", "rate"):
        words = _bytes(amount) + ("/s" if unit == "rate" else "")
    elif unit in ("count", "packets"):
        more = unit == "count" and value >= feature.high - 1e-3
        words = f"{round(amount)}" + (" or more" if more else "")
    elif unit == "flag":
        words = "yes" if value >= 0.5 else "no"
    elif unit == "share":
        words = f"{round(100 * value)} %"
    elif unit == "times":
        words = f"{_number(amount)} times"
    elif unit == "spread":
        words = f"by a factor of {_number(amount)}"
    else:
        words = f"{value:+.2f}"
    return words


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _seconds(value: float) -> str:
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 119.5:
        return f"{_number(value)} s"
    return f"{_number(value / 60)} min"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} B" if unit == "B" else f"{_number(value)} {unit}"
        value /= 1000
    return f"{_number(value)} TB"


_RAW = {
    "bytes": "log1p(bytes)", "packets": "log1p(packets)", "count": "log1p(count)",
    "rate": "log1p(amount a second)", "flag": "0 or 1", "share": "0 to 1",
    "times": "log1p(now) - log1p(maximum)", "spread": "standard deviation of log1p(bytes)",
    "circle": "of the local time of day",
}  # fmt: skip


def markdown() -> str:
    """Return the table of docs/features.md: name, group, meaning, raw value, range."""
    lines = ["| # | feature | group | meaning | raw value | range |", "|--:|---|---|---|---|---|"]
    for index, f in enumerate(FEATURES):
        raw = _RAW.get(f.unit, f"log1p({f.scale:.0f} x seconds)")
        span = f"{f.low:g} to {f.high:.4g}"
        lines.append(f"| {index} | `{f.name}` | {f.group} | {f.text} | {raw} | {span} |")
    return "\n".join(lines)
