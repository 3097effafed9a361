"""nDPI's own results beside ours: flows by their ends, with protocol and host, of one capture."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guardian.addresses import Lan, texts
from guardian.capture import read_frames
from guardian.conns import ConnTable
from guardian.decode import Decoder
from guardian.tables import Conns

Key = tuple[str, tuple[str, int], tuple[str, int]]
"""A protocol and two ends, the lower first."""

PROTOS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMPV6"}

SERVICES = {
    "AMQP": "amqp", "BACnet": "bacnet", "BJNP": "bjnp", "COAP": "coap", "DHCP": "dhcp",
    "DNP3": "dnp3_tcp", "DNS": "dns", "DTLS": "dtls", "FTP_CONTROL": "ftp", "HTTP": "http",
    "HTTP2": "http2", "IMAP": "imap", "IRC": "irc", "Kerberos": "krb", "LDAP": "ldap_tcp",
    "LLMNR": "dns", "MDNS": "dns", "MQTT": "mqtt", "Modbus": "modbus", "MySQL": "mysql",
    "NTP": "ntp", "NetBIOS": "dns,smb", "POP3": "pop3", "PostgreSQL": "postgresql",
    "QUIC": "quic,gquic", "RDP": "rdp", "RTMP": "rtmp", "RTSP": "rtsp", "Radius": "radius",
    "SIP": "sip", "SMBv1": "smb", "SMBv23": "smb", "SMTP": "smtp", "SNMP": "snmp", "SOCKS": "socks",
    "SSDP": "ssdp", "SSH": "ssh", "STUN": "stun", "Syslog": "syslog", "TFTP": "tftp",
    "TLS": "ssl", "TPLINK_SHP": "kasa", "Tailscale": "tailscale", "Telnet": "telnet",
    "Teredo": "teredo", "TiVoConnect": "tivo", "TuyaLP": "tuya", "UBNTAC2": "ubnt",
    "VNC": "rfb", "WireGuard": "wireguard",
}  # fmt: skip
"""nDPI's master protocols and our service names (any of those given), which are Zeek's where it has
one. What is not here (ICMP, HSRP, Monero, Spotify and so on) has no service name of ours."""

_END = r"(\[[^\]]+\]|[^\s:\[]+):(\d+)"
_FLOW = re.compile(rf"^\t\d+\t(\S+) {_END} (?:<->|->) {_END} (.*)$")
_NAME = re.compile(r"\[proto: (?:[A-Z]+:)?[\d.]+/([^\]]+)\]")
_HOST = re.compile(r"\[Hostname/SNI: ([^\]]+)\]")


@dataclass(frozen=True)
class Flow:
    """One flow of nDPI."""

    key: Key
    name: str
    """The master protocol, as `TLS` of `TLS.Amazon`."""
    by_bytes: bool
    """nDPI saw it in the payload; else it guessed by port or address, or knows nothing."""
    host: str


def _key(proto: str, a: str, a_port: int, b: str, b_port: int) -> Key:
    """nDPI has no ports for ICMP, and writes IPv6 with every `:0:` as `::`."""
    if proto.startswith("ICMP"):
        a_port = b_port = 0
    low, high = sorted(((a.replace(":0:", "::"), a_port), (b.replace(":0:", "::"), b_port)))
    return proto, low, high


def theirs(path: Path) -> list[Flow]:
    """Return the flows of nDPI's output."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        match = _FLOW.match(line)
        if match is None:
            continue
        proto, a, a_port, b, b_port, rest = match.groups()
        name = _NAME.search(rest)
        assert name is not None, line
        host = _HOST.search(rest)
        found.append(
            Flow(
                _key(proto, a.strip("[]"), int(a_port), b.strip("[]"), int(b_port)),
                name.group(1).split(".")[0],
                "[Confidence: DPI]" in rest,
                host.group(1).lower() if host else "",
            )
        )
    return found


def records(path: Path) -> Conns:
    """Return our records of a capture; nDPI does not look at checksums either."""
    table, decoder = ConnTable(Lan()), Decoder(ignore_checksums=True)
    told = [table.step(decoder.decode(frames)).records for frames in read_frames(path)]
    return Conns.concat([*told, table.finish().records])


def ours(found: Conns) -> Iterator[tuple[Key, str, str, bool]]:
    """Yield for each record the ends, service, host, and whether a tunnel is around or within."""
    tunnels = set(b",".join(found.tunnel_parents.tolist()).split(b",")) - {b""}
    for proto, a, a_port, b, b_port, service, host, parents, uid in zip(
        found.proto.tolist(), texts(found.orig), found.orig_p.tolist(), texts(found.resp),
        found.resp_p.tolist(), found.service.tolist(), found.host.tolist(),
        found.tunnel_parents.tolist(), found.uid.tolist(), strict=True,
    ):  # fmt: skip
        key = _key(PROTOS.get(proto, str(proto)), a, a_port, b, b_port)
        yield key, service.decode(), host.decode(), bool(parents) or uid in tunnels


def by_key(found: Conns) -> tuple[dict[Key, set[str]], dict[Key, set[str]], set[Key]]:
    """Return services and hosts by the ends, and the ends that have to do with tunnels."""
    services: dict[Key, set[str]] = defaultdict(set)
    hosts: dict[Key, set[str]] = defaultdict(set)
    tunneled = set()
    for key, service, host, tunnel in ours(found):
        services[key].update(service.split(","))
        hosts[key].add(host)
        if tunnel:
            tunneled.add(key)
    return services, hosts, tunneled
