"""Features of slices: one function for training and for the gateway.

What a column means, its group and its range: docs/features.md. No addresses, absolute times,
TTLs or link types: a model would learn the network, not the attack.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

import numpy as np

from guardian.addresses import Lan
from guardian.const import CAP_AGE_S, MAX_AMOUNT, MAX_DEVICES, NS
from guardian.context import COLUMNS, Contexts, Visit
from guardian.featurelist import (
    AGE_SCALE,
    GAP_SCALE,
    GROUPS,
    MAX_RELATIVE,
    MAX_SPREAD,
    NAMES,
    TEXTS,
    describe,
    natural,
)
from guardian.maxima import Maxima
from guardian.tables import CONN_STATES, F64, I32, I64, Array, Bool, Conns, FeatureRows

__all__ = ["GROUPS", "NAMES", "TEXTS", "FeatureExtractor", "describe", "natural"]

_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_ECHO = (8, 128)
"""ICMP types that ask for an answer."""

_STATES = {
    "state_done": ("SF",),
    "state_open": ("S1", "S2", "S3"),
    "state_unanswered": ("S0", "SH"),
    "state_refused": ("REJ", "RSTOS0", "RSTRH"),
    "state_reset": ("RSTO", "RSTR"),
}
# Only what Zeek names by default in all its versions: what a log calls unknown must be unknown
# in a capture, too. NTP, MQTT, SSDP and telnet are known by their ports.
_SERVICES = {
    "service_dns": ("dns", "mdns", "llmnr"),
    "service_http": ("http",),
    "service_tls": ("ssl", "tls", "quic"),
    "service_other": ("ssh", "irc", "ftp", "ftp-data", "smtp", "pop3", "imap", "sip", "rdp",
                      "smb", "snmp", "socks", "rfb", "mysql"),
}  # fmt: skip
_PORTS = {
    "port_web": (80, 443, 8000, 8008, 8080, 8081, 8443, 8888),
    "port_dns": (53, 853),
    "port_ntp": (123,),
    "port_mail": (25, 110, 143, 465, 587, 993, 995),
    "port_admin": (20, 21, 22, 23, 135, 139, 445, 992, 1433, 2222, 2323, 3306, 3389, 5555, 5900,
                   5901, 7547, 8291, 26, 37215, 52869, 60023),
    "port_iot": (554, 1883, 8883, 5683, 5684, 6667, 6668, 8009, 8554, 8060, 9999, 56700),
    "port_infra": (67, 68, 137, 138, 546, 547, 1900, 3702, 5350, 5351, 5353, 5355),
}  # fmt: skip


def _port_classes() -> Array:
    """Return uint8[65536]: index into _PORTS + 1, 0 below 1024, the last for high ports."""
    table = np.zeros(65_536, dtype=np.uint8)
    table[1024:] = len(_PORTS) + 1
    for index, ports in enumerate(_PORTS.values(), 1):
        table[list(ports)] = index
    return table


_PORT_CLASS = _port_classes()
_STATE_NAMES = np.array(CONN_STATES)
_COLUMN = {name: index for index, name in enumerate(NAMES)}


class FeatureExtractor:
    """Turns slices into features; keeps a short memory of each device between steps.

    Slices come in the order of `told`, from logs (slices.cut) as from packets; how they are cut
    into steps changes nothing. Memory is bounded by max_devices and MAX_PAIRS.
    """

    def __init__(
        self,
        lan: Lan,
        *,
        utc_offset_s: int = 0,
        zone: tzinfo | None = None,
        max_devices: int = MAX_DEVICES,
    ) -> None:
        """`zone` (with its summer time) or `utc_offset_s` give the home's hour of day."""
        self._lan = lan
        self._offset = utc_offset_s
        self._zone = zone
        self._offsets: dict[int, int] = {}
        self._contexts = Contexts(max_devices)

    @property
    def devices(self) -> int:
        """How many devices are remembered."""
        return len(self._contexts)

    def maxima(self, device: int) -> Maxima | None:
        """Return what a device's relative features are held to; None where it is not known."""
        return self._contexts.maxima(device)

    def put_maxima(self, device: int, maxima: Maxima) -> None:
        """Hold a device's relative features to these: those of before a restart, or none."""
        self._contexts.put_maxima(device, maxima)

    def evict(self, device: int) -> None:
        """Forget a device, when the DeviceTable gives its index to another."""
        self._contexts.evict(device)

    def step(self, slices: Conns, orig_device: I32, resp_device: I32) -> FeatureRows:
        """Return the features of each slice for its devices of the home.

        `orig_device` and `resp_device`, int32[n], are indexes of devices, -1 where an end is no
        judged device of the home: then it has no row. A slice between two devices has two rows,
        the originator's first. FeatureRows.x is float32[rows, len(NAMES)], always finite.
        """
        sides = np.stack([orig_device, resp_device], axis=1)
        row, side = np.nonzero(sides >= 0)
        device = sides[row, side].astype(np.int32)
        outbound = side == 0
        x = np.zeros((len(row), len(NAMES)), dtype=np.float32)
        if len(row):
            self._fill(x, slices.take(row), device, outbound)
        return FeatureRows(x, device, row.astype(np.int64), outbound)

    def _fill(self, x: Array, conns: Conns, device: I32, outbound: Bool) -> None:
        facts = _Facts(conns, outbound, self._lan)
        columns = facts.columns()
        seconds = (conns.ts + np.rint(conns.age * NS).astype(np.int64)) // NS
        angle = 2 * np.pi * ((seconds + self._offset_of(seconds)) % 86_400) / 86_400
        columns["hour_sin"], columns["hour_cos"] = np.sin(angle), np.cos(angle)
        columns |= _finish(self._context(facts, device))
        for name, values in columns.items():
            x[:, _COLUMN[name]] = values

    def _context(self, facts: _Facts, device: I32) -> F64:
        """Return float64[n, len(COLUMNS)], row by row through the devices' memories."""
        conns = facts.conns
        keys = _keys(facts)
        row = self._contexts.row
        visits = map(
            Visit,
            device.tolist(),
            conns.told.tolist(),
            conns.ts.tolist(),
            (conns.piece == 0).tolist(),
            keys[:, :2].copy().view("V16")[:, 0].tolist(),
            keys.view("V24")[:, 0].tolist(),
            keys[:, 2].tolist(),
            facts.failed.astype(np.int64).tolist(),
            facts.local.astype(np.int64).tolist(),
            facts.sizes(),
            np.log1p(facts.ip_out + facts.ip_in).tolist(),
            facts.ip_out.astype(np.int64).tolist(),
            facts.ip_in.astype(np.int64).tolist(),
        )
        return np.array([row(visit) for visit in visits], dtype=np.float64)

    def _offset_of(self, seconds: I64) -> I64:
        """Return int64[n]: seconds by which local time is ahead of UTC."""
        if self._zone is None:
            return np.full(len(seconds), self._offset)
        hours, index = np.unique(seconds // 3_600, return_inverse=True)
        return np.array([self._offset_at(hour) for hour in hours.tolist()])[index]

    def _offset_at(self, hour: int) -> int:
        found = self._offsets.get(hour)
        if found is None:
            moment = datetime.fromtimestamp(hour * 3_600, self._zone)
            offset = moment.utcoffset()
            found = int(offset.total_seconds()) if offset is not None else 0
            if len(self._offsets) > 1_000:  # six weeks of hours
                self._offsets.clear()
            self._offsets[hour] = found
        return found


class _Facts:
    """A row's slice as its device sees it: what it sent and got, and whom it spoke to."""

    def __init__(self, conns: Conns, outbound: Bool, lan: Lan) -> None:
        self.conns = conns
        self.outbound = outbound
        self.peer = np.where(outbound[:, None], conns.resp, conns.orig)
        self.multicast = ~lan.unicast(self.peer)
        local = np.where(outbound, conns.local_resp, conns.local_orig)
        self.local = (local | lan.local(self.peer)) & ~self.multicast
        # IP bytes: counted for every packet, where payload is unset for a single one.
        self.ip_out = _capped(np.where(outbound, conns.orig_ip_bytes, conns.resp_ip_bytes))
        self.ip_in = _capped(np.where(outbound, conns.resp_ip_bytes, conns.orig_ip_bytes))
        self.payload_out = _capped(np.where(outbound, conns.orig_bytes, conns.resp_bytes))
        self.payload_in = _capped(np.where(outbound, conns.resp_bytes, conns.orig_bytes))
        self.packets_out = _capped(np.where(outbound, conns.orig_pkts, conns.resp_pkts))
        self.packets_in = _capped(np.where(outbound, conns.resp_pkts, conns.orig_pkts))
        self.tcp = conns.proto == _TCP
        self.udp = conns.proto == _UDP
        self.icmp = (conns.proto == _ICMP) | (conns.proto == _ICMP6)
        state = np.minimum(conns.conn_state, len(CONN_STATES) - 1)
        self.state = _STATE_NAMES[state]
        self.failed = self._failed()

    def _failed(self) -> Bool:
        """TCP that nobody answered or that was refused; what the device asked one machine by UDP
        or ping in vain."""
        refused = _STATES["state_unanswered"] + _STATES["state_refused"]
        asked = self.outbound & ~self.multicast
        silent = (self.packets_in == 0) & (self.packets_out > 0)
        failed: Bool = self.tcp & np.isin(self.state, refused)
        failed |= self.udp & asked & (self.state == "S0")
        failed |= self.icmp & asked & silent & np.isin(self.conns.orig_p, _ECHO)
        return failed

    def sizes(self) -> list[int]:
        """Return one number for each row, equal where the amounts both ways are.

        TCP by payload, since sending again must not make a size differ; others by IP bytes.
        """
        out = np.where(self.tcp, self.payload_out, self.ip_out).astype(np.int64)
        back = np.where(self.tcp, self.payload_in, self.ip_in).astype(np.int64)
        return [a << 41 | b for a, b in zip(out.tolist(), back.tolist(), strict=True)]

    def columns(self) -> dict[str, Array]:
        """Return the columns that need no memory."""
        conns = self.conns
        duration = np.clip(np.nan_to_num(conns.duration), 0, 3_600)
        age = np.clip(np.nan_to_num(conns.age), 0, CAP_AGE_S)
        # A rate below a second's span would tell the latency of a network.
        span = np.maximum(duration, 1.0)
        history = np.ascontiguousarray(conns.history).view(np.uint8).reshape(len(conns), -1)
        out = {
            "duration": np.log1p(AGE_SCALE * duration),
            "bytes_out": np.log1p(self.ip_out),
            "bytes_in": np.log1p(self.ip_in),
            "packets_out": np.log1p(self.packets_out),
            "packets_in": np.log1p(self.packets_in),
            "packet_size_out": np.log1p(self.ip_out / np.maximum(self.packets_out, 1)),
            "packet_size_in": np.log1p(self.ip_in / np.maximum(self.packets_in, 1)),
            "byte_rate_out": np.log1p(self.ip_out / span),
            "packet_rate": np.log1p(_capped(self.packets_out + self.packets_in) / span),
            "tcp": self.tcp,
            "udp": self.udp,
            "icmp": self.icmp,
            "failed": self.failed,
            "inbound": ~self.outbound,
            "peer_local": self.local,
            "peer_multicast": self.multicast,
            "retransmitted": _has(history, b"Tt"),
            "midstream": self.tcp
            & (history[:, 0] != 0)
            & ~_has(history, b"Ss")
            & ~_has(history, b"Hh"),
            "age": np.log1p(AGE_SCALE * age),
            "update": conns.piece > 0,
        }
        for name, states in _STATES.items():
            out[name] = np.isin(self.state, states)
        kind = np.where(self.tcp | self.udp, _PORT_CLASS[conns.resp_p], 0)
        for index, name in enumerate((*_PORTS, "port_high"), 1):
            out[name] = kind == index
        services, place = np.unique(conns.service, return_inverse=True)
        words = [set(service.decode("ascii", "replace").split(",")) for service in services]
        for name, known in _SERVICES.items():
            out[name] = np.array([not words_.isdisjoint(known) for words_ in words])[place]
        return out


def _capped(amounts: Array) -> F64:
    """Return amounts between 0 (unset is -1) and MAX_AMOUNT."""
    return np.clip(amounts, 0, MAX_AMOUNT).astype(np.float64)


def _has(history: Array, letters: bytes) -> Bool:
    found: Bool = np.zeros(len(history), dtype=np.bool_)
    for letter in letters:
        found |= (history == letter).any(axis=1)
    return found


def _keys(facts: _Facts) -> Array:
    """Return uint64[n, 3]: the peer, then port, protocol and direction in one number."""
    conns = facts.conns
    keys = np.empty((len(conns), 3), dtype=np.uint64)
    keys[:, :2] = facts.peer
    keys[:, 2] = (
        conns.resp_p.astype(np.uint64) << np.uint64(9)
        | conns.proto.astype(np.uint64) << np.uint64(1)
        | facts.outbound.astype(np.uint64)
    )
    return keys


def _finish(context: F64) -> dict[str, Array]:
    """Turn what the contexts returned into the scales of the features."""
    raw = dict(zip(COLUMNS, context.T, strict=True))
    out: dict[str, Array] = {}
    for name in ("gap_device", "gap_pair", "gap_port", "pair_gap_median"):
        out[name] = np.log1p(GAP_SCALE * raw[name])
    for name in ("pair_regular", "pair_equal", "pair_failed", "pair_new"):
        out[name] = raw[name]
    out["pair_spread"] = np.minimum(raw["pair_spread"], MAX_SPREAD)
    for name in (
        "pair_fail_run", "pair_count", "minute_conns", "minute_peers", "minute_ports",
        "minute_new_peers", "minute_local_peers", "long_conns", "long_peers", "long_new_peers",
    ):  # fmt: skip
        out[name] = np.log1p(raw[name])
    for name in ("minute_bytes_out", "minute_bytes_in"):
        out[name] = np.log1p(np.minimum(raw[name], MAX_AMOUNT))
    for span in ("minute", "long"):
        out[f"{span}_failed"] = raw[f"{span}_failures"] / np.maximum(raw[f"{span}_conns"], 1)
    for name, now in (
        ("conns", "minute_conns"), ("peers", "minute_peers"), ("ports", "minute_ports"),
        ("failed", "minute_failures"), ("bytes_out", "minute_bytes_out"),
    ):  # fmt: skip
        usual = raw["most_failures" if name == "failed" else f"most_{name}"]
        ratio = np.clip(np.log1p(raw[now]) - np.log1p(usual), -MAX_RELATIVE, MAX_RELATIVE)
        out[f"relative_{name}"] = np.where(raw["known"] > 0, ratio, 0.0)
    return out
